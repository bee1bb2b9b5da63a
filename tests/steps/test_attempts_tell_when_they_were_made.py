"""Each attempt at a tool call, and at a model's answer, is recorded with its times."""

from __future__ import annotations

import asyncio
import datetime
import itertools
from typing import Any

import pytest
from agents import Agent, OpenAIResponsesModel, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from openai import AsyncOpenAI

import timestep
from tests.support.dbos_app import App
from tests.support.model_provider import Provider, answers, fails
from tests.support.model_provider import provider as provider
from timestep.operations.queries.story import timeline
from timestep.operations.queries.story.steps import Span, Step
from timestep.steps import model_attempts

PAUSE = 0.02


class Flaky(Exception):
    """Raised by what works the next time."""


def agent_with(tool: Any) -> Agent[Any]:
    script = [[function_call(tool.name, {}, call_id="c1")], [assistant_message("done")]]
    return Agent(name="A", model=ScriptedModel(script), tools=[tool])


def failing(times: int, **options: Any) -> Any:
    """A tool that raises so many times, and works then."""
    made: list[int] = []

    @timestep.tool_options(retries=times, retry_delay=PAUSE, retry_backoff=1, **options)
    @function_tool
    async def works_at_last() -> str:
        made.append(1)
        if len(made) <= times:
            raise Flaky(f"no {len(made)}: \x00 {'x' * 2_000}")
        return "worked"

    return works_at_last


def run(app: App, agent: Agent[Any]) -> None:
    async def body() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    assert app.run(body, workflow_id="w") == "done"


def steps_of(app: App) -> list[Step]:
    (row,) = app.rows("runs")
    found = asyncio.run(timeline.part_of(str(row["id"]), "w", goes_on=False))
    return [step for turn in found.turns for step in turn.steps]


def check_times(spans: list[Span], kinds: list[str]) -> None:
    """Each begins after the one before it has ended, and a pause has passed."""
    assert [span.kind for span in spans] == kinds
    for one, following in itertools.pairwise(spans):
        assert one.end is not None
        assert one.begin <= one.end
        least = datetime.timedelta(seconds=PAUSE, milliseconds=-2)  # Times are rounded.
        assert one.end + least <= following.begin


