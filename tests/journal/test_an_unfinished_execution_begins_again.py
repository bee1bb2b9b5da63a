"""An execution that ends here without a recorded outcome is begun again, and repeats nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import psycopg
import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from tests.support.dbos_app import BODIES, App, run_it
from timestep.runtime import draining

pytestmark = pytest.mark.own_database


class Acting:
    """A workflow whose tool acts; its third execution begins once the test lets it."""

    def __init__(self) -> None:
        self.acted = 0
        self.begun = 0
        self.may_go_on = Event()

        @function_tool
        async def act() -> str:
            self.acted += 1
            return "acted"

        call = function_call("act", {}, call_id="c1")
        self.model = ScriptedModel([[call], [assistant_message("done")]])
        self.agent: Agent[Any] = Agent("A", model=self.model, tools=[act])

    async def body(self) -> str:
        self.begun += 1
        if self.begun == 3:
            # Not in the middle of what the database takes again.
            await asyncio.to_thread(self.may_go_on.wait, 20)
        return str((await timestep.DurableRunner.run(self.agent, "hi")).final_output)


REFUSED = {
    "tool_calls": "NEW.status = 'executed'",
    "runs": "NEW.status = 'failed'",
    "dbos.workflow_status": "NEW.status IN ('SUCCESS', 'ERROR')",
}


@contextlib.contextmanager
def refusing(url: str, *tables: str) -> Iterator[None]:
    """Let a database refuse a tool's outcome, a run's failure and a workflow's end for good.

    Args:
        url: The database.
        tables: Those that take it again afterwards.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'not this' USING ERRCODE = 'insufficient_privilege'; END $$"
        )
        for table, condition in REFUSED.items():
            connection.execute(
                f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW "
                f"WHEN ({condition}) EXECUTE FUNCTION refuse()".encode()
            )
        yield
        for table in tables:
            connection.execute(f"DROP TRIGGER refuse ON {table}".encode())


def test_what_could_not_be_recorded_is_recorded_by_the_next_execution(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    timestep.install()
    acting = Acting()
    BODIES["key"] = acting.body
    with refusing(app.url, *REFUSED):
        id_ = app.started("key")
        app.until(lambda: acting.begun > 2)
        assert app.rows("runs")[0]["status"] == "running"
    acting.may_go_on.set()
    app.until(lambda: app.rows("runs")[0]["status"] == "completed")
    assert DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02) == "done"
    assert acting.acted == 1
    assert len(acting.model.calls) == 2
    lines = [record.getMessage() for record in caplog.records if record.name == "timestep"]
    said = [line for line in lines if line.startswith("workflow ")]
    assert f"workflow {id_!r} ended here without a recorded outcome (" in said[0]
    assert "SQLSTATE 42501): it is begun again, for the 1. time" in said[0]
    assert "for the 2. time" in said[1]
    app.replay(id_)


def test_what_is_refused_for_good_fails_the_run_once_that_can_be_recorded(app: App) -> None:
    timestep.install()
    acting = Acting()
    BODIES["key"] = acting.body
    with refusing(app.url, "runs", "dbos.workflow_status"):
        id_ = app.started("key")
        app.until(lambda: acting.begun > 2)
    acting.may_go_on.set()
    with pytest.raises(Exception, match="not this"):
        DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02)
    (run,) = app.rows("runs")
    assert (run["status"], run["error_type"]) == ("failed", "DatabaseRightsError")
    assert [row["status"] for row in app.rows("tool_calls")] == ["unknown"]
    assert (acting.acted, len(acting.model.calls)) == (1, 1)


class Holding(Acting):
    """Whose workflow waits after its run, in its first execution."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = asyncio.Event()

    async def body(self) -> str:
        answer = await super().body()
        if self.begun == 1:
            self.inside.set()
            await asyncio.Event().wait()
        return answer

    async def end_cancelled(self, before: Callable[[], None] = lambda: None) -> None:
        """Start the workflow, and cancel the task that executes it; `before` that, do something."""
        await DBOS.start_workflow_async(run_it, "key")
        await self.inside.wait()
        (task,) = [task for task in asyncio.all_tasks() if _is_of_workflow(task)]
        before()
        task.cancel()
        await asyncio.wait([task])


def _is_of_workflow(task: asyncio.Task[Any]) -> bool:
    return "_execute_workflow_async" in repr(task)


def test_a_workflow_whose_task_was_cancelled_goes_on(app: App) -> None:
    timestep.install()
    holding = Holding()
    BODIES["key"] = holding.body
    asyncio.run(holding.end_cancelled())
    (id_,) = [row["workflow_id"] for row in app.rows("runs")]
    assert DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02) == "done"
    assert (holding.begun, holding.acted, len(holding.model.calls)) == (2, 1, 2)


@pytest.mark.parametrize("why", ["cancelled", "taken over", "stopping"])
def test_what_this_process_must_not_go_on_with_is_left(
    app: App, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="timestep")
    timestep.install()
    holding = Holding()
    BODIES["key"] = holding.body

    def change() -> None:
        with psycopg.connect(app.url) as connection:
            if why == "cancelled":
                connection.execute("UPDATE dbos.workflow_status SET status = 'CANCELLED'")
            elif why == "taken over":
                connection.execute("UPDATE dbos.workflow_status SET owner_xid = 'another'")
            else:
                draining.close()

    asyncio.run(holding.end_cancelled(change))
    app.until(lambda: "(CancelledError), and is left" in caplog.text)
    assert holding.begun == 1
    assert "begun again" not in caplog.text
