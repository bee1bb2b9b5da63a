"""A run that fails is told in the log in one line, once, and its traceback is recorded."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from agents import Agent, RunConfig, RunHooks, function_tool
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from click.testing import CliRunner

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import App
from timestep.cli import main
from timestep.operations.queries.runs import get_traceback
from timestep.runner import failures
from timestep.serialization import exceptions

KEY = "sk-proj-abcdefgh12345678"


@function_tool(failure_error_function=None)
async def explode() -> str:
    told = f"out of tea\nERROR forged, key {KEY}, token hunter22, abcd-efgh"
    raise ValueError(told)


def exploding() -> Agent[Any]:
    return Agent(
        name="Maker",
        model=AnsweringModel(lambda items: [function_call("explode", {}, call_id="c1")]),
        tools=[explode],
    )


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "timestep")
    return caplog


def told(log: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in log.records if record.name == "timestep"]
    return [record.getMessage() for record in records if record.levelno == logging.ERROR]


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_failed_run_is_one_line_and_its_traceback_is_recorded(
    app: App,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    is_streamed: bool,
) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "ada:admin:hunter22")
    monkeypatch.setenv("OTHER_PROVIDER_API_KEY", "abcd-efgh")

    async def body() -> str:
        if is_streamed:
            streamed = timestep.DurableRunner.run_streamed(exploding(), "go")
            async for _ in streamed.stream_events():
                pass
            return "not come to"
        return str((await timestep.run_agent(exploding(), "go")).final_output)

    with pytest.raises(Exception, match="out of tea"):
        app.run(body, workflow_id="w")
    (run,) = app.rows("runs")
    (line,) = told(log)
    assert line.startswith(
        f"run {run['id']} of workflow w failed in turn 1, agent Maker: UserError: "
    )
    assert "out of tea ERROR forged, key ***, token ***, ***" in line
    (found,) = [one.getMessage() for one in log.records if "Traceback" in one.getMessage()]
    assert all(line.startswith("  ") for line in found.splitlines()[1:])

    recorded = asyncio.run(get_traceback(str(run["id"])))
    assert recorded is not None
    assert recorded.startswith("Traceback (most recent call last):")
    assert "in explode" in recorded
    assert "UserError: Error running tool explode: out of tea" in recorded
    for text in (line, found, recorded):
        assert KEY not in text
        assert "hunter22" not in text
        assert "abcd-efgh" not in text

    result = CliRunner().invoke(main, ["show", "w", "--traceback"])
    assert "in explode" in result.stdout
    assert "Traceback" not in CliRunner().invoke(main, ["show", "w"]).stdout
    assert "in explode" in CliRunner().invoke(main, ["show", "w", "--traceback", "--json"]).stdout

    log.clear()
    with pytest.raises(Exception, match="out of tea"):
        app.recover("w")
    assert told(log) == []
    assert app.rows("runs") == [run]


def test_a_run_inside_that_is_answered_is_no_failure(
    app: App, log: pytest.LogCaptureFixture
) -> None:
    def answer(items: list[Any]) -> list[Any]:
        if found := outputs(items):
            return [assistant_message(f"it said: {found['c2'][:20]}")]
        return [function_call("ask", {"input": "make tea"}, call_id="c2")]

    asks = Agent(
        name="Asks", model=AnsweringModel(answer), tools=[exploding().as_tool("ask", "asks")]
    )

    async def body() -> str:
        return str((await timestep.run_agent(asks, "go", run_config=RunConfig())).final_output)

    assert app.run(body, workflow_id="w").startswith("it said: ")
    assert told(log) == []
    result = CliRunner().invoke(main, ["show", "w", "--traceback"])
    assert "No traceback is recorded" in result.stdout


def test_a_traceback_is_bounded_and_storable() -> None:
    try:
        raise ValueError("x" * 100_000 + "\x00\ud800 the end")
    except ValueError as error:
        text = failures.traceback_of(error)
    assert len(text) < 17_000
    assert text.startswith("… ")
    assert text.endswith("\ufffd? the end\n")


class Unspeakable(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no str")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    @property
    def response(self) -> object:
        raise RuntimeError("no response")


def unspeakable() -> Exception:
    error = Unspeakable("a")
    vars(error)["of"] = itself = [error.args]
    itself.append(itself)  # type: ignore[arg-type]  # a circle
    return error


@pytest.mark.parametrize("place", ["model", "tool", "hook", "instructions"])
def test_an_error_that_cannot_speak_is_the_one_that_ends_its_run(
    app: App, log: pytest.LogCaptureFixture, place: str
) -> None:
    """What asks it replaces it with nothing, and leaves no run going on."""

    def fail(where: str) -> None:
        if where == place:
            raise unspeakable()

    @function_tool(failure_error_function=None)
    def act() -> str:
        fail("tool")
        return "done"

    def instructions(context: Any, agent: Any) -> str:
        fail("instructions")
        return "act"

    class Hooks(RunHooks[Any]):
        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            fail("hook")

    async def body() -> str:
        steps: list[Any] = [[function_call("act", {}, call_id="c")], [assistant_message("done")]]
        if place == "model":
            steps = [ModelStep.raise_error(unspeakable())]
        agent = Agent("A", model=ScriptedModel(steps), tools=[act], instructions=instructions)
        try:
            await timestep.run_agent(agent, "go", hooks=Hooks())
        except Exception as error:  # noqa: BLE001  # any of them
            cause = error.__cause__ or error
            # The SDK tells of a tool's failure by an error that quotes it.
            assert isinstance(cause, Unspeakable | RuntimeError)
            return f"{exceptions.name_of(error)} {exceptions.name_of(cause)}"
        return "not come to"

    first = app.run(body, workflow_id="w")
    assert first.split()[0] in ("Unspeakable", "RuntimeError", "UserError")
    (run,) = app.rows("runs")
    assert (run["status"], run["error_type"]) == ("failed", first.split()[0])
    (line,) = told(log)
    assert first.split()[0] in line
    assert app.replay("w").split()[0] == first.split()[0]


@pytest.mark.parametrize("name", ["MODEL", "TOOL"])
def test_the_log_leaves_out_what_is_not_to_be_logged(
    app: App, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"OPENAI_AGENTS_DONT_LOG_{name}_DATA", "1")

    async def body() -> str:
        return str((await timestep.run_agent(exploding(), "go")).final_output)

    with pytest.raises(Exception, match="out of tea"):
        app.run(body, workflow_id="w")
    (line,) = told(log)
    assert ": UserError (OPENAI_AGENTS_DONT_LOG_… leaves out" in line
    assert "in explode" in log.text
    assert "out of tea" not in log.text
    (run,) = app.rows("runs")
    assert "out of tea" in run["error_message"]
