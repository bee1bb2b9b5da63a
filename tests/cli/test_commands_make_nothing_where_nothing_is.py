"""In a folder without a database, commands say so, and neither make nor start one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import timestep
from tests.support.workflows_package import own_workflows
from timestep.cli import main
from timestep.errors import NoDatabaseError

_ENTRYPOINT = """
from dbos import DBOS

@DBOS.workflow()
async def nothing() -> None:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TIMESTEP_HOME")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.mark.parametrize("use_pglite", [False, True])
def test_commands_make_no_database(
    folder: Path, monkeypatch: pytest.MonkeyPatch, use_pglite: bool
) -> None:
    if use_pglite:
        monkeypatch.setenv("TIMESTEP_USE_PGLITE", "true")
    (folder / "workflows").mkdir()
    (folder / "workflows" / "__init__.py").write_text(_ENTRYPOINT)
    before = sorted(folder.rglob("*"))
    place = folder / ("pglite_data" if use_pglite else ".timestep")
    with own_workflows():
        for command in (
            ("runs",),
            ("runs", "--json"),
            ("show", "x"),
            ("approvals",),
            ("resume", "x", "--approve", "all"),
            ("cancel", "x"),
            ("fork", "x", "--turn", "1"),
            ("start", "nothing"),
            ("start", "nothing", "--wait"),
            ("migrate", "--dry-run"),
        ):
            result = run(*command)
            assert (result.exit_code, result.stdout) == (1, ""), (command, result.output)
            assert f"there is no database here: none was made in {place}:" in result.stderr
        with pytest.raises(NoDatabaseError, match="`timestep serve`"):
            asyncio.run(timestep.list_runs())
        found = run("doctor")
    assert found.exit_code == 1
    assert found.stdout.count("there is no database here") == 1
    made = [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts]
    assert made == before


def test_there_is_nothing_to_stop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("stop").stdout == f"no PostgreSQL of {folder / '.timestep'} runs\n"
    assert list(folder.iterdir()) == []
    monkeypatch.setenv("TIMESTEP_DB_URL", "postgresql://u:secret@h/db")
    result = run("stop")
    assert result.exit_code == 1
    assert "TIMESTEP_DB_URL names a server that is not Timestep" in result.stderr
    assert "secret" not in result.output
    monkeypatch.delenv("TIMESTEP_DB_URL")
    monkeypatch.setenv("TIMESTEP_USE_PGLITE", "true")
    assert "it ends with the process that holds it" in run("stop").stderr


@pytest.mark.parametrize(
    ("variable", "value", "check", "skipped"),
    [
        ("TIMESTEP_PORT", "many", "settings", 7),
        ("TIMESTEP_DB_URL", "postgresql://me:secret@127.0.0.1:1/x", "database", 3),
    ],
)
def test_doctor_says_a_cause_once(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    check: str,
    skipped: int,
) -> None:
    (folder / "workflows").mkdir()
    (folder / "workflows" / "__init__.py").touch()
    monkeypatch.setenv(variable, value)
    with own_workflows():
        result = run("doctor")
    assert result.stderr == "Error: 1 problem found\n"
    problems = [line for line in result.stdout.splitlines() if line.startswith("problem")]
    assert [line.split()[1] for line in problems] == [check]
    assert result.stdout.count("not looked at: see ") == skipped
    assert "secret" not in result.output
