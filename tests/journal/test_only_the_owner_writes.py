"""An execution that does not own its workflow any more writes nothing and starts nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from tests.support.dbos_app import App
from timestep.database import engines, migrations, urls
from timestep.dbos_internals import control_errors
from timestep.errors import NotDurableError
from timestep.journal import ownership_watch
from timestep.journal.reads import database


class Actor:
    """An agent with a tool that stops in the middle until it is told to go on."""

    def __init__(self) -> None:
        self.acted: list[int] = []
        self.inside = Event()
        self.may_end = Event()

        @function_tool
        async def act() -> str:
            self.acted.append(1)
            self.inside.set()
            await asyncio.to_thread(self.may_end.wait, 20)
            return "acted"

        model = ScriptedModel(
            [
                [function_call("act", {}, call_id="c1")],
                [function_call("act", {}, call_id="c2")],
                [assistant_message("done")],
            ]
        )
        self.agent: Agent[Any] = Agent(name="A", model=model, tools=[act])
        self.model = model

    async def body(self) -> str:
        return str((await timestep.DurableRunner.run(self.agent, "hi")).final_output)


def in_the_middle(app: App, actor: Actor) -> Thread:
    def work() -> None:
        with pytest.raises(Exception, match="cancelled"):
            app.run(actor.body, workflow_id="w")

    thread = Thread(target=work, daemon=True)
    thread.start()
    assert actor.inside.wait(60)
    return thread


def test_a_replaced_execution_writes_nothing(app: App) -> None:
    actor = Actor()
    thread = in_the_middle(app, actor)
    with psycopg.connect(app.url, autocommit=True) as connection:
        connection.execute("UPDATE dbos.workflow_status SET owner_xid = 'somebody else'")
        before = app.everything()
        actor.may_end.set()
        # DBOS ends the refused execution by waiting for what the owner records.
        connection.execute("UPDATE dbos.workflow_status SET status = 'CANCELLED'")
        thread.join(60)
    assert not thread.is_alive()
    after = app.everything()
    assert [row["status"] for row in app.rows("tool_calls")] == ["unknown"]
    assert before.keys() - {"runs", "tool_calls"} <= {
        name for name, rows in after.items() if rows == before[name]
    }
    assert len(actor.acted) == 1
    assert len(actor.model.calls) == 1


@pytest.fixture
def slow_watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An execution learns only from what it commits that its workflow is cancelled."""
    monkeypatch.setattr(ownership_watch, "_INTERVAL", 3600.0)
    yield
    ownership_watch.look_now()


@pytest.mark.usefixtures("slow_watch")
def test_an_effect_that_ends_after_the_cancellation_is_recorded(app: App) -> None:
    actor = Actor()
    thread = in_the_middle(app, actor)
    DBOS.cancel_workflow("w")
    actor.may_end.set()
    thread.join(60)
    assert not thread.is_alive()
    (run,) = app.rows("runs")
    assert (run["status"], run["completed_at"] is None) == ("cancelled", False)
    assert [row["status"] for row in app.rows("tool_calls")] == ["executed"]
    assert len(app.rows("model_responses")) == 1
    DBOS.resume_workflow("w")
    assert DBOS.retrieve_workflow("w").get_result(polling_interval_sec=0.02) == "done"
    assert len(actor.acted) == 2, "one for each call"
    assert len(actor.model.calls) == 3
    app.replay("w")


@pytest.mark.usefixtures("slow_watch")
def test_what_another_execution_owns_by_then_is_not_touched(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor, refused = Actor(), Event()
    lost = control_errors.lost

    def told(owner: Any, status: str | None) -> BaseException:
        refused.set()
        return lost(owner, status)

    monkeypatch.setattr(control_errors, "lost", told)
    thread = in_the_middle(app, actor)
    DBOS.cancel_workflow("w")
    with psycopg.connect(app.url, autocommit=True) as connection:
        connection.execute(
            "UPDATE dbos.workflow_status SET status = 'PENDING', owner_xid = 'another'"
        )
        before = app.everything()
        actor.may_end.set()
        assert refused.wait(60)
        assert app.everything() == before
        connection.execute("UPDATE dbos.workflow_status SET status = 'CANCELLED'")
    thread.join(60)
    assert not thread.is_alive()


def test_an_application_whose_dbos_is_elsewhere_is_refused(
    app: App, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrations.apply(engines.engine_for(urls.parse_url(empty_database_url)))
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE SCHEMA dbos")
        connection.execute(
            "CREATE TABLE dbos.workflow_status (workflow_uuid text, status text, name text, "
            "owner_xid text)"
        )
        connection.execute("CREATE TABLE dbos.operation_outputs (workflow_uuid text)")
    monkeypatch.setenv("TIMESTEP_DB_URL", empty_database_url)
    database.forget_databases()
    actor = Actor()

    async def body() -> str:
        with pytest.raises(NotDurableError) as caught:
            await timestep.DurableRunner.run(actor.agent, "hi")
        return str(caught.value)

    assert "set DBOS's system_database_url and TIMESTEP_DB_URL" in app.run(body)
    assert actor.model.calls == ()


@pytest.mark.own_database
def test_a_database_that_goes_away_is_waited_for(app: App, server: str) -> None:
    """The connection is lost between the effect and the commit, and comes back."""
    actor = Actor()
    name = app.url.partition("?")[0].rpartition("/")[2]
    outcome: list[str] = []
    thread = Thread(
        target=lambda: outcome.append(app.run(actor.body, workflow_id="w")), daemon=True
    )
    thread.start()
    assert actor.inside.wait(60)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        actor.may_end.set()
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    thread.join(60)
    assert outcome == ["done"]
    assert len(actor.acted) == 2
    assert len(actor.model.calls) == 3
