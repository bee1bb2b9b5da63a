"""DBOS's own operations beside each other, and beside runs, end in a replay as they first ended."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import pytest
import sqlalchemy as sa
from agents import Agent, RunHooks, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, SetWorkflowID, WorkflowHandleAsync
from dbos._sys_db import SystemDatabase

import timestep
from tests.support.dbos_app import App
from tests.support.sibling_runs import Consume, Team, Turns, as_completed, called_back, queued
from timestep import testing
from timestep.dbos_internals import process
from timestep.dbos_internals.ends import told_in_order
from timestep.dbos_internals.step_numbers import Keeping
from timestep.execution import identity

TURNS: list[Turns] = []
"""Those of the test; a child workflow is given nothing that is no JSON."""


@DBOS.step()
async def stepped(name: str) -> str:
    await TURNS[-1].turn_of(name)
    return f"{name}!"


@DBOS.workflow()
async def child(name: str) -> str:
    return await stepped(name)


async def by_step(name: str) -> str:
    return await stepped(name)


async def by_name(name: str) -> str:
    return await DBOS.run_step_async({"name": f"step {name}"}, stepped, name)


async def by_child(name: str) -> str:
    return await child(name)


async def by_handle(name: str) -> str:
    handle = await DBOS.start_workflow_async(child, name)
    return await handle.get_result(polling_interval_sec=0.01)


async def by_id(name: str) -> str:
    handle = await DBOS.start_workflow_async(child, name)
    return str(await DBOS.get_result_async(handle.workflow_id))


WAYS = [by_step, by_name, by_child, by_handle, by_id]


@pytest.fixture(autouse=True)
def installed() -> None:
    timestep.install()


def replays(app: App, body: Callable[[], Coroutine[Any, Any, str]], *, times: int = 4) -> str:
    app.run(body, workflow_id="w")
    steps = app.steps("w")
    said = testing.assert_replays_sync("w", times=times, delay=0.005)
    assert app.steps("w") == steps
    return str(said)


def beside(
    way: Callable[[str], Awaitable[str]], consume: Consume
) -> Callable[[], Coroutine[Any, Any, str]]:
    async def body() -> str:
        team = Team("three", "run", "one", "two")
        TURNS[:] = [team.turns]

        async def one(name: str) -> str:
            said = await way(name)
            await team.turns.over(name)
            return said

        tasks = [asyncio.ensure_future(one(name)) for name in ("one", "two", "three")]
        tasks.insert(1, asyncio.ensure_future(team.one("run")))
        said = await consume(tasks)
        return await team.then(said)

    return body


@pytest.mark.parametrize("way", WAYS)
def test_what_is_used_as_it_completes_is_used_alike(
    app: App, way: Callable[[str], Awaitable[str]]
) -> None:
    said = replays(app, beside(way, as_completed))
    assert said == "after ['three!', 'run!', 'one!', 'two!']!"


@pytest.mark.parametrize("consume", [queued, called_back])
def test_queues_and_callbacks_are_told_alike(app: App, consume: Consume) -> None:
    said = replays(app, beside(by_step, consume), times=2)
    assert said == "after ['three!', 'run!', 'one!', 'two!']!"


async def chains() -> str:
    """Two chains of steps, whose later steps have the numbers that come next."""
    team = Team("b1", "b2", "a1", "a2")
    TURNS[:] = [team.turns]

    async def chain(name: str) -> str:
        said = []
        for number in (1, 2):
            said.append(await stepped(f"{name}{number}"))
            await team.turns.over(f"{name}{number}")
        return " ".join(said)

    tasks = [asyncio.ensure_future(chain(name)) for name in "ab"]
    return await team.then(await as_completed(tasks))


def test_steps_after_steps_side_by_side_have_the_same_numbers(app: App) -> None:
    assert replays(app, chains) == "after ['b1! b2!', 'a1! a2!']!"


async def set_event() -> None:
    await DBOS.set_event_async("progress", 1)


async def send() -> None:
    await DBOS.send_async(str(DBOS.workflow_id), "m", "t")


async def write_stream() -> None:
    await DBOS.write_stream_async("said", "a")


async def ask_status() -> None:
    handle: WorkflowHandleAsync[Any] = await DBOS.retrieve_workflow_async(
        str(DBOS.workflow_id), existing_workflow=False
    )
    await handle.get_status()


async def ask_all() -> None:
    await DBOS.list_workflows_async(limit=1)
    await DBOS.get_all_events_async(str(DBOS.workflow_id))


async def ask_more() -> None:
    await DBOS.retrieve_workflow_async(str(DBOS.workflow_id))
    await DBOS.list_queued_workflows_async(limit=1)
    await DBOS.list_workflow_steps_async("nobody")


async def administer() -> None:
    await DBOS.update_workflow_attributes_async(str(DBOS.workflow_id), {"told": 1})
    await DBOS.resume_workflows_async(["forked"])
    await DBOS.set_workflow_delay_async(str(DBOS.workflow_id), delay_seconds=1)


async def fork() -> None:
    await DBOS.fork_workflow_async("forked", 1, queue_name="nobody's")


@pytest.mark.parametrize(
    "tell",
    [set_event, send, write_stream, ask_status, ask_all, ask_more, administer, fork],
)
def test_steps_after_what_is_told_and_asked_have_the_same_numbers(
    app: App, tell: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here what is told is looked up so slowly in a replay that the step beside it is sooner."""
    look_up = SystemDatabase._check_operation_execution_txn

    def slowly(
        system: Any, workflow_id: str, number: int, name: str, *given: Any, **options: Any
    ) -> Any:
        if name.startswith("DBOS."):
            time.sleep(0.02)
        return look_up(system, workflow_id, number, name, *given, **options)

    monkeypatch.setattr(SystemDatabase, "_check_operation_execution_txn", slowly)

    async def body() -> str:
        team = Team("told", "one")
        TURNS[:] = [team.turns]
        with SetWorkflowID("forked"):
            await empty()

        async def telling() -> str:
            for _ in range(3):
                await tell()
            await team.turns.over("told")
            return await stepped("after")

        async def stepping() -> str:
            return await stepped("one") + await stepped("two")

        tasks = [asyncio.ensure_future(one()) for one in (stepping, telling)]
        return await team.then(await as_completed(tasks))

    assert replays(app, body, times=1).startswith("after [")


