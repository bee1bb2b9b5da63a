"""A step that was made, and whose rows the database refuses, ends its run and is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import Any

import pytest
from agents import Agent, GuardrailFunctionOutput, function_tool, input_guardrail
from agents.testing import ScriptedModel, assistant_message, function_call

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


OnWrite = Callable[[str, str, str], None]


@pytest.fixture
def on_write(app: App) -> Iterator[OnWrite]:
    """Does something (PL/pgSQL) whenever a row of a table is written that meets a condition."""

    def begin(table: str, condition: str, action: str) -> None:
        app.execute(
            f"CREATE FUNCTION on_write() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {action}; RETURN NEW; END $$"
        )
        app.execute(
            f"CREATE TRIGGER on_write BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW "
            f"WHEN ({condition}) EXECUTE FUNCTION on_write()"
        )

    yield begin
    app.execute("DROP FUNCTION on_write CASCADE")


REFUSALS = {
    "guardrail": ("guardrail_results", "true", (1, 0, 0)),
    "model": ("request_usage_entries", "true", (1, 1, 0)),
    "tool": ("tool_calls", "NEW.status = 'executed'", (1, 1, 1)),
    "end": ("run_states", "NEW.state_type = 'final'", (1, 2, 1)),
}


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("step", REFUSALS)
def test_what_the_database_refuses_ends_the_workflow(
    app: App, on_write: OnWrite, step: str, is_streamed: bool
) -> None:
    table, condition, effects = REFUSALS[step]
    on_write(table, condition, "RAISE EXCEPTION 'not this' USING ERRCODE = 'check_violation'")
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


def test_a_run_fails_whose_failure_cannot_be_recorded_whole(
    app: App, on_write: OnWrite, caplog: pytest.LogCaptureFixture
) -> None:
    on_write(
        "runs",
        "NEW.status = 'completed' OR NEW.error_message LIKE '%fits%'",
        "RAISE EXCEPTION 'not this' USING ERRCODE = 'check_violation', DETAIL = 'row: topsecret'",
    )

    @function_tool(failure_error_function=None)
    async def act() -> str:
        raise ValueError("nothing fits")

    model = ScriptedModel([[function_call("act", {}, call_id="c1")]])
    agent = Agent("A", model=model, tools=[act])

    async def fail() -> str:
        with pytest.raises(Exception, match="nothing fits") as failure:
            await RUNNER.run(agent, "hi")
        return type(failure.value).__name__

    assert app.run(fail, workflow_id="failing") == app.replay("failing")
    with pytest.raises(DatabaseError, match="not this"):
        app.run(Subject().body, workflow_id="completing")
    for row in app.rows("runs"):
        assert (row["status"], "not this" in row["error_message"]) == ("failed", True)
        assert row["completed_at"] is not None
    assert "topsecret" not in caplog.text
    assert "topsecret" not in str(app.everything())


def test_a_connection_lost_in_the_middle_of_a_commit(app: App, on_write: OnWrite) -> None:
    app.execute("CREATE TABLE slow (id int)")
    app.execute("INSERT INTO slow VALUES (1)")
    on_write("tool_calls", "NEW.status = 'executed'", "PERFORM pg_sleep(60) FROM slow")
    subject = Subject()
    done: Future[str] = Future()
    run = Thread(
        target=lambda: done.set_result(app.run(subject.body, workflow_id="w")), daemon=True
    )
    run.start()
    sleeping = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' "
        "AND datname = current_database()"
    )
    app.until(lambda: app.execute(sleeping).fetchall())
    app.execute("DELETE FROM slow")
    (ended,) = app.execute(f"SELECT pg_terminate_backend(pid) FROM ({sleeping}) AS found")
    assert ended == (True,)
    assert done.result(60) == "done"
    assert subject.effects == (1, 2, 1)
    (call,) = app.rows("tool_calls")
    assert (call["status"], call["output"]) == ("executed", "acted")
    assert len(app.rows("run_items")) == 3
    assert app.rows("usage_metrics")[0]["requests"] == 2
    assert app.steps("w") == ["input guardrail: check", "turn 1: A", "tool: act (c1)", "turn 2: A"]
    before = app.everything()
    assert app.replay("w") == "done"
    assert app.everything() == before
