"""Streams: live in order, replayed as they were, recorded in few transactions, and followed."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
from agents import Agent, Model, ModelResponse, function_tool
from agents.exceptions import ModelBehaviorError
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseCreatedEvent,
    ResponseFailedEvent,
    ResponseTextDeltaEvent,
)

import timestep
from tests.support import forked_processes
from tests.support.dbos_app import App
from timestep.errors import InvalidQueryError, UnknownRunError
from timestep.journal.recorder import Recorder
from timestep.steps import model_attempts, model_stream

Pause = Callable[[int], Any]


def response(*output: Any) -> Response:
    return Response(
        id="resp_1",
        created_at=1,
        model="m",
        object="response",
        output=list(output),
        tool_choice="auto",
        tools=[],
        parallel_tool_calls=True,
    )


def delta(text: str, number: int) -> ResponseTextDeltaEvent:
    return ResponseTextDeltaEvent(
        content_index=0,
        delta=text,
        item_id="msg_1",
        logprobs=[],
        output_index=0,
        sequence_number=number,
        type="response.output_text.delta",
    )


class Own:
    """An event that is nobody's but this model's."""

    type = "own"

    def __str__(self) -> str:
        return "an event of my own"


class Speaker(Model):
    """Says many words, and does what a test wants before each."""

    def __init__(self, words: list[str], before: Pause | None = None, extra: Any = None) -> None:
        self.words = words
        self.before = before
        self.extra = extra
        self.asked = 0

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        self.asked += 1
        yield ResponseCreatedEvent(response=response(), sequence_number=0, type="response.created")
        if self.extra is not None:
            yield self.extra
        for number, word in enumerate(self.words):
            if self.before is not None:
                await self.before(number)
            yield delta(word, number + 1)
        whole = response(assistant_message(" ".join(self.words)))
        yield ResponseCompletedEvent(response=whole, sequence_number=99, type="response.completed")


async def speak(
    agent: Agent[Any], given: str = "hi", hear: Callable[[Any], None] | None = None
) -> list[Any]:
    """The raw events of a streamed run, as the workflow sees them."""
    result = timestep.DurableRunner.run_streamed(agent, given)
    heard = []
    async for event in result.stream_events():
        if event.type == "raw_response_event":
            heard.append(event.data)
            if hear is not None:
                hear(event.data)
    return heard


async def followed(id_: str, after: str | None = None) -> list[timestep.RunEvent]:
    return [event async for event in timestep.follow(id_, after=after)]


def batches(app: App) -> list[dict[str, Any]]:
    with psycopg.connect(app.url, row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(
            "SELECT * FROM timestep.stream_batches ORDER BY sequence"
        ).fetchall()


@function_tool
async def echo(text: str) -> str:
    return f"echo {text}"


def test_a_replay_gives_the_same_events_without_the_model(app: App) -> None:
    model = ScriptedModel(
        [[function_call("echo", {"text": "\x00é"}, call_id="c1")], [assistant_message("bye \x00")]]
    )
    agent = Agent(name="A", model=model, tools=[echo])
    heard: list[list[Any]] = []

    async def body() -> str:
        heard.append(await speak(agent))
        return "done"

    app.run(body, "twice")
    app.replay("twice")
    first, second = heard
    assert second == first
    assert [type(event) for event in second] == [type(event) for event in first]
    assert len(first) > 6
    assert len(model.calls) == 2


def test_events_that_no_api_has_are_replayed_as_far_as_json_holds_them(app: App) -> None:
    for number, (extra, replayed) in enumerate(
        [({"type": "ping", "n": [1, None]}, None), (("a", 1), None), (Own(), str(Own()))]
    ):
        agent = Agent(name="A", model=Speaker(["a"], extra=extra))
        heard: list[list[Any]] = []

        async def body(agent: Agent[Any] = agent, heard: list[Any] = heard) -> str:
            heard.append(await speak(agent))
            return "done"

        app.run(body, f"extra {number}")
        app.replay(f"extra {number}")
        first, second = heard
        assert first[1] is extra or first[1] == replayed
        assert second[1] == first[1]
        assert second[0:1] + second[2:] == first[0:1] + first[2:]


def test_a_thousand_tokens_are_few_transactions(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"word {number}" for number in range(1000)]
    commits: list[int] = []
    commit = Recorder.commit

    async def counted(recorder: Recorder, owner: Any, rows: Any, *args: Any, **given: Any) -> None:
        commits.append(len(rows.get("stream_batches", ())))
        await commit(recorder, owner, rows, *args, **given)

    monkeypatch.setattr(Recorder, "commit", counted)
    # How many more there are depends on how long the model speaks.
    monkeypatch.setattr(model_stream, "FLUSH_AFTER", 3600.0)

    async def breathe(number: int) -> None:
        await asyncio.sleep(0)

    agent = Agent(name="A", model=Speaker(words, breathe))
    heard: list[list[Any]] = []

    async def body() -> str:
        heard.append(await speak(agent))
        return "done"

    app.run(body, "many")
    # Those of the stream, the step's own, and the run's end.
    assert 3 <= len(commits) <= 6
    first, events = heard[0], app_events(app)
    assert [event["type"] for event in events] == [event.type for event in first]
    app.replay("many")
    assert heard[1] == heard[0]


def app_events(app: App) -> list[dict[str, Any]]:
    rows = batches(app)
    assert [row["position"] for row in rows] == [
        sum(len(row["events"]) for row in rows[:index]) for index in range(len(rows))
    ]
    return [event for row in rows for event in row["events"]]


def test_events_come_at_once_and_are_followed_while_the_model_speaks(app: App) -> None:
    heard: list[str] = []
    outside: list[timestep.RunEvent] = []
    met: list[tuple[list[str], bool]] = []
    read = threading.Event()

    def reader() -> None:
        async def read_on() -> None:
            async for event in timestep.follow("live"):
                outside.append(event)
                if event.data.get("delta") == "two":
                    read.set()

        asyncio.run(read_on())

    async def before(number: int) -> None:
        if number == 2:
            # What was said is with the consumer, and with a reader elsewhere, before it goes on.
            await asyncio.to_thread(read.wait, 60)
            met.append((list(heard), read.is_set()))

    agent = Agent(name="A", model=Speaker(["one", "two", "three"], before))

    thread = threading.Thread(target=reader)

    async def body() -> str:
        thread.start()

        def hear(event: Any) -> None:
            if event.type == "response.output_text.delta":
                heard.append(event.delta)

        await speak(agent, hear=hear)
        return "done"

    app.run(body, "live")
    assert met == [(["one", "two"], True)]
    app.until(lambda: outside and outside[-1].type == "run.completed")
    thread.join(60)
    assert not thread.is_alive()
    told = [event.data["delta"] for event in outside if "delta" in event.data]
    assert told == ["one", "two", "three"]


def test_a_reader_picks_up_anywhere_without_loss_or_repetition(app: App) -> None:
    inner = Agent(name="Inner", model=Speaker(["deep"]))

    @function_tool
    async def delegate(text: str) -> str:
        return str(len(await speak(inner, text)))

    model = ScriptedModel(
        [[function_call("delegate", {"text": "x"}, call_id="c1")], [assistant_message("bye")]]
    )
    agent = Agent(name="A", model=model, tools=[delegate])

    async def body() -> str:
        await speak(agent)
        return "done"

    app.run(body, "read")
    events = asyncio.run(followed("read"))
    assert len({event.run_id for event in events}) == 2
    assert {event.kind for event in events} == {"item", "model", "run"}
    assert len({event.cursor for event in events}) == len(events)
    for index, event in enumerate(events):
        assert asyncio.run(followed("read", event.cursor)) == events[index + 1 :]
    for run_id in {event.run_id for event in events}:
        own = [event for event in events if event.run_id == run_id]
        assert asyncio.run(followed(run_id)) == own
    # What was said of an answer comes before the items made of it.
    types = [event.type for event in events]
    assert types[-3:] == ["response.completed", "message_output_item", "run.completed"]
    assert [e.position for e in events if e.type == "response.created"] == [0, 0, 0]
    rows = app.rows("run_items", "position")
    assert {e.data["type"] for e in events if e.kind == "item"} == {
        row["item_data"]["type"] for row in rows
    }


def test_a_run_that_waits_for_a_person_is_followed_to_its_end(app: App) -> None:
    @timestep.tool_options(describe="Delete {name} for good")
    @function_tool(needs_approval=True)
    async def delete(name: str) -> str:
        return f"deleted {name}"

    model = ScriptedModel(
        [[function_call("delete", {"name": "a"}, call_id="c1")], [assistant_message("bye")]]
    )
    agent = Agent(name="A", model=model, tools=[delete])
    seen: list[timestep.RunEvent] = []

    async def read_on() -> None:
        async for event in timestep.follow("asks"):
            seen.append(event)

    async def body() -> str:
        return str((await timestep.run_agent(agent, "hi")).final_output)

    running = threading.Thread(target=lambda: app.run(body, "asks"))
    running.start()
    app.until(lambda: app.rows("interruptions"))
    reading = threading.Thread(target=lambda: asyncio.run(read_on()))
    reading.start()
    app.until(lambda: seen)
    timestep.resume_workflow_sync("asks", approve=["c1"])
    for thread in (running, reading):
        thread.join(60)
        assert not thread.is_alive()
    assert [event.type for event in seen] == [
        "run.started",
        "tool_call_item",
        "question.asked",
        "run.waiting",
        "question.decided",
        "run.resumed",
        "tool_call_output_item",
        "message_output_item",
        "run.completed",
    ]
    ((asked,), (waited_for,), (decided,)) = (
        event.data["questions"] for event in seen if "questions" in event.data
    )
    assert asked == waited_for
    assert (asked["tool_name"], asked["arguments"]) == ("delete", {"name": "a"})
    assert asked["description"] == "Delete a for good"
    assert {**decided, **asked} == {
        **decided,
        "action": "approve",
        "always": False,
        "message": None,
        "by": None,
    }


def test_another_process_follows(app: App) -> None:
    async def body() -> str:
        await speak(Agent(name="A", model=Speaker(["one", "two"])))
        return "done"

    app.run(body, "elsewhere")
    program = (
        "import asyncio, timestep\n"
        "async def main():\n"
        "    async for event in timestep.follow('elsewhere'):\n"
        "        print(event.cursor, event.type)\n"
        "asyncio.run(main())\n"
    )
    told = forked_processes.run("-c", program)
    assert told.returncode == 0, told.stderr
    here = asyncio.run(followed("elsewhere"))
    assert told.stdout.split("\n")[:-1] == [f"{event.cursor} {event.type}" for event in here]


def test_what_cannot_be_followed(app: App) -> None:
    with pytest.raises(UnknownRunError):
        asyncio.run(followed("nobody"))
    with pytest.raises(InvalidQueryError):
        asyncio.run(followed("nobody", "then"))


def test_a_run_that_nobody_could_end_is_over_with_its_workflow(app: App) -> None:
    async def body() -> str:
        await speak(Agent(name="A", model=Speaker(["one"])))
        return "done"

    app.run(body, "w")
    app.execute("UPDATE runs SET status = 'running', completed_at = NULL")
    # How it ended might be recorded still, soon after the workflow's end.
    app.execute("UPDATE dbos.workflow_status SET completed_at = completed_at - 60000")
    (run,) = app.rows("runs")
    assert asyncio.run(followed(str(run["id"]))) == asyncio.run(followed("w"))


def test_an_attempt_that_dies_speaking_is_followed_by_the_next(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_sleep(seconds: float) -> None:
        pass

    monkeypatch.setattr(model_attempts, "sleep", no_sleep)

    async def before(number: int) -> None:
        if model.asked == 1 and number == 2:
            raise ConnectionResetError("gone")

    model = Speaker(["one", "two", "three"], before)
    agent = Agent(name="A", model=model)
    heard: list[list[Any]] = []

    async def body() -> str:
        heard.append(await speak(agent))
        return "done"

    app.run(body, "retold")
    words = [event.delta for event in heard[0] if event.type == "response.output_text.delta"]
    assert words == ["one", "two", "one", "two", "three"]
    app.replay("retold")
    assert heard[1] == heard[0]
    told = [e for e in asyncio.run(followed("retold")) if "delta" in e.data]
    assert [(e.attempt, e.position) for e in told] == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    assert model.asked == 2


def test_what_an_execution_that_died_said_is_not_replayed(app: App) -> None:
    async def before(number: int) -> None:
        if model.asked == 1 and number == 2:
            await asyncio.to_thread(app.until, lambda: batches(app))
            await asyncio.to_thread(DBOS.cancel_workflow, "died")
            await asyncio.sleep(3600)

    model = Speaker(["one", "two", "three"], before)
    heard: list[list[Any]] = []

    async def body() -> str:
        heard.append(await speak(Agent(name="A", model=model)))
        return "done"

    with pytest.raises(Exception, match="cancelled"):
        app.run(body, "died")
    assert DBOS.resume_workflow("died").get_result(polling_interval_sec=0.02) == "done"
    app.replay("died")
    words = [event.delta for event in heard[0] if event.type == "response.output_text.delta"]
    assert words == ["one", "two", "three"]
    assert heard[1] == heard[0]
    assert model.asked == 2
    told = [e for e in asyncio.run(followed("died")) if "delta" in e.data]
    assert [(e.attempt, e.position) for e in told] == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    # The attempts of a step are counted by the execution that ended it.
    assert [row["attempt"] for row in app.rows("model_responses")] == [1]


def test_a_failed_stream_replays_what_was_said_and_how_it_failed(app: App) -> None:
    async def before(number: int) -> None:
        if number == 1:
            raise ValueError("enough")

    model = Speaker(["one", "two"], before)
    heard: list[Any] = []

    async def body() -> str:
        try:
            await speak(Agent(name="A", model=model), hear=heard.append)
        except ValueError as error:
            return str(error)
        return "it did not fail"

    assert app.run(body, "cut") == "enough"
    said, heard[:] = list(heard), []
    assert app.replay("cut") == "enough"
    assert heard == said
    assert len(said) == 2
    assert model.asked == 1


class Failing(Speaker):
    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        self.asked += 1
        yield ResponseFailedEvent(response=response(), sequence_number=0, type="response.failed")


def test_a_last_event_of_a_failure_is_heard_once(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    model, heard = Failing([]), list[Any]()

    async def body() -> str:
        with pytest.raises(ModelBehaviorError) as caught:
            await speak(Agent(name="A", model=model), hear=heard.append)
        return str(caught.value)

    answer = app.run(body, "failed")
    assert app.replay("failed") == answer
    assert [event.type for event in heard] == ["response.failed"] * 2
    assert model.asked == 1
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_a_workflow_that_is_lost_while_the_model_speaks_ends_the_stream(app: App) -> None:
    closed: list[int] = []

    async def before(number: int) -> None:
        if number == 1:
            app.execute("UPDATE dbos.workflow_status SET owner_xid = 'another'")
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                closed.append(number)
                raise

    async def body() -> str:
        try:
            await speak(Agent(name="A", model=Speaker(["one", "two"], before)))
        except BaseException as error:
            ended.append(type(error).__name__)
            # DBOS ends the refused execution by waiting for what the owner records.
            app.execute("UPDATE dbos.workflow_status SET status = 'CANCELLED'")
            raise
        return "done"

    ended: list[str] = []
    with pytest.raises(Exception, match="cancelled"):
        app.run(body, "lost")
    assert closed == [1]
    assert ended == ["DBOSWorkflowConflictIDError"]
    assert batches(app) == []
    assert app.rows("model_responses") == []


def test_a_consumer_that_stops_leaves_no_task(app: App) -> None:
    left: list[str] = []
    stopped: list[bool] = []

    async def before(number: int) -> None:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            stopped.append(True)
            raise

    async def body() -> str:
        known = asyncio.all_tasks()
        result = timestep.DurableRunner.run_streamed(
            Agent(name="A", model=Speaker(["word"] * 1000, before)), "hi"
        )
        async for event in result.stream_events():
            if event.type == "raw_response_event":
                result.cancel()
                break
        assert result.run_loop_task is not None
        await asyncio.wait([result.run_loop_task])
        left.extend(str(task) for task in asyncio.all_tasks() - known)
        return "done"

    assert app.run(body) == "done"
    # Tasks of the SDK's and of DBOS's own end a moment later.
    assert [task for task in left if "timestep" in task] == []
    assert stopped == [True]
    assert [row["status"] for row in app.rows("runs")] == ["cancelled"]


def test_a_number_is_drawn_only_once_the_workflow_is_locked(app: App) -> None:
    drawn = "SELECT last_value - (NOT is_called)::integer FROM timestep.event_sequence"
    numbers: list[int] = []

    async def before(number: int) -> None:
        if number != 1:
            return
        with psycopg.connect(app.url) as connection, psycopg.connect(app.url) as other:
            other.autocommit = True
            connection.execute("SELECT FROM dbos.workflow_status FOR UPDATE")
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
            await asyncio.to_thread(app.until, lambda: other.execute(waiting).fetchone())
            numbers.extend(other.execute(drawn).fetchone() or ())
        await asyncio.to_thread(app.until, lambda: batches(app))
        numbers.append(batches(app)[0]["sequence"])

    async def body() -> str:
        await speak(Agent(name="A", model=Speaker(["one", "two"], before)))
        return "done"

    app.run(body)
    before_it, own = numbers
    assert own == before_it + 1
