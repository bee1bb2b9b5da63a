"""Tools whose calls are workflows: what their bodies may do, and what a replay does of it."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

from agents import Agent, RunContextWrapper, Runner, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, SetWorkflowID

import timestep
from tests.steps.test_tool_calls_are_made_once import Flaky, calling, outcomes, run_of, twice
from tests.support.dbos_app import App

DONE: list[str] = []


@DBOS.step()
async def reserve(seat: str) -> str:
    DONE.append(f"reserved {seat}")
    return f"seat {seat}"


@DBOS.workflow()
async def print_ticket(seat: str) -> str:
    DONE.append(f"printed {seat}")
    return f"ticket for {seat}"


@timestep.tool_options(as_workflow=True)
@function_tool
async def book(ctx: RunContextWrapper[Any], seat: str) -> str:
    """Uses everything that only a workflow may."""
    reserved = await reserve(seat)
    await DBOS.sleep_async(0.01)
    with SetWorkflowID(f"print-{timestep.idempotency_key()}"):
        handle = await DBOS.start_workflow_async(print_ticket, seat)
    printed = await handle.get_result(polling_interval_sec=0.02)
    await DBOS.send_async(DBOS.workflow_id or "", "paid", topic="payment")
    paid = await DBOS.recv_async("payment", timeout_seconds=60)
    ctx.context["seats"] = [*ctx.context.get("seats", []), seat]
    return f"{reserved}, {printed}, {paid}"


def test_the_body_of_a_call_may_use_all_that_a_workflow_may(app: App) -> None:
    DONE.clear()
    calls = [
        function_call("book", {"seat": "1a"}, call_id="c1"),
        function_call("book", {"seat": "1b"}, call_id="c2"),
    ]
    agent = calling(book, calls=calls)
    context: dict[str, Any] = {}
    told = twice(app, run_of(agent, context=context))
    assert told == ("done ['seat 1a, ticket for 1a, paid', 'seat 1b, ticket for 1b, paid']")
    assert sorted(DONE) == ["printed 1a", "printed 1b", "reserved 1a", "reserved 1b"]
    assert sorted(context["seats"]) == ["1a", "1b"]
    assert app.steps("w") == ["turn 1: A", "tool: book (c1)", "tool: book (c2)", "turn 2: A"]
    first = app.rows("tool_calls", "call_id")[0]
    assert app.steps(f"w-{first['id']}") == [
        "reserve",
        "DBOS.sleep",
        "print_ticket",
        "DBOS.getResult",
        "DBOS.send",
        "DBOS.recv",
        "DBOS.sleep",
    ]
    assert outcomes(app) == [("c1", "executed", 1, False), ("c2", "executed", 1, False)]


def test_a_run_inside_such_a_call_is_durable_and_counted(app: App) -> None:
    expert = Agent(
        name="Expert",
        model=ScriptedModel([[assistant_message("it depends")]]),
    )

    @timestep.tool_options(as_workflow=True)
    @function_tool
    async def ask(ctx: RunContextWrapper[Any]) -> str:
        return str((await Runner.run(expert, "?", context=ctx)).final_output)

    agent = calling(ask)

    async def body() -> str:
        result = await timestep.DurableRunner.run(agent, "hi")
        return f"{result.final_output} {result.context_wrapper.usage.requests}"

    assert twice(app, body) == "done 3"
    outer, inner = sorted(app.rows("runs"), key=lambda row: row["parent_run_id"] is not None)
    (call,) = app.rows("tool_calls")
    assert inner["parent_run_id"] == inner["root_run_id"] == outer["id"]
    assert inner["workflow_id"] == f"w-{call['id']}"
    assert (inner["status"], inner["final_output"]) == ("completed", "it depends")
    assert app.steps(inner["workflow_id"]) == ["turn 1: Expert"]


def test_such_a_call_is_tried_again_and_fails_as_others_do(app: App) -> None:
    made: list[int] = []

    @timestep.tool_options(as_workflow=True, retries=1, retry_delay=0)
    @function_tool
    async def works_at_last() -> str:
        made.append(1)
        if len(made) == 1:
            raise Flaky
        return "worked"

    @timestep.tool_options(as_workflow=True)
    @function_tool(failure_error_function=None)
    async def never_works() -> str:
        raise Flaky("no more fuel")

    assert twice(app, run_of(calling(works_at_last))) == "done ['worked']"
    assert outcomes(app) == [("c1", "executed", 2, False)]
    told = app.run(run_of(calling(never_works)), workflow_id="v")
    assert told == "UserError: Error running tool never_works: no more fuel"
    assert app.replay("v") == told


def test_such_a_tool_works_inside_an_agent_that_is_a_tool(app: App) -> None:
    DONE.clear()
    expert = Agent(
        name="Expert",
        model=ScriptedModel(
            [[function_call("book", {"seat": "2a"}, call_id="i1")], [assistant_message("booked")]]
        ),
        tools=[book],
    )
    agent = calling(
        expert.as_tool("ask", "Asks."), calls=[function_call("ask", {"input": "?"}, call_id="c1")]
    )
    assert twice(app, run_of(agent, context={})) == "done ['booked']"
    assert DONE == ["reserved 2a", "printed 2a"]


def test_a_call_that_ended_is_not_made_again_when_its_outcome_was_not_recorded(app: App) -> None:
    DONE.clear()
    call = [function_call("book", {"seat": "3a"}, call_id="c1")]
    answers: list[list[Any]] = [call, [assistant_message("done")]]

    async def body() -> str:
        context: dict[str, Any] = {}
        # The first answer comes from the record, once there is one.
        model = ScriptedModel(answers[1:] if forgotten else answers)
        agent = Agent(name="A", model=model, tools=[book])
        result = await timestep.DurableRunner.run(agent, "hi", context=context)
        return json.dumps([result.final_output, context])

    forgotten = False
    first = app.run(body, workflow_id="w")
    call_rows = app.rows("tool_calls")
    _forget_from_the_call_on(app)
    forgotten = True
    assert app.recover("w") == first
    assert DONE == ["reserved 3a", "printed 3a"]
    volatile = {"completed_at", "started_at", "created_at", "duration_ms"}
    assert [{k: v for k, v in row.items() if k not in volatile} for row in call_rows] == [
        {k: v for k, v in row.items() if k not in volatile} for row in app.rows("tool_calls")
    ]


def _forget_from_the_call_on(app: App) -> None:
    """Leave what a process had recorded that died before it committed the call's outcome."""
    app.execute(
        "UPDATE tool_calls SET status = 'pending', output = NULL, output_text = NULL, "
        "completed_at = NULL, started_at = NULL, attempts = 0, context_change = NULL, "
        "context_position = NULL, end_position = NULL, duration_ms = NULL"
    )
    app.execute("DELETE FROM run_items WHERE item_type = 'tool_call_output_item'")
    app.execute("DELETE FROM run_states WHERE turn > 1 OR state_type = 'final'")
    app.execute("UPDATE run_states SET is_active = true")
    app.execute("UPDATE runs SET status = 'running', completed_at = NULL, final_output = NULL")
    app.execute("DELETE FROM model_responses WHERE ordinal > 1")
    app.execute(
        "DELETE FROM dbos.operation_outputs WHERE workflow_uuid = 'w' AND function_id > "
        "(SELECT min(function_id) FROM dbos.operation_outputs WHERE workflow_uuid = 'w')"
    )


