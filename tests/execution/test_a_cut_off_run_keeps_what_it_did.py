"""A run that is cut off stops at once, keeps what it did, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from threading import Event, Thread
from typing import Any

import pytest
from agents import Agent, GuardrailFunctionOutput, RunHooks, function_tool, input_guardrail
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, SetWorkflowID, SetWorkflowTimeout
from dbos import error as dbos_errors

import timestep
from tests.support.dbos_app import BODIES, App, run_it
from tests.support.passing_time import HOUR, pass_time
from timestep.errors import ConfigurationError, RunTimeoutError
from timestep.execution.replay import recorded_end
from timestep.execution.run import Run
from timestep.journal import ownership_watch
from timestep.runtime import draining

RUNNER = timestep.DurableRunner


class Stuck:
    """Something that does not end until it is cancelled.

    Args:
        takes: Seconds that pass for its loop when it is stuck.
    """

    def __init__(self, takes: float = 0.0) -> None:
        self.takes = takes
        self.inside = Event()
        self.was_cancelled = Event()
        self.count = 0

    async def hang(self) -> None:
        self.count += 1
        self.inside.set()
        pass_time(self.takes)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled.set()
            raise


class Answers(ScriptedModel):
    """A scripted model that is stuck before one of its answers."""

    def __init__(self, stuck: Stuck | None, before: int, *steps: Any) -> None:
        super().__init__(steps)
        self.stuck = stuck
        self.before = before

    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        await self._hang()
        return await super().get_response(*args, **kwargs)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        await self._hang()
        async for event in super().stream_response(*args, **kwargs):
            yield event

    async def _hang(self) -> None:
        if self.stuck is not None and len(self.calls) == self.before:
            await self.stuck.hang()


def agent_with(stuck: Stuck, kind: str) -> Agent[Any]:
    """An agent that is stuck in the call it makes, or before its second answer."""
    inner = Agent("Inner", model=Answers(stuck, 0))

    @function_tool
    async def act(input: str) -> str:  # noqa: A002
        if kind == "tool":
            await stuck.hang()
        if kind == "nested run":
            await RUNNER.run(inner, "inside")
        return "acted"

    call = [function_call("act", {"input": "x"}, call_id="c1")]
    model = Answers(stuck if kind == "model" else None, 1, call, [assistant_message("done")])
    tool = inner.as_tool("act", "Acts.") if kind == "agent as tool" else act
    return Agent("A", model=model, tools=[tool])


async def streamed(agent: Agent[Any]) -> Any:
    result = RUNNER.run_streamed(agent, "hi")
    async for _ in result.stream_events():
        pass
    return result


async def left_behind() -> set[str]:
    """The tasks that do not end by themselves."""
    for _ in range(500):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if not tasks:
            break
        await asyncio.sleep(0.01)
    return {str(task.get_coro()) for task in tasks}


def started(body: Callable[[], Awaitable[Any]], **context: Any) -> Future[set[str]]:
    """The tasks that are left of a workflow that was cancelled, once it has ended."""
    BODIES["w"] = body
    left: Future[set[str]] = Future()

    async def start() -> set[str]:
        with (
            SetWorkflowID("w"),
            SetWorkflowTimeout(context.get("timeout")),
            pytest.raises(dbos_errors.DBOSAwaitedWorkflowCancelledError),
        ):
            await run_it("w")
        return await left_behind()

    def work() -> None:
        try:
            left.set_result(asyncio.run(start()))
        except BaseException as error:  # noqa: BLE001  # whoever waits is raised it
            left.set_exception(error)

    Thread(target=work, daemon=True).start()
    return left


@pytest.fixture
def slow_watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever ends at once was not waited for by looking again and again."""
    monkeypatch.setattr(ownership_watch, "_INTERVAL", 3600.0)
    yield
    ownership_watch.look_now()