@pytest.mark.parametrize("options", [{}, {"as_workflow": True}, {"safe_to_repeat": False}])
def test_a_calls_attempts(
    app: App, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    run(app, agent_with(failing(2, **options)))
    (call,) = app.rows("tool_calls")
    assert (call["status"], call["attempts"]) == ("executed", 3)
    failed = call["failed_attempts"]
    assert [one["number"] for one in failed] == [1, 2]
    assert [one["error"]["type"] for one in failed] == ["Flaky", "Flaky"]
    assert [one["error"]["message"][:8] for one in failed] == ["no 1: \ufffd ", "no 2: \ufffd "]
    assert all(len(one["error"]["message"]) < 1_100 for one in failed)
    assert failed[0]["began_ms"] == 0
    assert failed[0]["followed_ms"] == failed[1]["began_ms"]
    assert failed[1]["followed_ms"] <= call["duration_ms"]

    (step,) = [one for one in steps_of(app) if one.kind == "call"]
    attempts = [one for one in step.spans if one.kind != "queued"]
    check_times(attempts, ["retry", "retry", "tool"])
    assert (attempts[0].begin, attempts[-1].end) == (call["started_at"], call["completed_at"])
    assert step.of.last_attempt is not None
    app.replay("w")
    assert app.rows("tool_calls") == [call]


def test_what_a_tool_raised_is_recorded_though_the_model_is_told_a_text(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)

    @function_tool
    async def breaks() -> str:
        raise Flaky("bad thing 1")

    @function_tool(failure_error_function=lambda ctx, error: "sorry")
    def apologizes() -> str:
        raise Flaky("bad thing 2")

    @timestep.tool_options(retries=1, retry_delay=0)
    @function_tool
    async def breaks_twice() -> str:
        raise Flaky("bad thing 3")

    @function_tool
    async def works() -> str:
        return "worked"

    tools = [breaks, apologizes, breaks_twice, works]
    asked = [function_call(tool.name, {}, call_id=tool.name) for tool in tools]
    model = ScriptedModel([asked, [assistant_message("done")]])
    run(app, Agent(name="A", model=model, tools=list(tools)))
    calls = {row["tool_name"]: row for row in app.rows("tool_calls")}
    assert {row["status"] for row in calls.values()} == {"executed"}
    assert calls["works"]["failed_attempts"] is None
    told = {
        name: [(one["number"], one["error"]["message"]) for one in row["failed_attempts"] or []]
        for name, row in calls.items()
    }
    assert told == {
        "breaks": [(1, "bad thing 1")],
        "apologizes": [(1, "bad thing 2")],
        "breaks_twice": [(1, "bad thing 3"), (2, "bad thing 3")],
        "works": [],
    }
    for name in ("breaks", "apologizes", "breaks_twice"):
        assert calls[name]["failed_attempts"][-1]["followed_ms"] is None
    failed = [step.of.name for step in steps_of(app) if step.kind == "call" and step.is_failed]
    assert sorted(failed) == ["apologizes", "breaks", "breaks_twice"]
    assert app.replay("w") == "done"
    assert {row["tool_name"]: row for row in app.rows("tool_calls")} == calls


class Rude(Exception):
    """Ends the process, or cancels, where it is asked what it says."""

    def __init__(self, raised: BaseException) -> None:
        self.raised = raised

    def __str__(self) -> str:
        raise self.raised


class Own(str):
    def replace(self, *_: Any) -> str:
        raise OSError("no")

    def __len__(self) -> int:
        raise OSError("no")


class Owning(Exception):
    def __str__(self) -> str:
        return Own("said so")


class _Named(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        return "Odd\x00\udc80" + "x" * 1_000


class Odd(Exception, metaclass=_Named):
    """Of a class whose name no column can hold."""


@pytest.mark.parametrize("retries", [0, 1])
def test_whatever_an_error_is_the_run_goes_on(
    app: App, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-abcdefgh")
    secret = "Authorization: Bearer sk-proj-abcdefgh postgresql://admin:pa55w0rd@db/prod"
    raised = {
        "ends": Rude(SystemExit(3)),
        "cancels": Rude(asyncio.CancelledError()),
        "owns": Owning(),
        "odd": Odd("x"),
        "secret": Flaky(secret),
    }

    def tool_of(name: str) -> Any:
        async def body() -> str:
            raise raised[name]

        made = function_tool(body, name_override=name)
        return timestep.tool_options(retries=retries, retry_delay=0)(made)

    tools = [tool_of(name) for name in raised]
    asked = [function_call(name, {}, call_id=name) for name in raised]
    model = ScriptedModel([asked, [assistant_message("done")]])
    run(app, Agent(name="A", model=model, tools=tools))
    calls = app.rows("tool_calls")
    told = {row["tool_name"]: row["failed_attempts"][-1] for row in calls}
    assert {one["number"] for one in told.values()} == {retries + 1}
    assert told["ends"]["error"]["message"] == "it cannot be told: its __str__ raised SystemExit"
    assert "CancelledError" in told["cancels"]["error"]["message"]
    assert told["owns"]["error"] == {"type": "Owning", "message": "said so"}
    assert len(told["odd"]["error"]["type"]) == 200
    assert "abcdefgh" not in str(told["secret"])
    assert "pa55w0rd" not in str(told["secret"])
    assert app.replay("w") == "done"
    assert app.rows("tool_calls") == calls


def test_the_timeout_of_the_sdk_is_one_of_the_attempts(app: App) -> None:
    @function_tool(timeout=0.01)
    async def slow() -> str:
        await asyncio.Event().wait()
        return ""

    run(app, agent_with(slow))
    (call,) = app.rows("tool_calls")
    assert (call["status"], call["is_error"]) == ("executed", True)
    (failed,) = call["failed_attempts"]
    assert failed["error"]["type"] == "ToolTimeoutError"


def test_of_many_the_newest_are_recorded(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    monkeypatch.setattr("timestep.steps.tool_attempts._MOST", 3)
    run(app, agent_with(failing(5)))
    (call,) = app.rows("tool_calls")
    assert call["attempts"] == 6
    assert [one["number"] for one in call["failed_attempts"]] == [3, 4, 5]


def test_an_answers_attempts(app: App, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(PAUSE)

    monkeypatch.setattr(model_attempts, "sleep", pause)
    provider.behaviours = [fails(500), fails(500), answers]

    async def body() -> str:
        async with AsyncOpenAI(base_url=provider.url, api_key="k") as client:
            agent = Agent(name="A", model=OpenAIResponsesModel(model="m", openai_client=client))
            return str((await timestep.run_agent(agent, "go")).final_output)

    began = datetime.datetime.now(datetime.UTC)
    assert app.run(body, workflow_id="w") == "Hello"
    ended = datetime.datetime.now(datetime.UTC)
    recorded = app.rows("model_responses", "attempt")
    assert len(pauses) == 2
    assert len({row["created_at"] for row in recorded}) == 1
    assert began < recorded[0]["started_at"] < recorded[-1]["started_at"] < ended

    (step,) = [one for one in steps_of(app) if one.kind == "answer"]
    assert [one.begin for one in step.spans] == [row["started_at"] for row in recorded]
    check_times(step.spans, ["retry", "retry", "model"])
    app.replay("w")
    assert app.rows("model_responses", "attempt") == recorded


def test_what_an_earlier_version_recorded_has_no_times_of_attempts(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    run(app, agent_with(failing(1)))
    app.execute("UPDATE tool_calls SET failed_attempts = NULL")
    app.execute("UPDATE model_responses SET started_at = NULL")
    found = steps_of(app)
    kinds = [[one.kind for one in step.spans if one.kind != "queued"] for step in found]
    assert kinds == [["model"], ["tool"], ["model"]]
    assert app.replay("w") == "done"
