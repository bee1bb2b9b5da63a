"""What a command shows of a run is one id, which every other command takes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from agents import Agent
from agents.testing import ScriptedModel, assistant_message
from click.testing import CliRunner

import timestep
from tests.support.dbos_app import App
from tests.support.interrupting_agents import nested
from timestep.cli import asking, main
from timestep.errors import UnknownRunError


def run(*arguments: str, answers: str = "") -> str:
    result = CliRunner().invoke(main, arguments, input=answers)
    assert result.exit_code == 0, result.output
    return result.stdout


def shown(*filters: str) -> list[str]:
    """The ids in the table of runs."""
    lines = [line for line in run("runs", *filters).splitlines() if line.strip(" ─")]
    return [line.strip(" ↳").split()[0] for line in lines[1:]]


def ids(app: App) -> dict[tuple[str, str], str]:
    found = app.execute(
        "SELECT a.name, r.status, r.id FROM runs r JOIN agents a ON a.id = r.agent_id"
    )
    return {(name, status): str(id_) for name, status, id_ in found}


@pytest.fixture
def waiting(app: App, monkeypatch: pytest.MonkeyPatch) -> App:
    """A workflow, `tidy`: a run that failed, one that completed, and one that waits, in which
    another one does."""
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)

    async def body() -> Any:
        failing = Agent("Fails", model=ScriptedModel([ValueError("no tea")]))
        with pytest.raises(ValueError, match="no tea"):
            await timestep.run_agent(failing, "go")
        answering = Agent("Answers", model=ScriptedModel([[assistant_message("yes")]]))
        await timestep.run_agent(answering, "go")
        return len(
            (await timestep.run_agent(nested(1), "tidy up", on_interruption="return")).interruptions
        )

    app.run(body, "tidy")
    app.execute("UPDATE dbos.workflow_status SET status = 'PENDING', completed_at = NULL")
    return app


def test_each_row_has_the_one_id_that_names_it(waiting: App) -> None:
    known = ids(waiting)
    failed, completed = known["Fails", "failed"], known["Answers", "completed"]
    outer, inner = known["Asks0", "interrupted"], known["Deleter", "interrupted"]
    assert sorted(shown()) == sorted(["tidy", inner, completed, failed])
    # Whatever else is listed: the workflow's id is that of its newest run.
    assert shown("--status", "failed") == [failed]
    assert shown("--agent", "Answers") == [completed]
    assert set(shown("--status", "interrupted")) == {"tidy", inner}
    for one in (*shown(), outer):
        (told,) = [json.loads(run("show", one, "--json"))["run"]]
        assert one in (told["id"], told["workflow_id"])
        assert run("show", one).startswith(f"Run {one}  ")
    assert json.loads(run("show", "tidy", "--json"))["run"]["id"] == outer


def test_a_run_that_goes_on_names_its_workflow(
    waiting: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ids(waiting)
    outer, inner = known["Asks0", "interrupted"], known["Deleter", "interrupted"]
    result = json.loads(run("resume", outer, "--approve", "c1", "--json"))
    assert (result["workflow_id"], len(result["resolved"])) == ("tidy", 1)
    monkeypatch.setattr(asking, "is_somebody_there", lambda: True)
    for name in (outer, inner, "tidy"):
        # Of any of them what the workflow asks.
        assert "Deleter wants to call delete" in run("resume", name, answers="q\n")
    # What is done to a whole workflow is not done by the id of what is only a part of it.
    for name, how in ((inner, "is inside another one"), (known["Fails", "failed"], "has ended")):
        for acting in (
            timestep.cancel_run(name),
            timestep.resume_workflow(name, approve="all"),
        ):
            with pytest.raises(UnknownRunError, match=f"a run that {how}: of the workflow 'tidy'"):
                asyncio.run(acting)
    assert run("cancel", outer) == "cancelled tidy\n"
    assert asyncio.run(timestep.cancel_run("tidy")) == "tidy"
    statuses = waiting.execute("SELECT status FROM dbos.workflow_status").fetchall()
    assert statuses == [("CANCELLED",)]
    (entry,) = [json.loads(line) for line in run("audit", "--act", "cancel", "--json").splitlines()]
    assert entry["subjects"] == ["tidy"]


def test_who_is_nobodys_id_is_told(waiting: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "is_somebody_there", lambda: True)
    nobody = "0d7b4b53-0000-4000-8000-000000000000"
    for arguments in (
        ("resume", nobody),
        ("cancel", nobody),
        ("resume", nobody, "--approve", "all"),
    ):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1
        assert nobody in result.stderr