def test_cancelling_the_run_cancels_the_call(app: App) -> None:
    started = Event()

    @timestep.tool_options(as_workflow=True)
    @function_tool
    async def waits() -> str:
        started.set()
        return str(await DBOS.recv_async("never", timeout_seconds=3600))

    async def body() -> str:
        return str((await timestep.DurableRunner.run(calling(waits), "hi")).final_output)

    def live() -> str:
        try:
            return app.run(body, "w")
        except Exception as error:  # noqa: BLE001  # told to the test
            return type(error).__name__

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(live)
        app.until(started.is_set)
        asyncio.run(timestep.cancel_run("w"))
        assert "Cancelled" in outcome.result(timeout=60)
    (call,) = app.rows("tool_calls")
    app.until(lambda: _status(app, f"w-{call['id']}") == "CANCELLED")


def test_a_call_goes_on_with_its_run_when_that_is_resumed(app: App) -> None:
    started = Event()
    DONE.clear()

    @timestep.tool_options(as_workflow=True)
    @function_tool
    async def waits() -> str:
        seat = await reserve("3a")
        if not started.is_set():
            started.set()
            await asyncio.sleep(3600)
        return seat

    agent = calling(waits)

    async def body() -> str:
        return str((await timestep.DurableRunner.run(agent, "hi")).final_output)

    def live() -> str:
        try:
            return app.run(body, "w")
        except Exception as error:  # noqa: BLE001  # told to the test
            return type(error).__name__

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(live)
        app.until(started.is_set)
        asyncio.run(timestep.cancel_run("w"))
        assert "Cancelled" in outcome.result(timeout=60)
    (call,) = app.rows("tool_calls")
    app.until(lambda: _status(app, f"w-{call['id']}") == "CANCELLED")
    assert DBOS.resume_workflow("w").get_result(polling_interval_sec=0.02) == "done"
    assert outcomes(app) == [("c1", "executed", 1, False)]
    assert DONE == ["reserved 3a"]
    assert _status(app, f"w-{call['id']}") == "SUCCESS"


def _status(app: App, workflow_id: str) -> str:
    row = app.execute(
        "SELECT status FROM dbos.workflow_status WHERE workflow_uuid = %s", (workflow_id,)
    ).fetchone()
    return str(row[0]) if row else ""
