"""A CancelledError of what a run calls is that call's outcome: recorded, and replayed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent import futures
from typing import Any

import pytest
from agents import Agent, GuardrailFunctionOutput, InputGuardrail, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from tests.support.dbos_app import App
from timestep.errors import CancelledItselfError
from timestep.journal.recorder import recorder
from timestep.journal.unfinished_executions import look_after

MADE: list[str] = []


@pytest.fixture(autouse=True)
def _none_made() -> None:
    MADE.clear()


async def wait_for_a_cancelled_task() -> None:
    task = asyncio.ensure_future(asyncio.sleep(3600))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def raise_one() -> None:
    try:
        raise KeyError("before")
    except KeyError:
        raise asyncio.CancelledError("by itself")  # noqa: B904  # its context is what is tried


def in_a_thread() -> str:
    MADE.append("job")
    raise futures.CancelledError("by itself")


def tool(cancel: Callable[[], Any], **options: Any) -> Any:
    async def job() -> str:
        MADE.append("job")
        await cancel()
        return "never"

    return function_tool(job, name_override="job", **options)


class CancellingModel(ScriptedModel):
    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        MADE.append("model")
        await raise_one()


async def check(*_: Any) -> GuardrailFunctionOutput:
    MADE.append("guardrail")
    await wait_for_a_cancelled_task()
    raise AssertionError


def caller(job: Any) -> Agent[Any]:
    @function_tool
    async def other() -> str:
        MADE.append("other")
        return "ok"

    given = {"input": "go"} if "input" in job.params_json_schema["properties"] else {}
    calls = [function_call("job", given, call_id="c1"), function_call("other", {}, call_id="c2")]
    return Agent("A", model=ScriptedModel([calls, [assistant_message("done")]]), tools=[job, other])


ANSWERED: dict[str, Callable[[], Any]] = {
    "a cancelled task": lambda: tool(wait_for_a_cancelled_task),
    "raised": lambda: tool(raise_one),
    "raised in a thread": lambda: function_tool(in_a_thread, name_override="job"),
    "unsafe": lambda: timestep.tool_options(safe_to_repeat=False)(tool(raise_one)),
    "in a workflow of its own": lambda: timestep.tool_options(as_workflow=True)(tool(raise_one)),
    "in attempts": lambda: timestep.tool_options(retries=2)(tool(raise_one)),
    "in a run inside": lambda: caller(tool(raise_one, failure_error_function=None)).as_tool(
        "job", "Does it."
    ),
}


@pytest.mark.parametrize("what", ANSWERED)
def test_a_tool_that_is_cancelled_by_itself_is_called_once(app: App, what: str) -> None:
    async def body() -> str:
        result = await timestep.run_agent(caller(ANSWERED[what]()), "go")
        given: list[Any] = result.to_input_list()
        outputs = [str(item["output"]) for item in given if "output" in item]
        return repr([*outputs, result.final_output])

    answer = app.run(body, workflow_id="w")
    made = list(MADE)
    assert "An error occurred" in answer
    assert "done" in answer
    assert made.count("job") == 1
    assert app.replay("w") == answer
    assert made == MADE
    (row,) = [row for row in app.rows("tool_calls") if row["call_id"] == "c1"][:1]
    assert row["status"] == "failed"
    assert row["error"]["type"] == "asyncio.exceptions:CancelledError"
    assert app.rows("interruptions") == []


ENDING = {
    "tool": lambda: caller(tool(wait_for_a_cancelled_task, failure_error_function=None)),
    "model": lambda: Agent("A", model=CancellingModel([])),
    "guardrail": lambda: Agent(
        "A",
        model=ScriptedModel([[assistant_message("hi")]]),
        input_guardrails=[InputGuardrail(check, run_in_parallel=False)],
    ),
}


@pytest.mark.parametrize("what", ENDING)
@pytest.mark.parametrize("is_caught", [True, False])
def test_a_run_fails_of_it_and_its_workflow_if_nobody_catches_it(
    app: App, what: str, is_caught: bool
) -> None:
    async def body() -> str:
        try:
            await timestep.run_agent(ENDING[what](), "go")
        except asyncio.CancelledError as error:
            if not is_caught:
                raise
            return f"caught {type(error).__name__}: {error} after {error.__context__!r}"
        raise AssertionError

    look_after(recorder())
    if is_caught:
        answer = app.run(body, workflow_id="w")
        assert answer.startswith("caught CancelledError")
        assert ("after KeyError('before')" in answer) == (what == "model")
        assert app.replay("w") == answer
    else:
        with pytest.raises(CancelledItselfError, match="nobody had cancelled it"):
            app.run(body, workflow_id="w")
        with pytest.raises(CancelledItselfError, match="nobody had cancelled it"):
            DBOS.retrieve_workflow("w").get_result(polling_interval_sec=0.02)
    assert MADE.count(what if what != "tool" else "job") == 1
    (run,) = app.rows("runs")
    assert (run["status"], run["error_type"]) == ("failed", "CancelledError")
