"""Calls side by side: whichever ends first, a run and its replays come to the same."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    ModelSettings,
    ToolGuardrailFunctionOutput,
    function_tool,
    input_guardrail,
    output_guardrail,
    tool_input_guardrail,
    tool_output_guardrail,
)
from agents.testing import assistant_message, function_call
from dbos import DBOS

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App, run_it
from timestep import testing
from timestep.dbos_internals import control_errors, executions, workflow_scope
from timestep.journal.recorder import Recorder

DELAY = 0.004
"""Seconds, at most, that a tool or a guardrail takes here."""

chance = random.Random(7)
made: list[str] = []


async def pause() -> None:
    await asyncio.sleep(chance.uniform(0, DELAY))


class Broken(Exception):
    """Raised by tools."""


@function_tool
async def plain(n: int) -> str:
    await pause()
    made.append(f"plain {n}")
    return f"plain {n}"


@function_tool(needs_approval=True)
async def asks(n: int) -> str:
    await pause()
    made.append(f"asks {n}")
    return f"asked {n}"


@tool_input_guardrail
async def only_odd(data: Any) -> ToolGuardrailFunctionOutput:
    await pause()
    if '"n": 0' in data.context.tool_arguments or '"n": 2' in data.context.tool_arguments:
        return ToolGuardrailFunctionOutput.reject_content("not an odd one")
    return ToolGuardrailFunctionOutput.allow()


@tool_output_guardrail
async def fine(data: Any) -> ToolGuardrailFunctionOutput:
    await pause()
    return ToolGuardrailFunctionOutput.allow()


@function_tool(tool_input_guardrails=[only_odd], tool_output_guardrails=[fine])
async def guarded(n: int) -> str:
    await pause()
    made.append(f"guarded {n}")
    return f"guarded {n}"


@function_tool(needs_approval=True, tool_input_guardrails=[only_odd])
async def both(n: int) -> str:
    await pause()
    made.append(f"both {n}")
    return f"both {n}"


@function_tool
async def fails(n: int) -> str:
    await pause()
    made.append(f"fails {n}")
    raise Broken(f"number {n}")


@function_tool(failure_error_function=None)
async def fatal(n: int) -> str:
    await pause()
    made.append(f"fatal {n}")
    raise Broken(f"number {n}")


inner = Agent(
    name="Inner",
    model=AnsweringModel(
        lambda items: (
            [assistant_message("inner")]
            if outputs(items)
            else [function_call("plain", {"n": 9}, call_id="i1")]
        )
    ),
    tools=[plain],
)


@function_tool
async def team(n: int) -> str:
    await pause()

    async def member(name: str) -> str:
        await pause()
        return str((await timestep.DurableRunner.run(inner, name)).final_output)

    return " ".join(await asyncio.gather(*(member(f"{n} {m}") for m in "abc")))


@input_guardrail
async def first_look(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    await pause()
    return GuardrailFunctionOutput(output_info="first", tripwire_triggered=False)


@input_guardrail
async def second_look(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    await pause()
    return GuardrailFunctionOutput(output_info="second", tripwire_triggered=False)


@output_guardrail
async def short(ctx: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
    await pause()
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


@output_guardrail
async def kind(ctx: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
    await pause()
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


KINDS = ("plain", "asks", "guarded", "both", "fails", "fatal", "transfer_to_closer", "team")


def batch(source: random.Random) -> list[str]:
    size = source.randint(2, 6)
    weights = [6, 3, 4, 3, 3, 1, 1, 2]
    return source.choices(KINDS, weights, k=size)


def agent_of(turns: list[list[str]]) -> Agent[Any]:
    """An agent that calls each turn's tools at once, and then tells their outputs."""

    def answer(items: list[Any]) -> list[Any]:
        done = outputs(items)
        for turn, names in enumerate(turns):
            ids = [f"t{turn}c{index}" for index in range(len(names))]
            if not set(ids) <= done.keys() | told(items):
                return [
                    function_call(
                        name, {} if name.startswith("transfer") else {"n": index}, call_id=id_
                    )
                    for index, (name, id_) in enumerate(zip(names, ids, strict=True))
                ]
        return [assistant_message(" / ".join(f"{k}={done[k]}" for k in sorted(done)))]

    def told(items: list[Any]) -> set[str]:
        return {i["call_id"] for i in items if i.get("type") == "function_call"}

    closer = Agent(
        name="Closer",
        model=AnsweringModel(
            lambda items: [
                assistant_message(" ".join(f"{k}={v}" for k, v in sorted(outputs(items).items())))
            ]
        ),
        output_guardrails=[short, kind],
    )
    return Agent(
        name="Parallel",
        model=AnsweringModel(answer),
        model_settings=ModelSettings(parallel_tool_calls=True),
        tools=[plain, asks, guarded, both, fails, fatal, team],
        handoffs=[closer],
        input_guardrails=[first_look, second_look],
        output_guardrails=[short, kind],
    )


