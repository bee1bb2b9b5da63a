"""Runs and calls side by side end in every replay in the order in which they first ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailTripwireTriggered,
    RunHooks,
    ToolGuardrailFunctionOutput,
    function_tool,
    tool_output_guardrail,
)
from agents.testing import assistant_message, function_call
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App
from tests.support.sibling_runs import (
    Consume,
    Team,
    Turns,
    as_completed,
    called_back,
    first_completed,
    gathered,
    of_team,
    queued,
)
from timestep import testing

DELAY = 0.01
"""Seconds, at most, that each step of a replay is held up."""


def replays(app: App, body: Callable[[], Coroutine[Any, Any, str]], *, times: int = 5) -> str:
    """What a workflow says, and each of its replays, whatever holds it up."""
    app.run(body, workflow_id="w")
    steps = app.steps("w")
    said = testing.assert_replays_sync("w", times=times, delay=DELAY)
    assert app.steps("w") == steps
    return str(said)


@pytest.mark.parametrize("consume", [as_completed, first_completed, queued, called_back])
def test_what_is_used_as_it_completes_is_used_alike(app: App, consume: Consume) -> None:
    said = replays(app, of_team(lambda: Team("four", "bad", "one", "two"), consume))
    assert said.startswith("after ['four!', 'no bad', 'one!', 'two!']!")
    rows = {row["input"]: row for row in app.rows("runs")}
    ends = [rows[name]["ends"] for name in ("four", "bad", "one", "two")]
    assert [which for [(which, _)] in ends] == [1, 2, 3, 4]
    assert ends == sorted(ends, key=lambda end: end[0][1])
    assert [rows[name]["begun_after"] for name in ("one", "two", "bad")] == [0, 0, 0]
    assert rows["more four!"]["begun_after"] == 4


def test_streams_that_are_read_side_by_side_end_alike(app: App) -> None:
    body = of_team(lambda: Team("two", "one", "four", stream=True), as_completed)
    assert replays(app, body).startswith("after ")


async def cut_off() -> str:
    team = Team("two", "one", "three")
    tasks = {name: asyncio.ensure_future(team.one(name)) for name in ("one", "two", "three")}
    done, pending = await asyncio.wait(tasks.values(), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(pending)
    # In a task, and so with numbers, of its own.
    return await asyncio.ensure_future(team.then([task.result() for task in done]))


def test_what_is_cut_off_when_the_first_completes_is_so_again(app: App) -> None:
    assert replays(app, cut_off) == "after ['two!']!"
    ends = {row["input"]: (row["status"], row["ends"][0][0]) for row in app.rows("runs")}
    assert ends["two"] == ("completed", 1)
    assert ends["one"][0] == ends["three"][0] == "cancelled"


@DBOS.step()
async def note(name: str) -> str:
    return name


async def chains() -> str:
    team = Team("a1", "a2", "b1", "b2")

    async def chain(name: str) -> str:
        first = await team.one(f"{name}1")
        await note(name)
        return f"{first} {await team.one(f'{name}2')}"

    # The workflow's own task draws the numbers of its steps.
    await team.one("first")
    tasks = [asyncio.ensure_future(chain(name)) for name in "ba"]
    return await team.then(await as_completed(tasks))


def test_runs_after_runs_side_by_side_begin_before_what_ended_later(app: App) -> None:
    """A chain takes a while from one run to the next: a step of DBOS's lies between them."""
    assert replays(app, chains) == "after ['a1! a2!', 'b1! b2!']!"


async def tripped() -> str:
    """Guardrails of runs side by side trip while their models are asked, or another tool runs."""
    team = Team("three", "one", "two")

    async def check(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        await team.turns.turn_of(str(given))
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=given != "two")

    team.agent.input_guardrails.append(InputGuardrail(check, name="no"))

    async def one(name: str) -> str:
        try:
            return await team.one(name)
        except InputGuardrailTripwireTriggered:
            await team.turns.over(name)
            return f"{name} tripped"

    tasks = [asyncio.ensure_future(one(name)) for name in ("one", "two", "three")]
    said = await as_completed(tasks)
    team.agent.input_guardrails.clear()
    return await team.then(said)


def test_runs_that_trip_side_by_side_end_alike(app: App) -> None:
    assert replays(app, tripped) == "after ['three tripped', 'one tripped', 'two!']!"


CALLS = ["a", "b", "c", "d"]


class Heard(RunHooks[Any]):
    """Writes down which tool ended."""

    def __init__(self) -> None:
        self.tools: list[str] = []

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.tools.append(tool.name)


