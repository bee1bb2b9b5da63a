"""While the database says "not now" a run waits, keeps what it did, and goes on afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, _sys_db

import timestep
from tests.support import refusals
from tests.support.dbos_app import App
from timestep.journal.recorder import recorder
from timestep.runtime import readiness

pytestmark = pytest.mark.own_database


class Stops:
    """A workflow that stops where its tool has acted, and where its run is over."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.at = {"tool": Event(), "step": Event(), "end": Event()}
        self.go = {"tool": Event(), "step": Event(), "end": Event()}

        @function_tool
        async def act() -> str:
            self.effects.append("tool")
            await self.stop("tool")
            return "acted"

        @DBOS.step()
        async def own() -> str:
            self.effects.append("step")
            await self.stop("step")
            return "stepped"

        call = function_call("act", {}, call_id="c1")
        self.model = ScriptedModel([[call], [assistant_message("done")]])
        self.agent: Agent[Any] = Agent("A", model=self.model, tools=[act])
        self.own = own

    async def stop(self, where: str) -> None:
        self.at[where].set()
        await asyncio.to_thread(self.go[where].wait, 30)

    async def body(self) -> str:
        answer = str((await timestep.DurableRunner.run(self.agent, "hi")).final_output)
        await self.own()
        await self.stop("end")
        return answer

    def begin(self, app: App) -> Future[str]:
        done: Future[str] = Future()

        def run() -> None:
            try:
                done.set_result(app.run(self.body, workflow_id="w"))
            except BaseException as error:  # noqa: BLE001  # for the test
                done.set_exception(error)

        Thread(target=run, daemon=True).start()
        return done


def short_sleep(seconds: float) -> None:
    time.sleep(min(seconds, 0.02))


@contextlib.contextmanager
def locked_for_a_time(url: str, timeout: str) -> Iterator[None]:
    with refusals.setting(url, timeout, "50"), refusals.locked(url, "dbos.workflow_status"):
        yield


REFUSALS: dict[str, Callable[[str], contextlib.AbstractContextManager[None]]] = {
    "25006": refusals.read_only,
    "57014": functools.partial(locked_for_a_time, timeout="statement_timeout"),
    "55P03": functools.partial(locked_for_a_time, timeout="lock_timeout"),
}


@pytest.mark.parametrize("state", REFUSALS)
def test_what_says_not_now_is_waited_for(
    app: App, state: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between an effect and its commit, DBOS's record of a step, and that of the workflow's end."""
    caplog.set_level(logging.WARNING, logger="timestep")
    # DBOS itself pauses for a second and more.
    monkeypatch.setattr(_sys_db, "time", SimpleNamespace(time=time.time, sleep=short_sleep))
    stops = Stops()
    done = stops.begin(app)
    for place in stops.at:
        assert stops.at[place].wait(60)
        with REFUSALS[state](app.url):
            stops.go[place].set()
            app.until(lambda: state in (readiness.reason() or ""))
            assert (readiness.reason() or "").startswith("the database is waited for: ")
        app.until(lambda: readiness.reason() is None)
    assert done.result(60) == "done"
    assert stops.effects == ["tool", "step"]
    assert len(stops.model.calls) == 2
    assert [row["status"] for row in app.rows("runs")] == ["completed"]
    assert [row["status"] for row in app.rows("tool_calls")] == ["executed"]
    lines = [record.getMessage() for record in caplog.records if record.name == "timestep"]
    said = [line for line in lines if line.startswith("the database ")]
    for begins, ends in zip(said[::2], said[1::2], strict=True):
        assert begins.startswith("the database is waited for, and what was done is kept: ")
        assert ends.startswith("the database answers again, after ")
    recorder().engine.dispose()  # Its idle connections were ended.
    app.replay("w")
