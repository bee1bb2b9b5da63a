"""An agent whose run stops with questions, and whoever takes it up can finish rightly."""

from __future__ import annotations

from typing import Any

from agents import Agent, Runner, RunState, function_tool
from agents.testing import assistant_message, function_call

from tests.support.conversational_model import AnsweringModel, outputs

made: list[str] = []
"""The calls that were made, by what they were about."""


@function_tool(needs_approval=True)
def delete(name: str) -> str:
    made.append(name)
    return f"deleted {name}"


@function_tool
def look(name: str) -> str:
    made.append(name)
    return f"saw {name}"


def deleter(name: str = "Deleter", **options: Any) -> Agent[Any]:
    """Looks at one thing, asks to delete two, and tells what came of it."""

    def answer(items: list[Any]) -> list[Any]:
        found = outputs(items)
        if found:
            return [assistant_message(" | ".join(f"{k}: {v}" for k, v in sorted(found.items())))]
        return [
            function_call("look", {"name": "a"}, call_id="c0"),
            function_call("delete", {"name": "b"}, call_id="c1"),
            function_call("delete", {"name": "c"}, call_id="c2"),
        ]

    return Agent(name=name, model=AnsweringModel(answer), tools=[delete, look], **options)


def nested(depth: int) -> Agent[Any]:
    """An agent that asks through so many others, each a tool of the one before."""
    inner: Agent[Any] = deleter()
    for level in range(depth):

        def answer(items: list[Any], level: int = level) -> list[Any]:
            if found := outputs(items):
                return [assistant_message(f"{level}: {', '.join(found.values())}")]
            return [function_call("ask", {"input": "tidy up"}, call_id=f"ask-{level}")]

        tool = inner.as_tool("ask", "asks another")
        inner = Agent(name=f"Asks{level}", model=AnsweringModel(answer), tools=[tool])
    return inner


def handing_off() -> Agent[Any]:
    """An agent that hands off to the one that asks, which could hand back."""
    last = deleter()
    hands_off = [function_call("transfer_to_deleter", {}, call_id="h")]
    first = Agent(name="First", model=AnsweringModel(lambda items: hands_off), handoffs=[last])
    last.handoffs.append(first)
    model = last.model
    assert isinstance(model, AnsweringModel)
    last.model = AnsweringModel(
        lambda items: model.answer([item for item in items if item.get("call_id") != "h"])
    )
    return first


async def stopped(agent: Agent[Any], **options: Any) -> RunState[Any]:
    """The state of a run that stopped, outside any workflow."""
    result = await Runner.run(agent, "tidy up", **options)
    assert len(result.interruptions) == 2
    return result.to_state()


def decide(state: RunState[Any]) -> None:
    """Approve the first call that is asked about, and reject the others."""
    first, *others = state.get_interruptions()
    state.approve(first)
    for other in others:
        state.reject(other, rejection_message="not that one")


TOLD = "c0: saw a | c1: deleted b | c2: not that one"
"""What the agent says once that is decided."""
