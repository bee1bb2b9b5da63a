"""The runs of the crash matrix that have runs inside them, with a question in the innermost."""

from __future__ import annotations

import asyncio
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    ModelResponse,
    Runner,
    function_tool,
    input_guardrail,
)
from agents.testing import assistant_message, function_call
from dbos import DBOS

import timestep
from tests.crash import scenarios


def _calls(name: str, *calls: tuple[str, dict[str, Any]]) -> scenarios.AnsweringModel:
    """A model that asks for these calls at once, and tells their scenarios.outputs."""
    return scenarios.AnsweringModel(
        name,
        lambda items: (
            [assistant_message(f"{name}: {' / '.join(scenarios.outputs(items).values())}")]
            if scenarios.outputs(items)
            else [
                function_call(tool, arguments, call_id=f"{name}{index}")
                for index, (tool, arguments) in enumerate(calls)
            ]
        ),
    )


innermost = Agent(
    name="Innermost", model=_calls("innermost", ("delete", {"name": "x"})), tools=[scenarios.delete]
)
middle = Agent(
    name="Middle",
    model=_calls("middle", ("innermost", {"input": "x"})),
    tools=[innermost.as_tool("innermost", "Deletes.")],
)
outermost = Agent(
    name="Outermost",
    model=_calls("outermost", ("middle", {"input": "x"})),
    tools=[middle.as_tool("middle", "Delegates.")],
)


@DBOS.workflow()
async def deep(given: str) -> str:
    return str((await timestep.run_agent(outermost, given)).final_output)


def _tells(name: str, *calls: tuple[str, dict[str, Any]]) -> scenarios.AnsweringModel:
    """A model that tells the calls as it is shown them, with what came of them."""

    def answer(items: list[Any]) -> list[Any]:
        found = scenarios.outputs(items)
        shown = [i["arguments"] for i in items if i.get("type") == "function_call"]
        if found:
            told = " / ".join(map(": ".join, zip(shown, found.values(), strict=True)))
            return [assistant_message(f"{name}: {told}")]
        return [
            function_call(tool, arguments, call_id=f"{name}{index}")
            for index, (tool, arguments) in enumerate(calls)
        ]

    return scenarios.AnsweringModel(name, answer)


clerk = Agent(
    name="Clerk", model=_tells("clerk", ("delete", {"name": "x"})), tools=[scenarios.delete]
)
office = Agent(
    name="Office",
    model=_tells("office", ("clerk", {"input": "x"}), ("delete", {"name": "y"})),
    tools=[clerk.as_tool("clerk", "Deletes."), scenarios.delete],
)


@DBOS.workflow()
async def edited(given: str) -> str:
    session = timestep.DatabaseSession("files")
    first = (await timestep.run_agent(office, given, session)).final_output
    kept: list[Any] = list(await session.get_items())
    told = [item["arguments"] for item in kept if item.get("type") == "function_call"]
    return f"{first} | {told}"


judge = Agent(
    name="Judge", model=_calls("judge", ("look_up", {"city": "Oslo"})), tools=[scenarios.look_up]
)


@input_guardrail(run_in_parallel=False)
async def judged(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    said = (await Runner.run(judge, str(given))).final_output
    return GuardrailFunctionOutput(output_info=said, tripwire_triggered=False)


defendant = Agent(
    name="Defendant",
    model=scenarios.AnsweringModel("defendant", lambda items: [assistant_message("not guilty")]),
    input_guardrails=[judged],
)


@DBOS.workflow()
async def guarded_by_agent(given: str) -> str:
    return str((await timestep.DurableRunner.run(defendant, given)).final_output)


class LeaderModel(scenarios.AnsweringModel):
    """Answers what it is asked; what is slow, when a quick run has ended."""

    def __init__(self, is_quick_over: asyncio.Event) -> None:
        super().__init__("leader", lambda items: [])
        self.is_quick_over = is_quick_over

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        asked = kwargs["input"]
        text = asked if isinstance(asked, str) else asked[-1]["content"]
        if text.startswith("slow"):
            await self.is_quick_over.wait()
        self.name = f"leader {text}"
        self.answer = lambda _: [assistant_message(text)]
        return await super().get_response(*args, **kwargs)


async def _as_completed(place: str) -> str:
    """Two runs that are used as they complete, and one that is told of it."""
    is_quick_over = asyncio.Event()
    agent = Agent(name="Leader", model=LeaderModel(is_quick_over))

    async def one(name: str) -> str:
        said = str((await timestep.DurableRunner.run(agent, f"{name} {place}")).final_output)
        if name == "quick":
            is_quick_over.set()
        return said

    tasks = [asyncio.ensure_future(one(name)) for name in ("slow", "quick")]
    said = [await next_one for next_one in asyncio.as_completed(tasks)]
    return str((await timestep.DurableRunner.run(agent, f"after {said}")).final_output)


@function_tool
async def both() -> str:
    return await _as_completed("inside")


overseer = Agent(name="Overseer", model=_calls("overseer", ("both", {})), tools=[both])


@DBOS.workflow()
async def as_completed(given: str) -> str:
    outside = await _as_completed("outside")
    return f"{outside} / {(await timestep.run_agent(overseer, given)).final_output}"