@pytest.mark.usefixtures("slow_watch")
@pytest.mark.parametrize(
    ("kind", "is_streamed"),
    [
        ("model", False),
        ("model", True),
        ("tool", False),
        ("nested run", True),
        ("agent as tool", False),
    ],
)
def test_what_is_under_way_is_given_up_at_once(app: App, kind: str, is_streamed: bool) -> None:
    stuck = Stuck()
    agent = agent_with(stuck, kind)

    async def body() -> Any:
        return await (streamed(agent) if is_streamed else RUNNER.run(agent, "hi"))

    left = started(body)
    assert stuck.inside.wait(60)
    asyncio.run(timestep.cancel_run("w"))
    assert left.result(60) == set()
    assert stuck.was_cancelled.is_set()
    runs = app.rows("runs", "started_at")
    assert len(runs) == (1 if kind in ("model", "tool") else 2)
    for run in runs:
        assert (run["status"], run["cancel_reason"]) == ("cancelled", "cancelled")
        assert run["completed_at"] is not None
        assert run["error_type"] is None
    assert len(app.rows("model_responses")) == 1
    assert [row["total_tokens"] for row in app.rows("usage_metrics")] != []
    (call,) = app.rows("tool_calls")
    assert call["status"] == ("executed" if kind == "model" else "unknown")
    assert app.steps("w") == ["turn 1: A", "tool: act (c1)"][: 2 if kind == "model" else 1]


def test_a_cancelled_wait_for_a_decision_ends(app: App) -> None:
    """DBOS itself cancels the workflow, as another process does: it is looked for."""

    @function_tool(needs_approval=True)
    async def act() -> str:
        raise AssertionError

    model = ScriptedModel([[function_call("act", {}, call_id="c1")]])
    agent = Agent("A", model=model, tools=[act])

    async def body() -> Any:
        return await timestep.run_agent(agent, "hi")

    left = started(body)
    app.until(lambda: asyncio.run(timestep.list_interruptions()))
    DBOS.cancel_workflow("w")
    assert left.result(60) == set()
    (run,) = app.rows("runs")
    assert (run["status"], run["cancel_reason"]) == ("cancelled", "cancelled")
    assert asyncio.run(timestep.list_interruptions()) == []


SYNC: dict[str, Any] = {}


@DBOS.workflow()
def run_sync_of(key: str) -> str:
    try:
        return str(RUNNER.run_sync(SYNC[key], "hi").final_output)
    finally:
        # The SDK leaves the thread's loop open.
        asyncio.get_event_loop().close()


def test_a_workflow_that_is_no_coroutine_is_cancelled_and_goes_on_when_resumed(app: App) -> None:
    stuck = Stuck()
    SYNC["w"] = agent_with(stuck, "tool")
    with SetWorkflowID("w"):
        handle = DBOS.start_workflow(run_sync_of, "w")
    assert stuck.inside.wait(60)
    asyncio.run(timestep.cancel_run("w"))
    with pytest.raises(dbos_errors.DBOSAwaitedWorkflowCancelledError):
        handle.get_result(polling_interval_sec=0.02)
    assert stuck.was_cancelled.is_set()
    app.until(lambda: [row["status"] for row in app.rows("runs")] == ["cancelled"])

    SYNC["w"].tools = agent_with(stuck, "nothing").tools
    result = DBOS.resume_workflow("w").get_result(polling_interval_sec=0.02)
    assert result == "done"
    (run,) = app.rows("runs")
    assert (run["status"], run["cancel_reason"]) == ("completed", None)
    assert len(SYNC["w"].model.calls) == 2
    assert app.steps("w") == ["turn 1: A", "tool: act (c1)", "turn 2: A"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_sync_tool_that_goes_on_is_recorded_when_it_ends(app: App, fails: bool) -> None:
    inside, may_end, made = Event(), Event(), []

    @function_tool
    def act() -> str:
        made.append(1)
        inside.set()
        may_end.wait(60)
        if fails:
            raise ValueError("late")
        return "late"

    call = function_call("act", {}, call_id="c1")
    model = ScriptedModel([[call], [assistant_message("done")]])
    agent = Agent("A", model=model, tools=[timestep.tool_options(retries=2)(act)])

    async def body() -> Any:
        return (await RUNNER.run(agent, "hi")).final_output

    BODIES["w"] = body
    id_ = app.started("w")
    assert inside.wait(60)
    asyncio.run(timestep.cancel_run(id_))
    assert [row["status"] for row in app.rows("tool_calls")] == ["unknown"]
    with pytest.raises(dbos_errors.DBOSAwaitedWorkflowCancelledError):
        DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02)
    # Else the thread could end before its execution hears of the cancellation.
    app.until(lambda: app.executing() == [])
    may_end.set()
    app.until(lambda: [row["status"] for row in app.rows("tool_calls")] == ["executed"])
    assert [row["status"] for row in app.rows("runs")] == ["cancelled"]
    assert draining.wait(60)
    DBOS.resume_workflow(id_)
    assert DBOS.retrieve_workflow(id_).get_result(polling_interval_sec=0.02) == "done"
    assert (made, len(model.calls)) == ([1], 2)
    app.replay(id_)


