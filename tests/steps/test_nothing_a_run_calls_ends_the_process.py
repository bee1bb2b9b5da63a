"""`sys.exit` in what a run calls is that call's failure: the runs beside it go on."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import pytest
from agents import Agent, GuardrailFunctionOutput, InputGuardrail, RunHooks, function_tool
from agents.exceptions import AgentsException
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from tests.support.dbos_app import BODIES, App
from timestep.errors import NotAnExceptionError, ProcessExitError, UnreadableValueError
from timestep.journal.recorder import recorder
from timestep.journal.unfinished_executions import look_after


@function_tool
def leave() -> str:
    sys.exit(2)


@function_tool
def stay() -> str:
    return "stayed"


@function_tool(failure_error_function=None)
async def interrupt() -> str:
    raise KeyboardInterrupt


async def helper() -> None:
    await asyncio.sleep(0)
    sys.exit(2)


@function_tool(failure_error_function=None)
async def leave_in_a_task() -> str:
    await asyncio.gather(helper(), asyncio.sleep(0))
    return "stayed"


class LeavingModel(ScriptedModel):
    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        raise SystemExit("model")


begun: list[str] = []


class Uncaught(BaseException):
    """No Exception, so that nobody answers it."""


@function_tool(failure_error_function=None)
async def raise_what_is_no_exception() -> str:
    begun.append("tool")
    raise Uncaught("mine")


@function_tool(failure_error_function=None)
async def raise_what_a_record_raises() -> str:
    begun.append("tool")
    raise UnreadableValueError("what it read")


@pytest.mark.parametrize("tool", [raise_what_is_no_exception, raise_what_a_record_raises])
def test_whatever_a_tool_raises_is_its_outcome(app: App, tool: Any) -> None:
    begun.clear()

    async def body() -> str:
        with pytest.raises(AgentsException) as failure:
            await timestep.DurableRunner.run(caller(tool), "hi")
        assert failure.value.run_data is not None
        return repr(failure.value.__cause__)

    said = app.run(body, workflow_id="w")
    assert "Uncaught('mine')" in said or "what it read" in said
    assert app.replay("w") == said
    assert begun == ["tool"]
    assert [row["status"] for row in app.rows("runs")] == ["failed"]


@DBOS.workflow()
async def raises_what_is_no_exception(name: str) -> str:
    begun.append(name)
    raise Uncaught(name)


def test_a_workflow_that_raises_what_is_no_exception_fails_once(app: App) -> None:
    look_after(recorder())
    begun.clear()
    handle = DBOS.start_workflow(raises_what_is_no_exception, "once")
    with pytest.raises(NotAnExceptionError, match=r"Uncaught\('once'\)"):
        str(handle.get_result(polling_interval_sec=0.02))
    assert begun == ["once"]


class LeavingHooks(RunHooks[Any]):
    async def on_tool_start(self, *_: Any) -> None:
        sys.exit(3)


def check(*_: Any) -> GuardrailFunctionOutput:
    raise SystemExit("guardrail")


def caller(tool: Any) -> Agent[Any]:
    model = ScriptedModel([[function_call(tool.name, {}, call_id="c1")]])
    return Agent("A", model=model, tools=[tool])


AGENTS = {
    "sync tool": lambda: caller(leave),
    "async tool": lambda: caller(interrupt),
    "task of a tool": lambda: caller(leave_in_a_task),
    "tool that has time": lambda: caller(timestep.tool_options(timeout=5)(interrupt)),
    "model": lambda: Agent("A", model=LeavingModel([])),
    "guardrail": lambda: Agent(
        "A",
        model=ScriptedModel([[assistant_message("hi")]]),
        input_guardrails=[InputGuardrail(check, run_in_parallel=False)],
    ),
}


@pytest.mark.parametrize("what", AGENTS)
def test_an_exit_is_the_failure_of_what_exits(app: App, what: str) -> None:
    async def body() -> str:
        with pytest.raises((AgentsException, ProcessExitError)) as failure:
            await timestep.DurableRunner.run(AGENTS[what](), "hi")
        found = (
            failure.value.__cause__ if isinstance(failure.value, AgentsException) else failure.value
        )
        return f"{type(found).__name__}: {found}"

    BODIES["w"] = body
    id_ = app.started("w")
    said = str(DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02))
    assert "tried to end the process" in said
    assert [row["status"] for row in app.rows("runs")] == ["failed"]
    # DBOS's loop goes on.
    assert app.recover(id_) == said


def test_an_exit_of_a_hook_is_the_failure_of_its_run(app: App) -> None:
    async def body() -> str:
        await timestep.DurableRunner.run(caller(stay), "hi", hooks=LeavingHooks())
        return "stayed"

    BODIES["w"] = body
    with pytest.raises(ProcessExitError, match="tried to end the process"):
        DBOS.retrieve_workflow(app.started("w")).get_result(polling_interval_sec=0.02)
    assert [(row["status"], row["error_type"]) for row in app.rows("runs")] == [
        ("failed", "ProcessExitError")
    ]
    BODIES["w"] = well
    assert DBOS.retrieve_workflow(app.started("w")).get_result(polling_interval_sec=0.02) == "well"


@DBOS.workflow()
def exits(name: str) -> str:
    begun.append(name)
    sys.exit(3)


@DBOS.workflow()
async def exits_on_the_loop(name: str) -> str:
    begun.append(name)
    argparse.ArgumentParser().parse_args([name])
    return name


@DBOS.workflow()
async def exits_in_a_task(name: str) -> str:
    begun.append(name)
    forgotten = asyncio.ensure_future(helper())  # Nobody awaits it while it exits.
    await asyncio.wait([forgotten])
    await asyncio.wait_for(helper(), 60)
    return name


@DBOS.step()
def step_that_exits() -> None:
    sys.exit(3)


@DBOS.step()
async def step_that_exits_on_the_loop() -> None:
    raise KeyboardInterrupt


@DBOS.workflow()
async def exits_in_steps(name: str) -> str:
    begun.append(name)
    ended = await asyncio.gather(
        asyncio.to_thread(step_that_exits), step_that_exits_on_the_loop(), return_exceptions=True
    )
    assert [type(one) for one in ended] == [ProcessExitError, ProcessExitError], ended
    await exits_on_the_loop(f"{name} inside")
    return name


@pytest.mark.parametrize("workflow", [exits, exits_on_the_loop, exits_in_a_task, exits_in_steps])
def test_a_workflow_that_exits_fails_and_is_not_begun_again(app: App, workflow: Any) -> None:
    look_after(recorder())
    begun.clear()
    id_ = DBOS.start_workflow(workflow, "once").get_workflow_id()
    with pytest.raises(ProcessExitError, match="tried to end the process: SystemExit"):
        DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02)
    assert begun == (["once"] if workflow is not exits_in_steps else ["once", "once inside"])
    # DBOS's loop goes on.
    BODIES["w"] = well
    assert DBOS.retrieve_workflow(app.started("w")).get_result(polling_interval_sec=0.02) == "well"


async def well() -> str:
    return "well"
