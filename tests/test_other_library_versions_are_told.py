"""What is said where the Agents SDK or DBOS is there in another version than was tested."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support import forked_processes
from timestep import versions
from timestep.operations.diagnosis import doctor

ROOT = Path(__file__).parents[1]


def test_the_bounds_are_the_tested_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name, tested in versions.TESTED.items():
        major, minor = tested.split(".")
        assert f"{name}>={tested},<{major}.{int(minor) + 1}" in project["dependencies"]


@pytest.mark.parametrize("there", ["0.24", "0.24.0", "0.24.7"])
def test_a_patch_of_a_tested_version_is_one(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "version", {"dbos": "3.4.9", "openai-agents": there}.get)
    assert versions.others() == {}


@pytest.mark.parametrize("there", ["0.25.0", "0.2.4", "0.23.1", "1.24.0", "0.240.0"])
def test_another_version_is_told_with_what_to_do(
    there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "version", {"dbos": "3.4.0", "openai-agents": there}.get)

    line = versions.others()["openai-agents"]

    assert line.startswith(f"openai-agents {there} is not a version that Timestep was tested with")
    assert line.endswith("run `pip install 'openai-agents==0.24.*'`")


def test_doctor_doubts_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "version", {"dbos": "3.5.0", "openai-agents": "0.24.0"}.get)

    packages = next(found for found in doctor.examine() if found.check == "packages")

    assert packages.mark == "doubt"
    assert "run `pip install 'dbos==3.4.*'`" in packages.text


def other_library(folder: Path, name: str, there: str) -> None:
    """Let a library say that it is another version, where the folder is looked into first."""
    metadata = folder / f"{name.replace('-', '_')}-{there}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {there}\n")


# What is forked has everything imported.
FRESH = """
import runpy, sys, warnings
warnings.simplefilter("error")
for name in [name for name in sys.modules if name.partition(".")[0] == "timestep"]:
    del sys.modules[name]
"""

SERVE = """
sys.argv[1:] = ["serve"]
sys.orig_argv[1:] = ["-m", "timestep", "serve"]
runpy.run_module("timestep", run_name="__main__")
"""


def with_library(
    folder: Path, name: str, there: str, code: str, command: str, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run `code` and `command` where a library says it is another version."""
    other_library(folder, name, there)
    environment = {**os.environ, "PYTHONPATH": str(folder), **settings}
    text = "\n".join([FRESH, code, command])
    return forked_processes.run("-c", text, cwd=folder, env=environment)


def test_a_version_that_lacks_a_name_is_refused_in_one_line(tmp_path: Path) -> None:
    done = with_library(tmp_path, "dbos", "3.3.0", LACKS_A_NAME, SERVE)
    check_refusal(done, tmp_path)


def test_the_command_refuses_a_version_that_lacks_a_module(tmp_path: Path) -> None:
    other_library(tmp_path, "dbos", "3.3.0")
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['dbos._core'] = None")
    script = str(Path(sys.executable).with_name("timestep"))
    done = subprocess.run(
        [sys.executable, "-W", "error", script, "doctor"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    check_refusal(done, tmp_path)


LACKS_A_NAME = "from dbos import _dbos; del _dbos.StepReservation"


def check_refusal(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: Timestep cannot work with dbos 3.3.0 (")
    assert done.stderr.endswith("): run `pip install 'dbos==3.4.*'`\n")
    assert done.stderr.count("\n") == 1
    assert str(folder) not in done.stderr
    assert "site-packages" not in done.stderr


def test_a_host_refuses_a_version_that_lacks_a_call_site(tmp_path: Path) -> None:
    code = "from agents import run_state; del run_state._has_ambiguous_hook_identities"
    done = with_library(tmp_path, "openai-agents", "0.23.1", code, SERVE, TIMESTEP_PORT="bad")

    assert done.returncode == 1
    assert done.stderr == (
        "Error: Timestep cannot work with openai-agents 0.23.1 (it has no "
        "agents.run_state._has_ambiguous_hook_identities): run "
        "`pip install 'openai-agents==0.24.*'`\n"
    )


def test_a_host_warns_of_a_newer_version_that_has_every_name(tmp_path: Path) -> None:
    done = with_library(tmp_path, "dbos", "3.5.0", "", SERVE, TIMESTEP_PORT="bad")

    warning, error = done.stderr.splitlines()
    assert warning.startswith("Warning: dbos 3.5.0 is not a version that Timestep was tested with")
    assert error.startswith("Error: TIMESTEP_PORT='bad'")


def test_other_programs_are_told_by_an_import_error(tmp_path: Path) -> None:
    done = with_library(tmp_path, "dbos", "3.3.0", LACKS_A_NAME, "from timestep import install")

    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: Timestep cannot work with dbos 3.3.0 (")


def test_an_import_that_fails_in_tested_versions_is_told_as_it_is() -> None:
    with pytest.raises(ImportError, match=r"^No module named 'nowhere'$"), versions.explained():
        __import__("nowhere")


def test_every_private_name_is_imported_at_once() -> None:
    """What a version lacks is seen when anything of the package is, and not in the first run."""
    package = ROOT / "timestep"
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for folder in ("sdk", "dbos_internals")
        for path in (package / folder).rglob("*.py")
    }
    missing = f"set({sorted(modules)}) - sys.modules.keys()"
    code = f"import timestep; timestep.JSONSerializer; print(*({missing}))"
    done = forked_processes.run("-c", FRESH + code)
    assert done.stdout == "\n", done.stderr
