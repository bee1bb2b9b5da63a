"""What readers are told of a run is numbered while its workflow is locked, so in one order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import psycopg
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from tests.support.dbos_app import BODIES, App
from timestep.journal.recorder import recorder
from timestep.store import interruptions, run_journal

_DRAWN = "SELECT last_value FROM timestep.event_sequence"
_WAITS = (
    "SELECT 1 FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
    "WHERE NOT granted AND datname = current_database()"
)


def asking(app: App, workflow_id: str) -> str:
    """The id of the question that a workflow waits with."""

    @function_tool(needs_approval=True)
    async def delete() -> str:
        return "deleted"

    asks = [function_call("delete", {}, call_id="c")]
    model = ScriptedModel([asks, [assistant_message("bye")]])

    async def body() -> str:
        return str(await timestep.run_agent(Agent("A", model=model, tools=[delete]), "hi"))

    BODIES[workflow_id] = body
    app.started(workflow_id)
    app.until(lambda: app.rows("interruptions"))
    return str(app.rows("interruptions")[0]["id"])


def waits_for_the_lock(app: App, change: Callable[[], Any]) -> None:
    """See that a change waits for the workflow's lock before it draws a number."""
    with psycopg.connect(app.url) as holder, psycopg.connect(app.url, autocommit=True) as other:
        holder.execute("SELECT FROM dbos.workflow_status FOR UPDATE")
        before = other.execute(_DRAWN).fetchone()
        assert before is not None
        changing = threading.Thread(target=change)
        changing.start()
        app.until(lambda: other.execute(_WAITS).fetchone())
        assert other.execute(_DRAWN).fetchone() == before
        holder.commit()
        changing.join(60)
        assert not changing.is_alive()
        after = other.execute(_DRAWN).fetchone()
        assert after is not None
        assert after > before


def decided(connection: Any, question: str, action: str) -> list[dict[str, Any]]:
    """What of a decision is new."""
    values = {"message": None, "output": None, "has_output": False, "always": False, "by": "me"}
    values |= {"seen": None, "until": None}
    decision = {**values, "id": question, "action": action}
    return interruptions.resolve(connection, "dbos", [decision])


def test_a_decision(app: App) -> None:
    question = asking(app, "w")
    written = []

    def decide() -> None:
        with recorder().transactions.begin() as connection:
            written.extend(decided(connection, question, "approve"))

    waits_for_the_lock(app, decide)
    assert [(one["id"], one["action"]) for one in written] == [(question, "approve")]


def test_a_decision_that_comes_too_late_changes_nothing(app: App) -> None:
    """Not even of the call, which was begun since, and is asked about anew."""
    question = asking(app, "w")
    with recorder().engine.connect() as connection, connection.begin() as undone:
        assert decided(connection, question, "approve")
        connection.exec_driver_sql("UPDATE tool_calls SET status = 'in_doubt'")
        assert decided(connection, question, "reject") == []
        query = "SELECT c.status, i.resolution_action FROM tool_calls c, interruptions i"
        assert connection.exec_driver_sql(query).one() == ("in_doubt", "approve")
        undone.rollback()


def test_a_cancellation(app: App) -> None:
    asking(app, "w")
    DBOS.cancel_workflow(workflow_id(app))
    app.execute("UPDATE runs SET status = 'running', completed_at = NULL, cancel_reason = NULL")
    waits_for_the_lock(app, lambda: asyncio.run(recorder().cancelled(workflow_id(app), None)))
    app.execute("UPDATE runs SET status = 'running', completed_at = NULL, cancel_reason = NULL")
    # Who looks after all of them does not wait for one.
    with psycopg.connect(app.url) as holder:
        holder.execute("SELECT FROM dbos.workflow_status FOR UPDATE")
        recorder().end_cancelled()
        assert app.rows("runs")[0]["status"] == "running"
    recorder().end_cancelled()
    assert app.rows("runs")[0]["status"] == "cancelled"


def test_a_run_that_goes_on(app: App) -> None:
    asking(app, "w")
    (run,) = app.rows("runs")
    app.execute("UPDATE dbos.workflow_status SET status = 'PENDING', owner_xid = 'mine'")
    given = {"ids": [run["id"]], "workflow_id": run["workflow_id"], "token": "mine"}
    found = []

    def go_on() -> None:
        with recorder().engine.connect() as connection:
            found.append(run_journal.go_on(connection, "dbos", given))

    waits_for_the_lock(app, go_on)
    assert found == [("PENDING", "mine")]
    assert app.rows("runs")[0]["status"] == "running"
    # Whoever does not own the workflow changes nothing.
    app.execute("UPDATE runs SET status = 'interrupted'")
    with recorder().engine.connect() as connection:
        given["token"] = "another"
        assert run_journal.go_on(connection, "dbos", given) == ("PENDING", "mine")
    assert app.rows("runs")[0]["status"] == "interrupted"


def workflow_id(app: App) -> str:
    return str(app.rows("runs")[0]["workflow_id"])
