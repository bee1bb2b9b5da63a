"""A call's row tells when its effect began and ended, by the database's clock."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import psycopg
import pytest
from agents import Agent, function_tool
from agents.testing import assistant_message, function_call
from dbos import DBOS

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import App
from timestep.database.async_pool import Sender

PAUSE = 0.05

is_quick_made = asyncio.Event()


@function_tool
async def slow() -> str:
    await is_quick_made.wait()
    await asyncio.sleep(PAUSE)
    return "slow"


@function_tool
async def quick() -> str:
    is_quick_made.set()
    return "quick"


@timestep.tool_options(safe_to_repeat=False)
@function_tool
async def once() -> str:
    await asyncio.sleep(PAUSE)
    return "once"


@function_tool(failure_error_function=None)
async def fails() -> str:
    await asyncio.sleep(PAUSE)
    raise ValueError("no")


def caller(*tools: Any) -> Agent[Any]:
    asked = [function_call(tool.name, {}, call_id=tool.name) for tool in tools]

    def answer(items: list[Any]) -> list[Any]:
        return [assistant_message("done")] if outputs(items) else asked

    return Agent(name="A", model=AnsweringModel(answer), tools=list(tools))


def run(app: App, agent: Agent[Any], workflow_id: str = "w") -> None:
    async def body() -> str:
        try:
            return str((await timestep.run_agent(agent, "go")).final_output)
        except Exception as error:  # noqa: BLE001  # its row tells
            return str(error)

    app.run(body, workflow_id=workflow_id)


def calls(app: App) -> dict[str, dict[str, Any]]:
    return {row["call_id"]: row for row in app.rows("tool_calls", "created_at")}


def lasted(row: dict[str, Any]) -> float:
    """Seconds from a call's beginning to its end."""
    return float((row["completed_at"] - row["started_at"]).total_seconds())


def test_a_call_lasts_from_its_beginning_to_its_end(app: App) -> None:
    is_quick_made.clear()
    began = datetime.datetime.now(datetime.UTC)
    run(app, caller(slow, quick, once))
    run(app, caller(fails), "failing")
    ended = datetime.datetime.now(datetime.UTC)
    found = calls(app)
    assert {name: row["status"] for name, row in found.items()} == {
        "slow": "executed",
        "quick": "executed",
        "once": "executed",
        "fails": "failed",
    }
    for name, row in found.items():
        assert began < row["created_at"] <= row["started_at"] <= row["completed_at"] < ended
        if name != "quick":
            assert lasted(row) >= PAUSE
            assert 1000 * PAUSE <= row["duration_ms"] < 1000 * (ended - began).total_seconds()
    # Side by side: each has its own moments, whichever is written first.
    assert found["quick"]["completed_at"] < found["slow"]["completed_at"]
    app.replay("w")
    assert calls(app) == found


def test_a_database_that_is_away_moves_no_moment(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    away: list[datetime.datetime] = []
    took: list[datetime.timedelta] = []
    sent = Sender.execute

    async def execute(sender: Any, sql: str, values: Any) -> Any:
        if "tool_calls_written" not in sql or "model_responses" in sql:
            return await sent(sender, sql, values)
        begins = datetime.datetime.now(datetime.UTC)
        if len(away) < 2:
            away.append(begins)
            raise psycopg.OperationalError("the connection is lost")
        answer = await sent(sender, sql, values)
        took.append(datetime.datetime.now(datetime.UTC) - begins)
        return answer

    monkeypatch.setattr(Sender, "execute", execute)
    run(app, caller(quick))
    (row,) = calls(app).values()
    (answer,) = [one for one in app.rows("model_responses") if one["turn"] == 2]
    assert len(away) == 2
    # It was written only after a pause, and ended before it. How long the statement is on its way
    # is all that the database cannot know.
    assert row["completed_at"] - took[0] <= away[0] < answer["created_at"]


def test_what_was_not_made_has_not_begun_and_a_fork_has_the_times_of_before(app: App) -> None:
    stopped: list[Any] = []

    @function_tool(needs_approval=True)
    async def asks() -> str:
        raise AssertionError("its result is supplied")

    async def body() -> str:
        result = await timestep.run_agent(caller(asks), "go", on_interruption="return")
        if not stopped:
            stopped.append(await timestep.resume_workflow("w", supply={"asks": "given"}))
        return str((await timestep.run_agent(caller(asks), result.to_state())).final_output)

    app.run(body, workflow_id="w")
    (row,) = calls(app).values()
    assert (row["status"], row["started_at"]) == ("executed", None)
    assert row["completed_at"] >= row["created_at"]

    run(app, caller(once), "v")
    before = calls(app)["once"]
    handle: Any = DBOS.fork_workflow("v", 4)
    assert handle.get_result(polling_interval_sec=0.02) == "done"
    first, copied = [
        row for row in app.rows("tool_calls", "created_at") if row["call_id"] == "once"
    ]
    assert first == before
    assert copied["id"] != before["id"]
    for name in ("started_at", "completed_at", "duration_ms"):
        assert copied[name] == before[name]
