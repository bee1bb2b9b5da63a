"""A task beside the workflow's body may be the first to run an agent: no number depends on when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent
from agents.testing import assistant_message
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.conversational_model import AnsweringModel
from tests.support.dbos_app import BODIES, App
from timestep import DurableRunner, testing
from timestep.dbos_internals import execution_ends
from timestep.dbos_internals.step_numbers import BLOCK
from timestep.execution import identity
from timestep.journal.recorder import Recorder

EARLIER = "earlier version"


@DBOS.step()
async def note(notes: list[str], text: str) -> str:
    notes.append(text)
    return text


class Work:
    """Bodies, how long they wait before what they do, and what was done."""

    def __init__(self) -> None:
        self.said = "first"
        self.asked: list[str] = []
        self.notes: list[str] = []
        self.body = self.side = 0.0
        self.goes_on = False

    async def ask(self, name: str) -> str:
        def answer(_: Any) -> Any:
            self.asked.append(name)
            return [assistant_message(f"{name} {self.said}")]

        agent = Agent(name, model=AnsweringModel(answer))
        return str((await DurableRunner.run(agent, "hi")).final_output)

    async def beside(self) -> str:
        """Takes steps and runs an agent beside a task that runs some."""

        async def side() -> str:
            await asyncio.sleep(self.side)
            said = await self.ask("side")
            await asyncio.sleep(self.side)
            return f"{said} {await self.ask('side again')}"

        task = asyncio.create_task(side())
        noted = []
        for n in range(3):
            await asyncio.sleep(self.body)
            noted.append(await note(self.notes, str(n)))
        await asyncio.sleep(self.body)
        return f"{noted} {await self.ask('main')} {await task}"

    async def gathers(self) -> str:
        """Runs agents side by side, notes what they said, and does both once more."""
        said = await note(self.notes, str(await asyncio.gather(self.ask("a"), self.ask("b"))))
        if self.goes_on:
            more = await asyncio.gather(self.ask("c"), self.ask("d"))
            said = await note(self.notes, f"{said} {more}")
        return said


def lanes(app: App, workflow_id: str = "w") -> dict[str, int]:
    """The blocks of the numbers of a workflow's runs."""
    return {
        app.names("agents", row["agent_id"]): row["workflow_step"] // BLOCK
        for row in app.rows("runs")
        if row["workflow_id"] == workflow_id
    }


def by_earlier_version(patch: pytest.MonkeyPatch) -> None:
    """Let the first task that runs agents have the workflow's own counter, as it once had."""

    def lane_of(shared: Any, task: Any) -> Any:
        shared.is_of_earlier_version = True
        return identity._new_lane(shared, task, shared.lanes)

    patch.setattr(identity, "_lane_of", lane_of)


@pytest.fixture(params=["this version", EARLIER])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def first_execution(app: App, version: str, body: Any) -> str:
    with pytest.MonkeyPatch.context() as patch:
        if version == EARLIER:
            by_earlier_version(patch)
        else:
            # Nothing is asked of a workflow that is started here.
            execution_ends.listen(lambda owner, error: None)
            patch.setattr(Recorder, "draws_apart", None)
        return app.run(body, workflow_id="w")


@pytest.mark.parametrize("is_side_first", [True, False])
def test_the_body_takes_steps_beside_a_task_that_runs_agents(app: App, is_side_first: bool) -> None:
    work = Work()
    work.body, work.side = (0.02, 0.0) if is_side_first else (0.0, 0.02)
    answer = first_execution(app, "this version", work.beside)
    assert lanes(app) == {"main": 0, "side": 1, "side again": 1}
    before = list(work.asked), list(work.notes)
    work.body, work.side = work.side, work.body
    assert app.replay("w") == answer
    assert testing.assert_replays_sync("w", times=3, delay=0.02) == answer
    assert (work.asked, work.notes) == before


def test_an_unfinished_workflow_goes_on_with_its_numbers(app: App, version: str) -> None:
    work = Work()
    answer = first_execution(app, version, work.gathers)
    begun = {"a": 0, "b": 1} if version == EARLIER else {"a": 1, "b": 2}
    assert lanes(app) == begun
    assert app.replay("w") == answer
    work.goes_on = True
    answer = app.recover("w")
    following = {"c": 2, "d": 3} if version == EARLIER else {"c": 3, "d": 4}
    assert lanes(app) == {**begun, **following}
    assert (sorted(work.asked), len(work.notes)) == (["a", "b", "c", "d"], 2)
    assert app.replay("w") == answer


def test_forks_have_the_numbers_of_what_they_are_forks_of(app: App, version: str) -> None:
    work = Work()
    answer = first_execution(app, version, work.gathers)
    known = lanes(app)
    work.said = "second"
    runs = {app.names("agents", row["agent_id"]): str(row["id"]) for row in app.rows("runs")}
    forked = "a" if version == EARLIER else "b"
    asyncio.run(timestep.fork_run(runs[forked], turn=1, new_workflow_id="fork"))
    handle: Any = DBOS.retrieve_workflow("fork")
    told = handle.get_result(polling_interval_sec=0.02)
    # What came after the run is done again, and what had ended is not.
    assert f"{forked} second" in str(told)
    assert work.notes == [answer, told]
    assert lanes(app, "fork")[forked] == known[forked]
    assert app.replay("fork") == told
    asked = list(work.asked)
    # DBOS's own, which copies all.
    with SetWorkflowID("copy"):
        copy = DBOS.fork_workflow("w", 10 * BLOCK)
    assert copy.get_result(polling_interval_sec=0.02) == answer
    assert (lanes(app, "copy"), work.asked) == (known, asked)


@DBOS.workflow()
def runs_agents_in_a_thread(key: str) -> str:
    """Runs what a test put under `key`, in tasks of its own, and then an agent in no task."""

    async def main() -> str:
        return str(await BODIES[key]())

    beside = asyncio.run(main())
    agent = Agent("main", model=AnsweringModel(lambda _: [assistant_message("main")]))
    try:
        return f"{beside} {DurableRunner.run_sync(agent, 'hi').final_output}"
    finally:
        # The SDK leaves the thread's loop open.
        asyncio.get_event_loop().close()


def test_a_body_that_is_not_async_has_the_workflows_counter(app: App) -> None:
    work = Work()
    BODIES["w"] = work.gathers
    with SetWorkflowID("w"):
        answer = DBOS.start_workflow(runs_agents_in_a_thread, "w").get_result(
            polling_interval_sec=0.02
        )
    assert lanes(app) == {"a": 1, "b": 2, "main": 0}
    assert app.replay("w") == answer
