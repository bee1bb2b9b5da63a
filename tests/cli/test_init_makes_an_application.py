"""`timestep init` makes an application whose tests pass and whose host serves."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.support import forked_processes
from tests.support.documented_examples import examples
from tests.support.host_process import ROOT, Host
from timestep.cli import main
from timestep.cli.commands.init import requirement


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_it_makes_is_served(here: Path, database_url: str) -> None:
    result = run("support")
    assert result.exit_code == 0, result.output
    assert "cd support && dbos start" in result.stdout
    folder = here / "support"
    assert (folder / "dbos-config.yaml").read_text().startswith("name: support\n")
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["name"] == "support"
    assert project["project"]["dependencies"][0].startswith("timestep @ file:///")
    assert project["tool"]["setuptools"]["packages"] == []
    assert (folder / ".gitignore").exists()
    host = Host(folder, database_url)
    try:
        host.start()
        id_ = host.begin("answer", question="What is a run?")
        assert host.output(id_) == "[offline model] It is one call of Runner.run."
        assert host.rows("SELECT application_name FROM dbos.workflow_status") == [
            {"application_name": "support"}
        ]
    finally:
        host.close()


@pytest.mark.long
def test_the_tests_that_it_makes_pass_and_use_nothing_of_others(here: Path) -> None:
    assert run("support").exit_code == 0
    folder = here / "support"
    (documented,) = examples("docs/testing.md", "python")
    (folder / "tests" / "test_documented.py").write_text(documented)
    settings = {name: value for name, value in os.environ.items() if name != "TIMESTEP_HOME"}
    settings |= {"PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "x", "TIMESTEP_DB_URL": "nothing"}
    tested = forked_processes.run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder, env=settings
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert tested.stdout.splitlines()[-1].startswith("2 passed")
    assert not (folder / ".timestep").exists()


def test_it_overwrites_nothing(here: Path) -> None:
    (here / "support").mkdir()
    result = run("support")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{here / 'support'} is there already" in result.stderr
    assert list((here / "support").iterdir()) == []


def test_half_of_an_application_is_not_left(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *given: object, **options: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    result = run("support")
    assert result.exit_code == 1
    assert "cannot be written: No space left on device" in result.stderr
    assert list(here.iterdir()) == []


def test_programs_are_told_what_was_made(here: Path) -> None:
    told = json.loads(run("shop", "--json").stdout)
    assert told["folder"] == str(here / "shop")
    made = {str(path.relative_to(here / "shop")) for path in (here / "shop").rglob("*.*")}
    assert set(told["files"]) == made


@pytest.mark.parametrize("name", ["../up", "a", "Shop", "two words", "-x", "x/y", ".", "a" * 65])
def test_a_name_that_neither_dbos_nor_pip_takes_is_refused(here: Path, name: str) -> None:
    result = run("--", name)
    assert result.exit_code == 2
    assert "is no name of an application" in result.stderr
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("origin", "named"),
    [
        (None, "timestep ~= 0.1.0"),
        ({"url": "file:///home/a%20b/timestep", "dir_info": {"editable": True}},
         "timestep @ file:///home/a%20b/timestep"),
        ({"url": "https://example.com/timestep.git", "subdirectory": "python",
          "vcs_info": {"vcs": "git", "requested_revision": "main", "commit_id": "0a1b2c"}},
         "timestep @ git+https://example.com/timestep.git@0a1b2c#subdirectory=python"),
        ({"url": "https://example.com/timestep-0.1.0-py3-none-any.whl", "archive_info": {}},
         "timestep @ https://example.com/timestep-0.1.0-py3-none-any.whl"),
    ],
)  # fmt: skip
def test_it_needs_the_timestep_that_made_it(origin: object, named: str) -> None:
    assert requirement("0.1.0", None if origin is None else json.dumps(origin)) == named
