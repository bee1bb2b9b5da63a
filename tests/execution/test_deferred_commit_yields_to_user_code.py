"""User's code between an answer and the next step finds the answer recorded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, RunConfig, RunErrorHandlerResult, function_tool, tool_namespace
from agents.items import ToolApprovalItem
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputRefusal,
)

import timestep
from tests.execution.test_deferred_commit_begins_nothing_early import body_of, recorded_answers
from tests.support.dbos_app import App
from timestep.errors import DatabaseError
from timestep.execution.current import current_run
from timestep.journal import recorder
from timestep.journal.reads import database

seen: list[tuple[str, bool]] = []


@pytest.fixture(autouse=True)
def joint(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_ORDINARY_STEPS", "false")
    database.forget_databases()
    seen.clear()


def note(what: str) -> None:
    run = current_run()
    seen.append((what, run is not None and run.commits.has_deferred))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that takes its time with an answer."""
    commit = recorder.Recorder.commit

    async def slowly(self: Any, owner: Any, rows: Any, *args: Any, **given: Any) -> None:
        if "model_responses" in rows:
            await asyncio.sleep(0.05)
        await commit(self, owner, rows, *args, **given)

    monkeypatch.setattr(recorder.Recorder, "commit", slowly)


def result_of(key: str, app: App) -> str:
    return str(DBOS.retrieve_workflow(app.started(key)).get_result(polling_interval_sec=0.02))


def test_whether_a_tool_is_enabled_is_asked_when_the_answer_is_recorded(app: App) -> None:
    def enabled(*_: Any) -> bool:
        note("enabled")
        return True

    @function_tool(is_enabled=enabled)
    async def look(name: str) -> str:
        return name

    model = ScriptedModel(
        [[function_call("look", {"name": "a"}, call_id="1")], [assistant_message("done")]]
    )
    assert result_of(body_of(Agent("A", model=model, tools=[look])), app) == "done"
    assert ("enabled", True) not in seen, seen


class Session(timestep.DatabaseSession):
    async def add_items(self, items: Any) -> None:
        note("session")
        await super().add_items(items)


def test_a_turn_that_makes_no_call_ends_when_its_answer_is_recorded(app: App, slow: None) -> None:
    @function_tool
    async def look(name: str) -> str:
        return name

    def instructions(_context: Any, _agent: Any) -> str:
        note("instructions")
        return "x"

    call = [function_call("look", {"name": "a"}, call_id="1")]
    model = ScriptedModel([call, call, [assistant_message("done")]])
    agent = Agent("A", model=model, tools=[look], instructions=instructions)
    assert result_of(body_of(agent, session=Session("s")), app) == "done"
    assert len(recorded_answers(app)) == 3
    assert not [what for what, early in seen if early], seen


def test_an_error_handler_is_asked_when_the_answer_is_recorded(app: App) -> None:
    @function_tool
    async def look(name: str) -> str:
        return name

    async def refused(_: Any) -> Any:
        note("refused")
        return RunErrorHandlerResult(final_output="no", include_in_history=False)

    call = function_call("look", {"name": "a"}, call_id="1")
    refusal = ResponseOutputMessage(
        id="m",
        role="assistant",
        status="completed",
        type="message",
        content=[ResponseOutputRefusal(refusal="never", type="refusal")],
    )
    model = ScriptedModel([[call], [refusal, call]])
    agent = Agent("A", model=model, tools=[look])
    assert result_of(body_of(agent, error_handlers={"model_refusal": refused}), app) == "no"
    assert seen == [("refused", False)]


@pytest.mark.own_database
def test_an_answer_that_is_refused_ends_the_run_whatever_the_sdk_says_of_it(app: App) -> None:
    @function_tool
    async def look(name: str) -> str:
        return name

    app.execute(
        "ALTER TABLE run_items ADD CONSTRAINT never CHECK (item_data::text NOT LIKE '%bad%')"
    )
    answer = [
        function_call("look", {"name": "bad"}, call_id="1"),
        function_call("look", {"name": "bad too"}, call_id="1"),
    ]
    agent = Agent("A", model=ScriptedModel([answer]), tools=[look])
    with pytest.raises(DatabaseError):
        result_of(body_of(agent), app)
    assert [row["error_type"] for row in app.rows("runs")] == ["DatabaseError"]


def test_of_two_tools_of_one_name_each_is_asked_about(app: App) -> None:
    async def decide(*_: Any) -> bool:
        note("decide")
        return False

    @function_tool(name_override="look", needs_approval=decide)
    async def first(name: str) -> str:
        return name

    @function_tool(name_override="look")
    async def second(name: str) -> str:
        return name

    tools: list[Any] = [
        *tool_namespace(name="a", description="a", tools=[first]),
        *tool_namespace(name="b", description="b", tools=[second]),
    ]
    call = ResponseFunctionToolCall(
        name="look", namespace="a", arguments='{"name": "x"}', call_id="1", type="function_call"
    )
    agent = Agent("A", model=ScriptedModel([[call], [assistant_message("done")]]), tools=tools)
    assert result_of(body_of(agent), app) == "done"
    assert ("decide", False) in seen
    assert ("decide", True) not in seen


def test_what_a_rejected_call_is_answered_is_asked_when_the_answer_is_recorded(app: App) -> None:
    @function_tool
    async def look(name: str) -> str:
        return name

    def instructions(context: Any, agent: Any) -> str:
        other: Any = function_call("look", {"name": "b"}, call_id="0")
        item = ToolApprovalItem(agent=agent, raw_item=other, tool_name="look")
        context.reject_tool(item, always_reject=True)
        return "x"

    def formatter(_: Any) -> str:
        note("formatter")
        return "no"

    call = function_call("look", {"name": "a"}, call_id="1")
    model = ScriptedModel([[call], [assistant_message("done")]])
    agent = Agent("A", model=model, tools=[look], instructions=instructions)
    config = RunConfig(tool_error_formatter=formatter)
    assert result_of(body_of(agent, run_config=config), app) == "done"
    assert seen == [("formatter", False)]
