"""A step whose effect happened, and whose rows the database does not take."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Thread
from typing import Any

import psycopg
import pytest
from agents import Agent, GuardrailFunctionOutput, function_tool, input_guardrail
from agents.testing import ScriptedModel, assistant_message, function_call
from psycopg import sql

import timestep
from tests.support.dbos_app import App
from timestep.errors import DatabaseError

RUNNER = timestep.DurableRunner


class Subject:
    """An agent with a guardrail and a tool, and how often each was used."""

    def __init__(self) -> None:
        self.acted = 0
        self.checked = 0

        @function_tool
        async def act() -> str:
            self.acted += 1
            return "acted"

        @input_guardrail(run_in_parallel=False)
        async def check(*_: Any) -> GuardrailFunctionOutput:
            self.checked += 1
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)

        call = function_call("act", {}, call_id="c1")
        self.model = ScriptedModel([[call], [assistant_message("done")]])
        self.agent = Agent("A", model=self.model, tools=[act], input_guardrails=[check])

    @property
    def effects(self) -> tuple[int, int, int]:
        return self.checked, len(self.model.calls), self.acted

    async def body(self) -> str:
        return str((await RUNNER.run(self.agent, "hi")).final_output)

    async def streamed(self) -> str:
        result = RUNNER.run_streamed(self.agent, "hi")
        async for _ in result.stream_events():
            pass
        return str(result.final_output)


def on_write(app: App, table: str, condition: str, action: str) -> None:
    """Do `action` (PL/pgSQL) whenever a row of `table` is written that meets `condition`."""
    with psycopg.connect(app.url) as connection:
        connection.execute(
            f"CREATE FUNCTION on_write() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {action}; RETURN NEW; END $$"
        )
        connection.execute(
            sql.SQL(
                "CREATE TRIGGER on_write BEFORE INSERT OR UPDATE ON {} FOR EACH ROW WHEN ("
            ).format(sql.Identifier(table))
            + sql.SQL(condition)
            + sql.SQL(") EXECUTE FUNCTION on_write()")
        )


REFUSALS = {
    "guardrail": ("guardrail_results", "true", (1, 0, 0)),
    "model": ("request_usage_entries", "true", (1, 1, 0)),
    "tool": ("tool_calls", "NEW.status = 'executed'", (1, 1, 1)),
    "end": ("run_states", "NEW.state_type = 'final'", (1, 2, 1)),
}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("step", REFUSALS)
def test_what_the_database_refuses_ends_the_workflow(
    app: App, step: str, is_streamed: bool
) -> None:
    table, condition, effects = REFUSALS[step]
    on_write(app, table, condition, "RAISE EXCEPTION 'not this' USING ERRCODE = 'check_violation'")
    subject = Subject()
    with pytest.raises(DatabaseError, match="not this"):
        app.run(subject.streamed if is_streamed else subject.body, workflow_id="w")
    assert subject.effects == effects
    (run,) = app.rows("runs")
    assert (run["status"], run["error_type"]) == ("failed", "DatabaseError")
    assert "not this" in run["error_message"]
    # Nothing of the step is there, and everything before it is.
    answers = {"guardrail": 0, "model": 0, "tool": 1, "end": 2}[step]
    assert len(app.rows("guardrail_results")) == (step != "guardrail")
    assert len(app.rows("model_responses")) == answers
    assert len(app.rows("request_usage_entries")) == answers
    assert sum(row["requests"] for row in app.rows("usage_metrics")) == answers
    assert len(app.rows("run_items")) == {"guardrail": 0, "model": 0, "tool": 1, "end": 3}[step]
    assert [row["state_type"] for row in app.rows("run_states")] == ["checkpoint"] * answers
    numbered = ["input guardrail: check", "turn 1: A", "tool: act (c1)", "turn 2: A"]
    assert app.steps("w") == numbered[: ["guardrail", "model", "tool", "", "end"].index(step)]


def test_a_connection_lost_in_the_middle_of_a_commit(app: App) -> None:
    with psycopg.connect(app.url) as connection:
        connection.execute("CREATE TABLE slow (id int)")
        connection.execute("INSERT INTO slow VALUES (1)")
    on_write(
        app,
        "tool_calls",
        "NEW.status = 'executed'",
        "PERFORM pg_sleep(60) FROM slow",
    )
    subject = Subject()
    done: Future[str] = Future()
    run = Thread(
        target=lambda: done.set_result(app.run(subject.body, workflow_id="w")), daemon=True
    )
    run.start()
    with psycopg.connect(app.url, autocommit=True) as connection:
        sleeping = (
            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' "
            "AND datname = current_database()"
        )
        app.until(lambda: connection.execute(sleeping).fetchall())
        connection.execute("DELETE FROM slow")
        (ended,) = connection.execute(
            f"SELECT pg_terminate_backend(pid) FROM ({sleeping}) AS found"
        ).fetchall()
        assert ended == (True,)
    assert done.result(30) == "done"
    assert subject.effects == (1, 2, 1)
    (call,) = app.rows("tool_calls")
    assert (call["status"], call["output"]) == ("executed", "acted")
    assert len(app.rows("run_items")) == 3
    assert app.rows("usage_metrics")[0]["requests"] == 2
    assert app.steps("w") == ["input guardrail: check", "turn 1: A", "tool: act (c1)", "turn 2: A"]
    before = app.everything()
    assert app.replay("w") == "done"
    assert app.everything() == before
