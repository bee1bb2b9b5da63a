"""A recovery reads a run's record at once, however long the run was."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest
from agents import Agent, RunHooks, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

from tests.support.dbos_app import App
from timestep import DurableRunner


@function_tool
def look(turn: int) -> str:
    """Look something up."""
    return f"seen {turn}"


def _run(app: App, turns: int) -> str:
    workflow_id = f"of-{turns}-turns"
    calls = [[function_call("look", {"turn": n}, call_id=f"call-{n}")] for n in range(1, turns)]
    model = ScriptedModel([*calls, [assistant_message("done")]])
    agent = Agent("Looker", tools=[look], model=model)

    async def body() -> Any:
        return (await DurableRunner.run(agent, "look", max_turns=turns + 1)).final_output

    app.run(body, workflow_id=workflow_id)
    return workflow_id


def test_the_statements_of_a_recovery_do_not_grow_with_the_run(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = _run(app, 2), _run(app, 15)
    ours: list[str] = []
    lock = threading.Lock()
    execute = psycopg.Cursor.execute

    def counted(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        # The look at who owns the workflows comes by the clock, for all of them at once.
        is_watch = threading.current_thread().name == "timestep-watch"
        name = self.connection.info.parameter_status("application_name")
        if name == "timestep" and not is_watch:
            with lock:
                ours.append(str(query))
        return execute(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Cursor, "execute", counted)

    counts = {}
    for workflow_id in (short, long):
        ours.clear()
        assert app.recover(workflow_id) == "done"
        counts[workflow_id] = len(ours)

    assert counts[short] == counts[long] > 0, ours


def test_a_run_that_is_recorded_as_failed_fails_again_though_its_code_does_not(app: App) -> None:
    executions: list[int] = []

    class Once(RunHooks[Any]):
        async def on_agent_end(self, *_: Any) -> None:
            executions.append(1)
            if len(executions) == 1:
                raise ValueError("only once")

    agent = Agent("A", model=ScriptedModel([[assistant_message("done")]]))

    async def body() -> str:
        try:
            return str((await DurableRunner.run(agent, "hi", hooks=Once())).final_output)
        except ValueError as error:
            return f"failed: {error}"

    assert app.run(body, workflow_id="w") == "failed: only once"
    assert app.recover("w") == "failed: only once"
    assert len(executions) == 2
    assert [row["status"] for row in app.rows("runs")] == ["failed"]
