"""The programs of `docs/operations.md` make a queue, and delete what ended long ago."""

from __future__ import annotations

import asyncio
from typing import Any

from agents import Agent
from agents.testing import assistant_message
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.conversational_model import AnsweringModel
from tests.support.dbos_app import App
from tests.support.documented_examples import examples
from timestep.dbos_internals import presence

QUEUE, DELETE = examples("docs/operations.md", "python")


def test_what_ended_is_deleted_with_what_it_started_and_nothing_else(app: App) -> None:
    agent: Agent[Any] = Agent(name="A", model=AnsweringModel(lambda _: [assistant_message("x")]))

    @DBOS.workflow()
    async def inner() -> None:
        await timestep.run_agent(agent, "inner")

    async def outer() -> None:
        with SetWorkflowID("child"):
            await inner()
        await timestep.run_agent(agent, "outer")

    async def other() -> None:
        await timestep.run_agent(agent, "other")

    app.run(outer, "parent")
    app.run(other, "waits")
    app.execute("UPDATE dbos.workflow_status SET completed_at = NULL, status = 'DELAYED' "
                "WHERE workflow_uuid = 'waits'")  # fmt: skip
    exec(DELETE, {})
    assert len(app.rows("runs")) == 3
    exec(DELETE.replace("days=90", "days=0"), {})
    assert [row["workflow_id"] for row in app.rows("runs")] == ["waits"]
    left = app.execute("SELECT workflow_uuid FROM dbos.workflow_status").fetchall()
    assert left == [("waits",)]
    app.execute("DELETE FROM dbos.workflow_status")


def test_a_queue_is_made(app: App) -> None:
    agent: Agent[Any] = Agent(name="A", model=AnsweringModel(lambda _: [assistant_message("x")]))

    @DBOS.workflow()
    async def report() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    exec(QUEUE.replace('"support"', repr(presence.application_name())), {})
    id_ = asyncio.run(timestep.start_run(report, {}, queue="reports"))
    assert DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02) == "x"
    app.execute("DELETE FROM dbos.queues WHERE name = 'reports'")
