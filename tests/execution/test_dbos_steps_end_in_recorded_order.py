"""DBOS's own operations beside each other, and beside runs, end in a replay as they first ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from dbos import DBOS

import timestep
from tests.support.dbos_app import App
from tests.support.sibling_runs import Consume, Team, Turns, as_completed, called_back, queued
from timestep import testing

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