def test_a_workflow_s_timeout_is_told_from_a_cancellation(app: App) -> None:
    stuck = Stuck()
    agent = agent_with(stuck, "agent as tool")

    async def body() -> Any:
        return await RUNNER.run(agent, "hi")

    left = started(body, timeout=HOUR)
    assert stuck.inside.wait(60)
    app.execute("UPDATE dbos.workflow_status SET workflow_deadline_epoch_ms = 1")
    assert left.result(60) == set()
    assert stuck.was_cancelled.is_set()
    told = [(row["status"], row["cancel_reason"]) for row in app.rows("runs")]
    assert told == [("cancelled", "timeout")] * 2


@DBOS.step()
async def note(what: str) -> str:
    return what


@pytest.fixture
def cut_off_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a replay waits for its code to cut it off, the time that the code gave it is over."""
    hold = recorded_end.hold_if_cut

    async def held(run: Run, name: str) -> None:
        if run.record.is_over:
            pass_time()
        await hold(run, name)

    monkeypatch.setattr(recorded_end, "hold_if_cut", held)


@pytest.mark.usefixtures("cut_off_at_once")
@pytest.mark.parametrize(("kind", "is_streamed"), [("model", False), ("agent as tool", True)])
def test_what_the_workflow_cuts_off_is_cut_off_in_a_replay(
    app: App, kind: str, is_streamed: bool
) -> None:
    stuck = Stuck(takes=HOUR)
    agent = agent_with(stuck, kind)

    async def body() -> str:
        try:
            async with asyncio.timeout(HOUR):
                await (streamed(agent) if is_streamed else RUNNER.run(agent, "hi"))
        except TimeoutError:
            left = await left_behind()
            return await note(f"late, {left or 'nothing'} left")
        return "in time"

    assert app.run(body, workflow_id="w") == "late, nothing left"
    told = [(row["status"], row["cancel_reason"]) for row in app.rows("runs")]
    assert told == [("cancelled", "code")] * (1 if kind == "model" else 2)
    found = asyncio.run(timestep.get_run("w"))
    assert (found.status, found.cancel_reason) == ("cancelled", "code")
    before, steps = app.everything(), app.steps("w")
    agent.model.stuck = None  # type: ignore[union-attr]
    assert app.replay("w") == "late, nothing left"
    assert (app.everything(), app.steps("w")) == (before, steps)
    assert stuck.count == 1


@pytest.mark.usefixtures("cut_off_at_once")
@pytest.mark.parametrize("own_timeout", [None, HOUR])
def test_a_run_is_cut_off_in_a_replay_before_the_step_that_it_had_not_come_to(
    app: App, own_timeout: float | None
) -> None:
    """Between two steps, too: the next one's number is that of what the workflow did instead."""

    @function_tool
    def act() -> str:
        return "done"

    class Slow(RunHooks[Any]):
        async def on_tool_end(self, *_: Any) -> None:
            if not timestep.is_replaying():
                pass_time()
                await asyncio.Event().wait()

    model = ScriptedModel([[function_call("act", {}, call_id="c1")], [assistant_message("no")]])
    agent = Agent("A", model=model, tools=[act])

    async def body() -> str:
        try:
            async with asyncio.timeout(None if own_timeout else HOUR):
                await timestep.run_agent(agent, "hi", hooks=Slow(), timeout=own_timeout)
        except TimeoutError:
            return await note("late") + await note("later")
        return "in time"

    assert app.run(body, workflow_id="w") == "latelater"
    assert app.steps("w") == ["turn 1: A", "tool: act (c1)", *[note.__qualname__] * 2]
    assert app.replay("w") == "latelater"
    assert len(model.calls) == 1