async def chain_beside_runs() -> str:
    """The body awaits a run, and another one, while a task of its makes steps after steps.

    Neither tells the other how far it has come, and both would draw the workflow's next number.
    """
    team = Team()
    TURNS[:] = [team.turns]

    async def chain() -> list[str]:
        return [await by_child(name) if name == "c" else await stepped(name) for name in "abcd"]

    going_on = asyncio.ensure_future(chain())
    said = [await team.one("first"), await stepped("between"), await team.one("second")]
    return await team.then([*said, *await going_on, await stepped("last")])


def test_a_chain_of_steps_beside_the_bodys_runs_has_the_same_numbers(app: App) -> None:
    said = replays(app, chain_beside_runs, times=8)
    assert said == "after ['first!', 'between!', 'second!', 'a!', 'b!', 'c!', 'd!', 'last!']!"


def numbers(app: App) -> list[int]:
    found = app.execute(
        "SELECT function_id FROM dbos.operation_outputs WHERE workflow_uuid = 'w' "
        "ORDER BY function_id"
    )
    return [number for (number,) in found.fetchall()]


def test_runs_that_nothing_goes_on_beside_leave_no_gap(app: App) -> None:
    """What they have kept and not drawn is drawn by what comes after."""

    async def body() -> str:
        TURNS[:] = [Team().turns]
        said = [await Team().one("first"), await stepped("between"), await Team().one("bad")]
        return await Team().then([*said, await stepped("last")])

    replays(app, body, times=1)
    assert numbers(app)[-1] == 8


