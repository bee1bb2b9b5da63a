"""Operations of DBOS's that the workflow's code gave up are not made, nor heard, by a replay."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.dbos_app import App
from tests.support.sibling_runs import Team, Turns
from timestep import testing

TURNS: list[Turns] = []
MADE: list[str] = []
SHORTLY = 0.03


@DBOS.step()
async def stepped(name: str) -> str:
    MADE.append(name)
    await TURNS[-1].turn_of(name)
    return f"{name}!"


@DBOS.step()
async def failing() -> None:
    raise ValueError


@DBOS.workflow(name="awaited child")
async def child(name: str) -> str:
    return await stepped(name)


@pytest.fixture(autouse=True)
def installed() -> None:
    timestep.install()
    MADE.clear()


async def shortly(work: Any) -> str:
    try:
        return str(await asyncio.wait_for(work, SHORTLY))
    except TimeoutError:
        return "late"


def replays(app: App, body: Any) -> str:
    said = app.run(body, workflow_id="w")
    made, steps = list(MADE), app.steps("w")
    assert testing.assert_replays_sync("w", times=2, delay=0.005) == said
    assert (MADE, app.steps("w")) == (made, steps)
    return said


@pytest.mark.parametrize("is_followed", [True, False])
def test_a_step_that_took_too_long_is_not_made_again(app: App, is_followed: bool) -> None:
    async def body() -> str:
        TURNS.append(Turns("never", "a"))
        said = await shortly(stepped("a"))
        return await Team().then([said, await stepped("b")]) if is_followed else said

    said = replays(app, body)
    assert said == ("after ['late', 'b!']!" if is_followed else "late")
    if is_followed:
        # Nothing but the record tells a recovery of it.
        made = list(MADE)
        assert (app.recover("w"), MADE) == (said, made)


def test_the_result_of_a_child_comes_no_sooner_than_it_did(app: App) -> None:
    """It is there when the workflow is replayed."""

    async def body() -> str:
        turns = Turns("wait", "a")
        TURNS.append(turns)
        handle = await DBOS.start_workflow_async(child, "a")
        said = [await shortly(handle.get_result(polling_interval_sec=0.01))]
        await turns.over("wait")
        said.append(await handle.get_result(polling_interval_sec=0.01))
        return await Team().then(said)

    assert replays(app, body) == "after ['late', 'a!']!"


def test_a_message_comes_no_sooner_than_it_did(app: App) -> None:
    async def body() -> str:
        TURNS.append(Turns())
        said = [await shortly(DBOS.recv_async("t")), await stepped("a")]
        await DBOS.send_async(str(DBOS.workflow_id), "told", "t")
        return await Team().then(said)

    assert replays(app, body) == "after ['late', 'a!']!"


def test_an_event_comes_no_sooner_than_it_did(app: App) -> None:
    async def body() -> str:
        said = [await shortly(DBOS.get_event_async(str(DBOS.workflow_id), "e"))]
        await DBOS.set_event_async("e", "told")
        said.append(str(await DBOS.get_event_async(str(DBOS.workflow_id), "e")))
        return await Team().then(said)

    assert replays(app, body) == "after ['late', 'told']!"


def test_what_a_workflow_left_going_is_no_difference(app: App) -> None:
    """A sibling's failure ended it while the child was awaited, which has ended since."""

    async def body() -> str:
        TURNS.append(Turns("end", "a"))
        with SetWorkflowID("child"):
            handle = await DBOS.start_workflow_async(child, "a")
        try:
            await asyncio.gather(handle.get_result(polling_interval_sec=0.01), failing())
        except ValueError:
            return await Team().then(["failed"])
        return "no failure"

    assert app.run(body, workflow_id="w") == "after ['failed']!"
    TURNS.append(Turns())
    (of_child,) = DBOS._recover_pending_workflows()
    assert of_child.get_result(polling_interval_sec=0.02) == "a!"
    TURNS.append(Turns("end", "a"))
    assert testing.assert_replays_sync("w", times=2) == "after ['failed']!"