@pytest.mark.parametrize(("kind", "is_streamed"), [("model", True), ("agent as tool", False)])
def test_a_run_s_own_timeout_is_recorded_and_replayed(
    app: App, kind: str, is_streamed: bool
) -> None:
    stuck = Stuck(takes=HOUR)
    agent = agent_with(stuck, kind)

    async def body() -> str:
        try:
            await timestep.run_agent(agent, "hi", stream=is_streamed, timeout=HOUR)
        except TimeoutError as error:
            left = await left_behind()
            return f"{type(error).__name__}: {error}: {left}"
        return "in time"

    said = app.run(body, workflow_id="w")
    runs = app.rows("runs", "started_at")
    assert said == f"RunTimeoutError: run {runs[0]['id']} did not end within 3600 s: set()"
    assert runs[0]["error_type"] == RunTimeoutError.__name__
    assert [row["status"] for row in runs] == ["failed", "cancelled"][: len(runs)]
    assert [row["cancel_reason"] for row in runs] == [None, "timeout"][: len(runs)]
    assert stuck.was_cancelled.is_set()
    before, steps = app.everything(), app.steps("w")
    assert app.replay("w") == said
    assert (app.everything(), app.steps("w")) == (before, steps)
    assert stuck.count == 1


def test_a_timeout_that_cannot_be_is_refused(app: App) -> None:
    agent = agent_with(Stuck(), "nothing")

    async def body() -> str:
        wrong: list[Any] = [0, -1, float("nan"), True, "1"]
        for seconds in wrong:
            with pytest.raises(ConfigurationError, match="is not a positive number of seconds"):
                await timestep.run_agent(agent, "hi", timeout=seconds)
        return "refused"

    assert app.run(body) == "refused"
    assert app.rows("runs") == []