def test_what_an_earlier_version_recorded_goes_on_with_its_numbers(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs drew the workflow's own numbers, and so did a step beside one."""

    async def body() -> str:
        team = Team("beside", "first")
        TURNS[:] = [team.turns]
        beside = asyncio.ensure_future(stepped("beside"))
        beside.add_done_callback(lambda _: asyncio.ensure_future(team.turns.over("beside")))
        return await team.then([await team.one("first"), await beside])

    with monkeypatch.context() as earlier:
        earlier.setattr(identity, "Keeping", lambda ask, _: Keeping(ask, False))
        app.run(body, workflow_id="w")
    assert numbers(app)[-1] < 10
    assert app.rows("runs")[0]["metadata"] == {"after_step": 0}
    app.replay("w")


def test_a_run_that_waits_for_people_keeps_its_numbers(app: App) -> None:
    """A replay has the decision at once: the run goes on sooner than the chain beside it."""
    goes_on: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    class Going(RunHooks[Any]):
        async def on_tool_end(self, *_: Any) -> None:
            goes_on[-1][1].set()

    @function_tool(needs_approval=True)
    async def act() -> str:
        return "acted"

    model = ScriptedModel([[function_call("act", {}, call_id="c")], [assistant_message("done")]])
    agent = Agent("A", model=model, tools=[act])

    async def body() -> str:
        TURNS[:] = [Team().turns]
        goes_on.append((asyncio.get_running_loop(), asyncio.Event()))

        async def chain() -> list[str]:
            said = [await stepped("a")]
            await goes_on[-1][1].wait()
            return [*said, await stepped("b"), await stepped("c")]

        going_on = asyncio.ensure_future(chain())
        result = await timestep.run_agent(agent, "hi", hooks=Going())
        return f"{result.final_output} {await going_on} {await stepped('last')}"

    done: Future[str] = Future()
    start = threading.Thread(target=lambda: done.set_result(app.run(body, "w")), daemon=True)
    start.start()
    app.until(lambda: app.rows("interruptions"))
    ((loop, may_go_on),) = goes_on
    loop.call_soon_threadsafe(may_go_on.set)
    app.until(lambda: app.steps("w").count(stepped.__qualname__) > 2)
    asyncio.run(timestep.resume_workflow("w", approve="all"))
    assert done.result(60) == "done ['a!', 'b!', 'c!'] last!"
    start.join()
    assert app.replay("w") == done.result()


async def results_beside_a_run() -> str:
    """DBOS draws the number of a child's result when the child has ended; here it is drawn before.

    So the numbers of the run that goes on meanwhile do not depend on when that is.
    """
    team = Team("early", "run", "late")
    TURNS[:] = [team.turns]
    tasks = {}
    for name in ("late", "early"):
        handle = await DBOS.start_workflow_async(child, name)
        tasks[name] = asyncio.ensure_future(handle.get_result(polling_interval_sec=0.01))

    async def over() -> None:
        await tasks["early"]
        await team.turns.over("early")

    is_over = asyncio.ensure_future(over())
    said = await team.one("run")
    await is_over
    return await team.then([said, await tasks["late"], await tasks["early"]])


def test_results_of_children_beside_a_run_move_no_number(app: App) -> None:
    assert replays(app, results_beside_a_run) == "after ['run!', 'late!', 'early!']!"


def first_of(
    other: Callable[[], Coroutine[Any, Any, Any]], *, is_run_first: bool
) -> Callable[[], Coroutine[Any, Any, str]]:
    async def body() -> str:
        team = Team("never", "run") if not is_run_first else Team("run")
        run = asyncio.ensure_future(team.one("run"))
        wait = asyncio.ensure_future(other())
        done, pending = await asyncio.wait({run, wait}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return await Team().then([task.result() or "nothing" for task in done])

    return body


async def slept_long() -> str:
    await DBOS.sleep_async(3600)
    return "slept"


async def slept_shortly() -> str:
    await DBOS.sleep_async(0.01)
    return "slept"


async def no_message() -> Any:
    return await DBOS.recv_async("none", timeout_seconds=0.01)


async def no_event() -> Any:
    return await DBOS.get_event_async("nobody", "none", timeout_seconds=0.01)


def test_a_run_that_ended_before_its_time_limit_does_so_again(app: App) -> None:
    """The sleep is long over when the workflow is replayed."""
    said = replays(app, first_of(slept_long, is_run_first=True), times=1)
    app.execute(
        "UPDATE dbos.operation_outputs SET output = "
        "(extract(epoch FROM now()) + 0.05)::text, completed_at_epoch_ms = "
        "((extract(epoch FROM now()) + 0.05) * 1000)::bigint WHERE function_name = 'DBOS.sleep'"
    )
    app.until(
        lambda: (
            app.execute(
                "SELECT completed_at_epoch_ms < extract(epoch FROM now()) * 1000 "
                "FROM dbos.operation_outputs WHERE function_name = 'DBOS.sleep'"
            ).fetchall()
            == [(True,)]
        )
    )
    assert testing.assert_replays_sync("w", times=3, delay=0.02) == said == "after ['run!']!"


@pytest.mark.parametrize(
    ("other", "gives"), [(slept_shortly, "slept"), (no_message, "nothing"), (no_event, "nothing")]
)
def test_what_ends_before_a_run_does_so_again(
    app: App, other: Callable[[], Coroutine[Any, Any, Any]], gives: str
) -> None:
    said = replays(app, first_of(other, is_run_first=False), times=3)
    assert said == f"after ['{gives}']!"


async def step_alone() -> None:
    await nothing()


async def start_alone() -> None:
    await DBOS.start_workflow_async(empty)


@DBOS.step()
async def nothing() -> None:
    pass


@DBOS.workflow()
async def empty() -> None:
    pass


@pytest.mark.parametrize("work", [step_alone, start_alone, set_event])
def test_whoever_records_holds_one_connection_of_dbos_and_waits_for_no_other(
    app: App, work: Callable[[], Awaitable[None]]
) -> None:
    """As many as the pool has would wait for each other, for good."""

    async def body() -> str:
        await asyncio.gather(*(work() for _ in range(3)))
        return "done"

    app.run(body, workflow_id="w")
    app.execute("DELETE FROM dbos.operation_outputs WHERE workflow_uuid = 'w'")
    holders: dict[Any, int] = {}
    second: list[str] = []

    def take(_: Any, connection: Any, __: Any) -> None:
        stack = "".join(traceback.format_stack())
        # DBOS's own threads go on meanwhile, and may hold one for good.
        if threading.get_ident() in holders.values() and told_in_order.__file__ in stack:
            second.append(stack)
        holders[connection] = threading.get_ident()

    def give(_: Any, connection: Any) -> None:
        # One that was taken before is not known.
        holders.pop(connection, None)

    pool = process.system_engine().pool
    # In this order: what is noted must be given back.
    sa.event.listen(pool, "checkin", give)
    sa.event.listen(pool, "checkout", take)
    try:
        assert app.recover("w") == "done"
    finally:
        sa.event.remove(pool, "checkout", take)
        sa.event.remove(pool, "checkin", give)
    assert second == []


LONG = {
    **{way.__name__: beside(way, as_completed) for way in WAYS},
    "chains": chains,
    "chain beside runs": chain_beside_runs,
    "results beside a run": results_beside_a_run,
    "time limit": first_of(slept_long, is_run_first=True),
    "no message": first_of(no_message, is_run_first=False),
    "no event": first_of(no_event, is_run_first=False),
}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", LONG)
def test_none_of_a_thousand_replays_differs(app: App, way: str) -> None:
    replays(app, LONG[way], times=1000 // len(LONG))
