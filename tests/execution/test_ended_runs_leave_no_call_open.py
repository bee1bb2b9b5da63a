"""Each call of an ended run says what became of it, whatever ended the run."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    Runner,
    function_tool,
    handoff,
    input_guardrail,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS
from dbos import error as dbos_errors

import timestep
from tests.support.dbos_app import BODIES, App
from timestep.errors import RunTimeoutError
from timestep.execution.current import current_run
from timestep.journal.recorder import Recorder, recorder

Body = Callable[[], Awaitable[Any]]

inside: asyncio.Event
"""Set once both tools that do not end are under way."""
entered: list[int] = []


def enter() -> None:
    entered.append(1)
    if len(entered) == 2:
        inside.set()


@function_tool
async def stuck() -> str:
    """Does not end."""
    enter()
    await asyncio.Event().wait()
    return "never"


@timestep.tool_options(safe_to_repeat=False)
@function_tool
async def stuck_once() -> str:
    """Does not end, and must not be repeated."""
    enter()
    await asyncio.Event().wait()
    return "never"


@function_tool
async def quick() -> str:
    """Ends."""
    return "quick"


@function_tool(failure_error_function=None)
async def fatal() -> str:
    """Fails once another is under way."""
    await inside.wait()
    raise ValueError("fatal")


@function_tool
async def end_of_time() -> str:
    """Ends the run's time once others are under way."""
    await inside.wait()
    run = current_run()
    assert run is not None
    run.limits.cut.now(RunTimeoutError("over"))
    await asyncio.Event().wait()
    return "never"


@function_tool(needs_approval=True)
async def asked() -> str:
    """Asks first."""
    return "asked"


@input_guardrail
async def trips(*_: Any) -> GuardrailFunctionOutput:
    await inside.wait()
    return GuardrailFunctionOutput(None, tripwire_triggered=True)


def agent_of(*calls: str, **options: Any) -> Agent[Any]:
    answer = [function_call(name, {}, call_id=f"{n}") for n, name in enumerate(calls)]
    model = ScriptedModel([answer, [assistant_message("done")]])
    return Agent(
        "A", model=model, tools=[stuck, stuck_once, quick, fatal, end_of_time, asked], **options
    )


async def completed() -> Any:
    return await Runner.run(agent_of("quick"), "hi")


async def handed_off() -> Any:
    other = Agent("B", model=ScriptedModel([[assistant_message("done")]]))
    return await Runner.run(agent_of("transfer_to_b", "quick", handoffs=[handoff(other)]), "hi")


async def failed() -> Any:
    with pytest.raises(Exception, match="fatal"):
        await Runner.run(agent_of("stuck", "stuck_once", "fatal"), "hi")


async def unknown_tool() -> Any:
    with pytest.raises(ModelBehaviorError):
        await Runner.run(agent_of("quick", "nowhere"), "hi")


async def tripped() -> Any:
    with pytest.raises(InputGuardrailTripwireTriggered):
        await Runner.run(agent_of("stuck", "stuck_once", input_guardrails=[trips]), "hi")


async def too_long() -> Any:
    with pytest.raises(MaxTurnsExceeded):
        await Runner.run(agent_of("quick"), "hi", max_turns=1)


async def out_of_time() -> Any:
    with pytest.raises(RunTimeoutError):
        await Runner.run(agent_of("stuck", "stuck_once", "end_of_time"), "hi")


async def cut_by_code() -> Any:
    run = asyncio.ensure_future(Runner.run(agent_of("stuck", "stuck_once"), "hi"))
    await inside.wait()
    run.cancel()
    await asyncio.wait([run])


async def abandoned() -> Any:
    run = asyncio.ensure_future(Runner.run(agent_of("stuck", "stuck_once"), "hi"))
    run.add_done_callback(lambda done: done.cancelled() or done.exception())
    left.append(run)
    await inside.wait()


left: list[Any] = []

