"""The run that both languages know; `project/scenario.mjs` has the same."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from agents import Agent, RunConfig, RunContextWrapper, Runner, RunState, function_tool
from agents.testing import assistant_message, function_call

from tests.support.conversational_model import AnsweringModel, outputs
from timestep import DatabaseRunStateStore

CONTEXT = {"user": "ada"}
BOTH = ("deploy", "erase")
_QUIET = RunConfig(tracing_disabled=True)


def _turns() -> list[list[Any]]:
    return [
        [function_call("transfer_to_worker", {}, call_id="call_0")],
        [
            function_call("note", {"text": "hi"}, call_id="call_1"),
            function_call("deploy", {"size": 1.5, "copies": 2}, call_id="call_2"),
            function_call("erase", {"path": "/é"}, call_id="call_3"),
        ],
        [assistant_message("all done")],
    ]


class Recording(AnsweringModel):
    """Keeps what it was asked last."""

    def __init__(self, turns: list[list[Any]]) -> None:
        super().__init__(self._recorded)
        self.turns = turns
        self.given: list[Any] = []

    def _recorded(self, items: list[Any]) -> list[Any]:
        self.given = items
        return self.turns[min(len(outputs(items)), len(self.turns) - 1)]


def _effect(name: str, context: RunContextWrapper[Any]) -> None:
    with Path(os.environ["EFFECTS"]).open("a") as file:
        file.write(f"python {name} {context.context['user']}\n")


def agents() -> tuple[Agent[Any], Recording]:
    """The agent that a run starts with, and the model of both."""

    @function_tool
    def note(context: RunContextWrapper[Any], text: str) -> str:
        _effect("note", context)
        return "noted"

    @function_tool(needs_approval=True)
    def deploy(context: RunContextWrapper[Any], size: float, copies: int) -> dict[str, float]:
        _effect("deploy", context)
        return {"deployed": size}

    @function_tool(needs_approval=True)
    def erase(context: RunContextWrapper[Any], path: str) -> str:
        _effect("erase", context)
        return "erased"

    model = Recording(_turns())
    worker = Agent[Any](name="worker", model=model, tools=[note, deploy, erase])
    return Agent[Any](name="triage", model=model, handoffs=[worker]), model


def nested_agents() -> tuple[Agent[Any], Recording]:
    """An agent that asks for an approval within the run of another, which is its tool."""

    @function_tool(needs_approval=True)
    def dig(context: RunContextWrapper[Any], depth: int) -> str:
        _effect("dig", context)
        return "gold"

    dug = [function_call("dig", {"depth": 3}, call_id="call_2")]
    miner = Agent[Any](
        name="miner", model=Recording([dug, [assistant_message("found gold")]]), tools=[dig]
    )
    mined = [function_call("mine", {"input": "gold"}, call_id="call_1")]
    model = Recording([mined, [assistant_message("rich")]])
    return Agent[Any](name="boss", model=model, tools=[miner.as_tool("mine", "")]), model


async def interrupted(
    agent: Agent[Any], context: Any = None, decided: Collection[str] = BOTH
) -> RunState[Any]:
    """The state of a new run that has asked for both approvals."""
    result = await Runner.run(agent, "go", context=context or dict(CONTEXT), run_config=_QUIET)
    state = result.to_state()
    decide(state, decided)
    return state


def decide(state: RunState[Any], which: Collection[str] = BOTH) -> None:
    for asked in state.get_interruptions():
        if asked.name not in which:
            continue
        if asked.name != "erase":
            state.approve(asked)
        else:
            state.reject(asked, rejection_message="not that path")


async def finished(agent: Agent[Any], model: Recording, state: RunState[Any]) -> dict[str, Any]:
    """What there is to say of the run when it is over; the JavaScript answers the same."""
    result = await Runner.run(agent, state, run_config=_QUIET)
    usage = result.context_wrapper.usage
    return {
        "state": result.to_state(),
        "output": result.final_output,
        "agent": result.last_agent.name,
        "usage": {
            "requests": usage.requests,
            "total_tokens": usage.total_tokens,
            "cached_tokens": usage.input_tokens_details.cached_tokens,
            "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
        },
        "asked": model.asked,
        "outputs": outputs(model.given),
        "items": [found.get("type", "message") for found in model.given],
    }


def _store(agent: Agent[Any], url: str, names: dict[str, str]) -> DatabaseRunStateStore:
    run_id, session_id = names.get("run_id"), names.get("session_id")
    return DatabaseRunStateStore(agent, run_id=run_id, session_id=session_id, connection_string=url)


async def start(
    url: str, decided: Collection[str] = BOTH, *, nested: bool = False, **names: str
) -> str:
    """Save the state of a new run; the id of its row."""
    agent, _ = nested_agents() if nested else agents()
    async with _store(agent, url, names) as store:
        await store.save(await interrupted(agent, decided=decided))
        return str(store.run_id)


async def finish(
    url: str, decided: Collection[str] = BOTH, *, nested: bool = False, **names: str
) -> dict[str, Any]:
    """Load a state, go on with it to the end, and save that."""
    agent, model = nested_agents() if nested else agents()
    async with _store(agent, url, names) as store:
        state = await store.load()
        decide(state, decided)
        told = await finished(agent, model, state)
        await store.save(told["state"])
        return {**told, "runId": store.run_id}


async def load(url: str, **names: str) -> RunState[Any]:
    agent, _ = agents()
    async with _store(agent, url, names) as store:
        return await store.load()