@pytest.fixture
def person(app: App) -> Iterator[None]:
    """Decides whatever is asked: of two calls, the first is approved."""
    ended = threading.Event()

    async def decide() -> None:
        while not ended.is_set():
            for asked in await timestep.list_interruptions():
                odd = str(asked.call_id)[-1] in "13579"
                choice: dict[str, Any] = {"reject": [asked.id]} if odd else {"approve": [asked.id]}
                await timestep.resume_workflow(str(asked.workflow_id), **choice)
            await asyncio.sleep(0.01)

    thread = threading.Thread(target=lambda: asyncio.run(decide()))
    thread.start()
    yield
    ended.set()
    thread.join()


def body_of(agent: Agent[Any], *, stream: bool = False) -> str:
    """The key of a workflow that runs the agent, and tells what came of it."""

    async def body() -> str:
        try:
            result = await timestep.run_agent(agent, "go", stream=stream)
        except Exception as error:  # noqa: BLE001  # told, and compared
            return f"{type(error).__name__}: {error}"
        return f"{result.last_agent.name}: {result.final_output}"

    key = f"parallel-{id(agent)}-{stream}"
    BODIES[key] = body
    return key


def turns_of(seed: int) -> list[list[str]]:
    source = random.Random(seed)
    return [batch(source) for _ in range(source.randint(1, 2))]


@pytest.mark.parametrize(
    "seeds", [range(4), *(pytest.param(range(n, n + 4), marks=pytest.mark.long) for n in (4, 8))]
)
def test_any_batch_replays_the_same(app: App, person: None, seeds: range) -> None:
    """Traps 1 and 2: numbers by timing, and calls that wait for one that is never made."""
    for seed in seeds:
        key = body_of(agent_of(turns_of(seed)), stream=bool(seed % 2))
        testing.assert_replays_sync(run_it, key, times=5, delay=DELAY, seed=seed)


class Deaths:
    """Lets an execution come to a stop after some of its commits, as if its process died."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        self.commits = 0
        self.died = threading.Event()
        self.taken_over = threading.Event()
        self._dead: set[str] = set()
        commit = Recorder.commit

        async def committed(recorder: Recorder, owner: Any, *args: Any, **given: Any) -> None:
            if owner.token in self._dead:
                await self._lost(owner)
            await commit(recorder, owner, *args, **given)
            self.commits += 1
            if self.commits == self.left:
                self._dead.add(owner.token)
                self.died.set()
                await self._lost(owner)

        monkeypatch.setattr(Recorder, "commit", committed)

    async def _lost(self, owner: workflow_scope.Owner) -> None:
        """Do nothing more until another execution has taken over, and then end."""
        await asyncio.to_thread(self.taken_over.wait)
        raise control_errors.lost(owner, "PENDING")

    def after(self, commits: int) -> None:
        self.left, self.commits = commits, 0
        self.died.clear()
        self.taken_over.clear()


def recovered(app: App, key: str, deaths: Deaths, commits: int) -> tuple[Any, int]:
    """The handle of a workflow that dies after some commits and is executed again.

    And how many calls were open when it died.
    """
    deaths.after(commits)
    handle = DBOS.start_workflow(run_it, key)
    workflow_id = handle.get_workflow_id()
    assert deaths.died.wait(60)
    token = f"after {commits} of {workflow_id}"
    app.execute(
        "UPDATE dbos.workflow_status SET owner_xid = %s WHERE workflow_uuid = %s",
        (token, workflow_id),
    )
    # Only now is none opened any more: a commit of another step may have been under way.
    open_calls = sum(row["completed_at"] is None for row in app.rows("tool_calls"))
    deaths.taken_over.set()
    executions.execute_again(workflow_id, token)
    return handle, open_calls


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 6), marks=pytest.mark.long)])
def test_any_batch_goes_on_from_a_partial_record(
    app: App, person: None, monkeypatch: pytest.MonkeyPatch, seeds: range
) -> None:
    deaths = Deaths(monkeypatch)
    handles = []
    for seed in seeds:
        turns = [[name for name in turn if name != "fatal"] for turn in turns_of(seed)]
        key = body_of(agent_of(turns), stream=bool(seed % 2))
        deaths.after(-1)
        made.clear()
        said = testing.assert_replays_sync(run_it, key)
        effects, commits = len(made), deaths.commits
        for stop in random.Random(seed).sample(range(1, commits), 2):
            made.clear()
            handle, open_calls = recovered(app, key, deaths, stop)
            handles.append(handle)
            id_ = handle.get_workflow_id()
            assert testing.assert_replays_sync(id_, delay=DELAY) == said
            assert effects <= len(made) <= effects + open_calls, (seed, stop)
    for handle in handles:
        # The execution that died waits for the result of the other.
        handle.get_result(polling_interval_sec=0.02)
