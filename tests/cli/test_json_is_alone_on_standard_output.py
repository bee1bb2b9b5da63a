"""With `--json` a command writes one document to standard output, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from tests.support.workflows_package import own_workflows
from timestep.cli import main
from timestep.database import migrations

WITHOUT = {"completion", "serve"}
"""What writes lines for a shell, and what stays."""

NOISY = """
from dbos import DBOS

print("imported")

@DBOS.workflow()
async def quiet() -> None:
    pass
"""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def parsed(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def test_every_command_can_write_json() -> None:
    context = click.Context(main)
    for name in set(main.commands) - WITHOUT:
        _, command, _ = main.resolve_command(context, [name])
        assert command is not None
        whole = command.commands.values() if isinstance(command, click.Group) else [command]
        for one in whole:
            assert "as_json" in [parameter.name for parameter in one.params], (name, one.name)


def test_of_a_database_and_its_application(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", empty_database_url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "__init__.py").write_text(NOISY)
    names = [migration.name for migration in migrations.available()]
    assert parsed("migrate", "--dry-run") == {"applied": [], "pending": names}
    assert parsed("migrate") == {"applied": names, "pending": []}
    assert parsed("migrate") == {"applied": [], "pending": []}
    with own_workflows():
        found = {one["check"]: one["mark"] for one in parsed("doctor")["items"]}
    assert found["schema"] == found["entrypoints"] == "ok"
    with own_workflows():
        assert parsed("start", "quiet", "--id", "q") == {"workflow_id": "q"}
    assert parsed("cancel", "q") == {"workflow_id": "q"}
    assert parsed("show", "q")["run"]["status"] == "cancelled"


def test_of_a_server_that_does_not_run(tmp_path: Path) -> None:
    assert parsed("stop") == {"home": str(tmp_path / "home"), "stopped": False}
