"""A run in a process that may not execute it for a while."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import Any

import pytest
from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.dbos_app import BODIES, App, run_it
from timestep.dbos_internals import executions
from timestep.runtime import lease, process_state
from timestep.runtime.lease import Lease

WORDS = ("nested", "again")


def test_nothing_is_taken_from_a_queue_that_could_not_begin(app: App) -> None:
    found = process_state.of(Lease)
    executions.take_only_while(lambda: found.is_valid)
    found.hold(lease.now() - 1)

    async def body() -> str:
        return "done"

    BODIES["w"] = body
    DBOS.register_queue("queue")
    with SetWorkflowID("w"):
        handle: Any = DBOS.enqueue_workflow("queue", run_it, "w")
    executions.take_enqueued("queue")
    assert handle.get_status().status == "ENQUEUED"
    found.hold(math.inf)
    executions.take_enqueued("queue")
    assert handle.get_result(polling_interval_sec=0.02) == "done"


def test_no_effect_begins_while_the_lease_has_run_out(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not inside a tool that has begun, nor where one is tried again, and all do afterwards."""
    inner = ScriptedModel([[assistant_message("yes")]])
    begun: list[str] = []

    @function_tool
    async def nested() -> str:
        cut_off("nested")
        return str((await Runner.run(Agent("Inner", model=inner), "?")).final_output)

    @timestep.tool_options(retries=1, retry_delay=0)
    @function_tool(failure_error_function=None)
    async def again() -> str:
        cut_off("again")
        if begun.count("again") == 1:
            raise ConnectionError
        return "yes"

    def cut_off(name: str) -> None:
        begun.append(name)
        if begun.count(name) == 1:
            process_state.of(Lease).hold(lease.now() - 1)

    waits = threading.Semaphore(0)
    held = lease.held

    async def told() -> None:
        if not process_state.of(Lease).is_valid:
            waits.release()
        await held()

    monkeypatch.setattr(lease, "held", told)
    calls: list[Any] = [[function_call(name, {}, call_id=name)] for name in WORDS]
    model = ScriptedModel([*calls, [assistant_message("done")]])
    agent = Agent("Outer", model=model, tools=[nested, again])
    outcome: list[str] = []

    async def body() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    run = threading.Thread(target=lambda: outcome.append(app.run(body)), daemon=True)
    run.start()
    for name in WORDS:
        assert waits.acquire(timeout=60)
        assert (begun.count(name), len(inner.calls)) == (1, int(name == "again"))
        process_state.of(Lease).hold(math.inf)
    run.join(60)
    assert outcome == ["done"]
    assert (begun, len(inner.calls)) == (["nested", "again", "again"], 1)
    assert asyncio.run(timestep.list_runs()).items[0].status == "completed"