WAYS: dict[str, tuple[Body, str, list[str]]] = {
    "completed": (completed, "completed", ["executed"]),
    "handoff": (handed_off, "completed", ["executed"]),
    "failed": (failed, "failed", ["unknown", "unknown", "failed"]),
    "unknown tool": (unknown_tool, "failed", ["skipped", "skipped"]),
    "tripped": (tripped, "failed", ["unknown", "unknown"]),
    "max turns": (too_long, "failed", ["executed"]),
    "timeout": (out_of_time, "failed", ["unknown", "unknown", "unknown"]),
    "code": (cut_by_code, "cancelled", ["unknown", "unknown"]),
    "abandoned": (abandoned, "cancelled", ["unknown", "unknown"]),
}


@pytest.fixture(autouse=True)
def installed() -> None:
    global inside
    timestep.install()
    inside = asyncio.Event()
    entered.clear()
    left.clear()


@pytest.mark.parametrize("way", WAYS)
def test_calls_without_an_outcome_say_so(app: App, way: str) -> None:
    body, status, calls = WAYS[way]

    BODIES["key"] = body
    id_ = app.started("key")
    DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02)
    app.until(lambda: app.rows("runs")[0]["completed_at"] is not None)
    assert [row["status"] for row in app.rows("runs", "started_at")][:1] == [status]
    assert [row["status"] for row in app.rows("tool_calls", "call_id")] == calls


@pytest.mark.parametrize("is_followed", [True, False])
def test_those_of_a_cancelled_run_say_so(app: App, is_followed: bool) -> None:
    """Whether an execution notices, or nobody executes the workflow."""

    async def body() -> Any:
        await timestep.run_agent(agent_of("stuck", "stuck_once"), "hi")

    BODIES["key"] = body
    id_ = app.started("key")
    app.until(lambda: {row["status"] for row in app.rows("tool_calls")} == {"pending", "started"})
    if not is_followed:
        with psycopg.connect(app.url) as connection:
            connection.execute("UPDATE dbos.workflow_status SET owner_xid = 'gone'")
    asyncio.run(timestep.cancel_run(id_))
    assert [row["status"] for row in app.rows("tool_calls")] == ["unknown", "unknown"]
    with pytest.raises(dbos_errors.DBOSAwaitedWorkflowCancelledError):
        DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02)
    assert [row["status"] for row in app.rows("tool_calls")] == ["unknown", "unknown"]


def test_a_question_of_a_cancelled_run_was_never_begun(app: App) -> None:
    agent = agent_of("asked")

    async def body() -> Any:
        return (await timestep.run_agent(agent, "hi")).final_output

    BODIES["key"] = body
    id_ = app.started("key")
    app.until(lambda: app.rows("interruptions"))
    app.until(lambda: app.rows("runs")[0]["status"] == "interrupted")
    asyncio.run(timestep.cancel_run(id_))
    assert [row["status"] for row in app.rows("tool_calls")] == ["skipped"]
    app.until(lambda: app.rows("runs")[0]["status"] == "cancelled")
    DBOS.resume_workflow(id_)
    app.until(lambda: app.rows("runs")[0]["status"] != "cancelled")
    asyncio.run(timestep.resume_workflow(id_, reject="all"))
    assert DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02) == "done"
    assert [row["status"] for row in app.rows("tool_calls")] == ["rejected"]


def test_an_answer_that_is_sent_again_opens_no_call_of_an_ended_run(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a lost connection: the statement may be written once more when its run is over."""
    commit = Recorder.commit
    answers: list[Any] = []

    async def noting(self: Recorder, owner: Any, rows: Any, *rest: Any, **options: Any) -> None:
        if "model_responses" in rows:
            answers.append((owner, copy.deepcopy(rows)))
        await commit(self, owner, rows, *rest, **options)

    monkeypatch.setattr(Recorder, "commit", noting)

    async def body() -> str:
        global inside
        inside = asyncio.Event()
        entered.clear()
        calls = [function_call(tool.name, {}, call_id=tool.name) for tool in (stuck, stuck_once)]
        agent = Agent("A", model=ScriptedModel([calls]), tools=[stuck, stuck_once])
        run = asyncio.ensure_future(timestep.DurableRunner.run(agent, "hi"))
        await inside.wait()
        run.cancel()
        await asyncio.wait([run])
        (sent,) = answers
        await commit(recorder(), *sent)
        return "over"

    assert app.run(body) == "over"
    assert [row["status"] for row in app.rows("tool_calls")] == ["unknown", "unknown"]