def test_what_answers_its_cancellation_is_not_recorded(app: App) -> None:
    async def late() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"
        return "never"

    @function_tool
    async def act() -> str:
        pass_time()
        return await late()

    @input_guardrail
    async def check(*_: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(await late(), tripwire_triggered=False)

    model = ScriptedModel([[function_call("act", {}, call_id="c1")]])
    agent = Agent("A", model=model, tools=[act], input_guardrails=[check])

    async def body() -> str:
        with pytest.raises(RunTimeoutError):
            await timestep.run_agent(agent, "hi", timeout=HOUR)
        return str(await left_behind())

    assert app.run(body) == "set()"
    (call,) = app.rows("tool_calls")
    assert (call["status"], call["output"]) == ("unknown", None)
    assert app.rows("guardrail_results") == []


def test_time_in_which_people_decide_is_not_counted(app: App) -> None:
    stuck = Stuck(takes=HOUR)

    @function_tool(needs_approval=True)
    async def act() -> str:
        await stuck.hang()
        return "never"

    model = ScriptedModel([[function_call("act", {}, call_id="c1")]])
    agent = Agent("A", model=model, tools=[act])

    async def body() -> str:
        with pytest.raises(RunTimeoutError):
            await timestep.run_agent(agent, "hi", timeout=HOUR)
        return "late"

    done: Future[str] = Future()
    Thread(target=lambda: done.set_result(app.run(body, workflow_id="w")), daemon=True).start()
    (asked,) = app.until(lambda: asyncio.run(timestep.list_interruptions()))
    app.execute("UPDATE runs SET started_at = started_at - interval '2 hours'")
    asyncio.run(timestep.resume_workflow("w", approve=[asked.id]))
    assert done.result(60) == "late"
    assert stuck.count == 1
    assert app.replay("w") == "late"
    assert stuck.count == 1


@pytest.mark.parametrize("mode", ["immediate", "after_turn"])
def test_a_reader_stops_its_stream(app: App, mode: Any) -> None:
    call = [function_call("act", {"input": "x"}, call_id="c1")]
    stuck = Stuck()
    agent = agent_with(stuck, "nothing")
    agent.model = ScriptedModel([call, [assistant_message("done")]])

    async def body() -> str:
        result = RUNNER.run_streamed(agent, "hi")
        seen = []
        async for event in result.stream_events():
            seen.append(event.type)
            if event.type == "run_item_stream_event":
                result.cancel(mode)
        return await note(f"{seen[-1]}, {result.final_output}, {await left_behind() or 'none'}")

    said = app.run(body, workflow_id="w")
    assert said.endswith(", None, none")
    (run,) = app.rows("runs")
    assert (run["status"], run["cancel_reason"]) == ("cancelled", "code")
    assert len(agent.model.calls) == 1
    before, steps = app.everything(), app.steps("w")
    assert app.replay("w") == said
    assert (app.everything(), app.steps("w")) == (before, steps)
    assert len(agent.model.calls) == 1


def test_a_stream_stopped_at_an_event_that_is_not_replayed_ends_quietly(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_end, "_MARGIN", 0.1)
    stuck = Stuck()
    agent = agent_with(stuck, "model")

    async def body() -> str:
        result = RUNNER.run_streamed(agent, "hi")
        asyncio.get_running_loop().run_in_executor(None, stuck.inside.wait, 20).add_done_callback(
            lambda _: None if stuck.count > 1 or was_replayed else result.cancel()
        )
        async for _ in result.stream_events():
            pass
        return await note(f"{result.final_output}, {await left_behind() or 'none'}")

    was_replayed = False
    assert app.run(body, workflow_id="w") == "None, none"
    was_replayed = True
    before = app.everything()
    assert app.replay("w") == "None, none"
    assert app.everything() == before
    assert stuck.count == 1


@pytest.mark.parametrize("how", ["ends", "breaks"])
def test_a_stream_that_nobody_reads_to_its_end_is_ended(app: App, how: str) -> None:
    stuck = Stuck()
    agent = agent_with(stuck, "tool")
    kept: list[Any] = []

    async def body() -> str:
        result = RUNNER.run_streamed(agent, "hi")
        kept.append(result)
        if how == "breaks":
            async for _ in result.stream_events():
                break
        await asyncio.to_thread(stuck.inside.wait, 20)
        return "over"

    async def start() -> set[str]:
        BODIES["w"] = body
        with SetWorkflowID("w"):
            assert await run_it("w") == "over"
        return await left_behind()

    assert asyncio.run(start()) == set()
    assert stuck.was_cancelled.is_set()
    (run,) = app.rows("runs")
    assert (run["status"], run["cancel_reason"]) == ("cancelled", "abandoned")


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_run_whose_process_ends_goes_on_in_the_next(app: App, is_streamed: bool) -> None:
    """The program ends while the workflow runs, so its loop cancels the workflow's task."""
    stuck = Stuck()
    agent = agent_with(stuck, "model")

    async def body() -> str:
        result = await (streamed(agent) if is_streamed else RUNNER.run(agent, "hi"))
        return str(result.final_output)

    BODIES["w"] = body

    async def program() -> None:
        with SetWorkflowID("w"):
            await DBOS.start_workflow_async(run_it, "w")
        await asyncio.to_thread(stuck.inside.wait, 20)

    asyncio.run(program())
    assert stuck.was_cancelled.is_set()
    agent.model.stuck = None  # type: ignore[union-attr]
    (handle,) = DBOS._recover_pending_workflows()
    assert handle.get_result(polling_interval_sec=0.02) == "done"
    (run,) = app.rows("runs")
    assert (run["status"], run["cancel_reason"]) == ("completed", None)
    assert app.steps("w") == ["turn 1: A", "tool: act (c1)", "turn 2: A"]