def of_hooks(*, stream: bool, is_checked: bool) -> Callable[[], Coroutine[Any, Any, str]]:
    """A workflow that tells in which order its hooks heard of tools."""

    @tool_output_guardrail
    async def checks(data: Any) -> ToolGuardrailFunctionOutput:
        await asyncio.sleep(0)
        return ToolGuardrailFunctionOutput.allow()

    def tool(turns: Turns, name: str) -> Any:
        async def act() -> str:
            await turns.turn_of(name)
            await turns.over(name)
            if name == "b":
                raise ValueError("no")
            return name

        made = function_tool(act, name_override=name)
        if is_checked:
            made.tool_output_guardrails = [checks]
        return made

    async def body() -> str:
        turns, hooks = Turns("c", "a", "d", "b"), Heard()
        model = AnsweringModel(
            lambda items: (
                [assistant_message("done")]
                if outputs(items)
                else [function_call(name, {}, call_id=name) for name in CALLS]
            )
        )
        agent = Agent(name="A", model=model, tools=[tool(turns, name) for name in CALLS])
        await timestep.run_agent(agent, "go", stream=stream, hooks=hooks)
        return " ".join(hooks.tools)

    return body


@pytest.mark.parametrize("is_checked", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_hooks_hear_of_calls_in_the_order_in_which_they_ended(
    app: App, stream: bool, is_checked: bool
) -> None:
    """Also where a guardrail looks at each output before the hook does."""
    heard = replays(app, of_hooks(stream=stream, is_checked=is_checked))
    assert sorted(heard.split()) == CALLS
    positions = [row["end_position"] for row in app.rows("tool_calls", "end_position")]
    checks_of = [row["end_position"] for row in app.rows("tool_guardrail_results")]
    assert sorted(positions + checks_of) == list(range(1, 5 + 4 * is_checked))


def outcome(workflow_id: str) -> str:
    return str(DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02))


async def two_and_one() -> str:
    team = Team("two", "one")
    said = await as_completed([asyncio.ensure_future(team.one(name)) for name in ("one", "two")])
    return f"{said} {await team.then(said)}"


def test_forks_are_told_the_ends_before_them_in_their_order(app: App) -> None:
    said = app.run(two_and_one, workflow_id="w")
    for _ in range(3):
        fork = asyncio.run(timestep.fork_run("w", turn=1))
        assert outcome(fork) == said
    assert testing.assert_replays_sync(fork, times=3, delay=DELAY) == said


def test_who_takes_over_is_told_the_ends_before_in_their_order(app: App) -> None:
    is_dead = False
    asked = threading.Event()

    async def body() -> str:
        team = Team("two", "one")
        tasks = [asyncio.ensure_future(team.one(name)) for name in ("one", "two")]
        said = await as_completed(tasks)
        if not is_dead:
            asked.set()
            await asyncio.Event().wait()
        return f"{said} {await team.then(said)}"

    BODIES["w"] = body
    with SetWorkflowID("w"):
        app.started("w")
    assert asked.wait(60)
    with psycopg.connect(app.url) as connection:
        connection.execute(
            "UPDATE dbos.workflow_status SET owner_xid = 'gone', executor_id = 'gone', "
            "application_version = '0' WHERE workflow_uuid = 'w'"
        )
    is_dead = True
    timestep.resume_workflow_sync("w", from_checkpoint=True)
    assert outcome("w") == "['two!', 'one!'] after ['two!', 'one!']!"
    assert testing.assert_replays_sync("w", times=3, delay=DELAY) == outcome("w")


def test_what_an_earlier_version_recorded_is_replayed_as_it_comes(app: App) -> None:
    body = of_team(lambda: Team("one", "two", "bad", "four"), gathered)
    said = app.run(body, workflow_id="w")
    with psycopg.connect(app.url) as connection:
        connection.execute("UPDATE runs SET begun_after = NULL, ends = NULL")
    assert testing.assert_replays_sync("w", times=2, delay=DELAY) == said


def in_order(consume: Consume, *, stream: bool = False) -> Callable[[], Coroutine[Any, Any, str]]:
    return of_team(lambda: Team("four", "bad", "one", "two", stream=stream), consume)


WAYS = {
    "as completed": in_order(as_completed),
    "streamed": in_order(as_completed, stream=True),
    "first completed": in_order(first_completed),
    "queued": in_order(queued),
    "called back": in_order(called_back),
    "cut off": cut_off,
    "chains": chains,
    "tripped": tripped,
    "hooks": of_hooks(stream=False, is_checked=True),
    "hooks of streams": of_hooks(stream=True, is_checked=False),
}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS)
def test_none_of_a_thousand_replays_differs(app: App, way: str) -> None:
    replays(app, WAYS[way], times=1000 // len(WAYS))
