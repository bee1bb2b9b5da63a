"""An ended run is freed at once.

What is left in circles waits for a whole collection of garbage, which looks at everything there
is, and comes the more often the more waits for it. What something else holds stays for good.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from agents import Agent, ModelResponse, RunContextWrapper, RunHooks, function_tool
from agents.exceptions import UserError
from agents.items import RunItemBase
from agents.result import RunResultBase
from agents.testing import ScriptedModel, assistant_message, function_call

import timestep
from tests.support.dbos_app import App
from tests.support.passing_time import HOUR, pass_time
from timestep import errors
from timestep.execution.run import Run

Body = Callable[[], Awaitable[str]]


def there() -> Counter[type]:
    """How many objects of runs there are, also those that wait for a collection."""
    kinds = (Run, RunResultBase, RunContextWrapper, RunItemBase, ModelResponse)
    return Counter(type(each) for each in gc.get_objects() if isinstance(each, kinds))


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@function_tool
async def look(name: str) -> str:
    return name


def asking() -> Agent[Any]:
    script = [
        [function_call("look", {"name": "a"}, call_id="1")],
        [function_call("look", {"name": "b"}, call_id="2")],
        [assistant_message("done")],
    ]
    return Agent("A", model=ScriptedModel(script), tools=[look])


async def plain() -> str:
    return str((await timestep.DurableRunner.run(asking(), "go")).final_output)


async def hooked() -> str:
    hooks, context = RunHooks[Any](), {"a": 1}
    result = await timestep.DurableRunner.run(asking(), "go", hooks=hooks, context=context)
    return str(result.final_output)


async def nested() -> str:
    script = [[function_call("inner", {"input": "x"}, call_id="o")], [assistant_message("done")]]
    inner = asking().as_tool("inner", "asks")
    outer = Agent("Outer", model=ScriptedModel(script), tools=[inner])
    return str((await timestep.DurableRunner.run(outer, "go")).final_output)


async def streamed() -> str:
    result = timestep.DurableRunner.run_streamed(asking(), "go")
    async for _ in result.stream_events():
        pass
    return str(result.final_output)


@function_tool(failure_error_function=None)
async def fail(name: str) -> str:
    raise ValueError(name)


@function_tool
async def hang(name: str) -> str:
    pass_time()
    await asyncio.Event().wait()
    return name


@function_tool(needs_approval=True)
async def pay(name: str) -> str:
    return name


def calling(tool: Any) -> Agent[Any]:
    model = ScriptedModel([[function_call(tool.name, {"name": "a"}, call_id="1")]])
    return Agent("A", model=model, tools=[tool])


async def failed() -> str:
    with pytest.raises(UserError):
        await timestep.DurableRunner.run(calling(fail), "go")
    return "done"


async def timed_out() -> str:
    with pytest.raises(errors.RunTimeoutError):
        await timestep.DurableRunner.run(calling(hang), "go", timeout=HOUR)
    return "done"


async def cut_off() -> str:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(timestep.DurableRunner.run(calling(hang), "go"), HOUR)
    return "done"


async def stopped() -> str:
    result = timestep.DurableRunner.run_streamed(asking(), "go")
    async for event in result.stream_events():
        if event.type == "run_item_stream_event":
            result.cancel()
    return "done"


async def interrupted() -> str:
    result = await timestep.DurableRunner.run(calling(pay), "go")
    assert len(result.interruptions) == 1
    return "done"


@pytest.mark.parametrize("body", [plain, hooked, nested])
@pytest.mark.usefixtures("uncollected")
def test_an_ended_run_is_freed_without_a_collection(app: App, body: Body) -> None:
    before = there()
    assert app.run(body, workflow_id="w") == "done"
    # What ends besides the run, a thread's work, may hold it a moment longer.
    app.until(lambda: not there() - before)


@pytest.mark.parametrize("body", [streamed, failed, timed_out, cut_off, stopped, interrupted])
@pytest.mark.usefixtures("uncollected")
def test_nothing_keeps_a_run_however_it_ended(app: App, body: Body) -> None:
    before = there()
    assert app.run(body, workflow_id="w") == "done"

    def is_freed() -> bool:
        gc.collect()  # The SDK has its streamed results in circles.
        return not there() - before

    app.until(is_freed)
