"""An answer is read while its rows are on their way; nothing that it asks for begins before."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from agents import Agent, AgentHooks, RunHooks, function_tool, tool_input_guardrail
from agents import ToolGuardrailFunctionOutput as Allowed
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS
from dbos import error as dbos_errors

import timestep
from tests.support.dbos_app import BODIES, App
from tests.support.passing_time import HOUR
from timestep.errors import RunTimeoutError
from timestep.execution.commits import Commits
from timestep.journal.reads import database
from timestep.runtime import draining

made: list[str] = []


@function_tool
async def look(name: str) -> str:
    made.append(name)
    return f"saw {name}"


@tool_input_guardrail
async def checks(_: Any) -> Allowed:
    made.append("checked")
    return Allowed.allow()


@function_tool(tool_input_guardrails=[checks])
async def checked(name: str) -> str:
    made.append(name)
    return f"saw {name}"


def agent_of(*tools: Any, **options: Any) -> Agent[Any]:
    calls = [function_call(tool.name, {"name": tool.name}, call_id=tool.name) for tool in tools]
    model = ScriptedModel([calls, [assistant_message("done")]])
    return Agent("A", model=model, tools=list(tools), **options)


class Held:
    """The database, which takes no answer as long as this is held."""

    def __init__(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = app
        self.is_waited_for = threading.Event()
        over = Commits.deferred

        async def awaited(commits: Commits) -> None:
            if commits.has_deferred:
                self.is_waited_for.set()
            await over(commits)

        monkeypatch.setattr(Commits, "deferred", awaited)

    @contextlib.contextmanager
    def while_it_is(self) -> Iterator[None]:
        """Until the SDK has read the answer, and comes to what it asks for."""
        with psycopg.connect(self.app.url) as connection:
            connection.execute("LOCK TABLE model_responses IN EXCLUSIVE MODE")
            yield
            connection.rollback()

    def come_to_the_call(self) -> None:
        assert self.is_waited_for.wait(60)
        assert made == []
        assert self.app.rows("tool_calls") == []


@pytest.fixture(params=["joint", "ordinary"])
def held(app: App, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Held:
    monkeypatch.setenv("TIMESTEP_ORDINARY_STEPS", str(request.param == "ordinary").lower())
    database.forget_databases()
    made.clear()
    return Held(app, monkeypatch)


def body_of(agent: Agent[Any], **options: Any) -> str:
    key = f"landing-{id(agent)}"

    async def body() -> str:
        run = await timestep.run_agent(agent, "go", **options)
        return str(run.final_output)

    BODIES[key] = body
    return key


@pytest.mark.parametrize("tools", [[look], [checked], [look, checked]])
def test_a_call_is_made_once_the_answer_that_asks_for_it_is_recorded(
    app: App, held: Held, tools: list[Any]
) -> None:
    with held.while_it_is():
        workflow_id = app.started(body_of(agent_of(*tools)))
        held.come_to_the_call()
        assert not draining.wait(0), "a host that stops waits for the answer"
    assert DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02) == "done"
    assert len(made) == sum(1 if tool is look else 2 for tool in tools)
    assert app.replay(workflow_id) == "done"
    assert len(made) == sum(1 if tool is look else 2 for tool in tools)


def test_a_workflow_that_is_cancelled_meanwhile_makes_no_call(app: App, held: Held) -> None:
    with held.while_it_is():
        workflow_id = app.started(body_of(agent_of(look)))
        held.come_to_the_call()
        DBOS.cancel_workflow(workflow_id)
    with pytest.raises(dbos_errors.DBOSAwaitedWorkflowCancelledError):
        DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02)
    app.until(lambda: app.rows("runs")[0]["status"] == "cancelled")
    assert draining.wait(60)
    assert len(app.rows("model_responses")) == 1
    assert [row["status"] for row in app.rows("tool_calls")] == ["skipped"]
    assert made == []


def test_a_run_whose_time_is_over_meanwhile_keeps_the_answer(app: App, held: Held) -> None:
    with held.while_it_is():
        workflow_id = app.started(body_of(agent_of(look), timeout=HOUR))
        held.come_to_the_call()
        # It ends once the answer is there: what follows an effect is recorded.
        app.pass_time()
    with pytest.raises(RunTimeoutError):
        DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02)
    assert made == []
    assert [row["status"] for row in app.rows("tool_calls")] == ["skipped"]
    assert [row["status"] for row in app.rows("runs")] == ["failed"]


def recorded_answers(app: App) -> list[str]:
    return [row["model"] for row in app.rows("model_responses")]


class Onlooker(RunHooks[Any]):
    def __init__(self, app: App) -> None:
        self.app = app
        self.seen: list[int] = []

    async def on_llm_end(self, *_: Any) -> None:
        self.seen.append(len(recorded_answers(self.app)))


class OwnOnlooker(AgentHooks[Any]):
    def __init__(self, app: App) -> None:
        self.app = app
        self.seen: list[int] = []

    async def on_llm_end(self, *_: Any) -> None:
        self.seen.append(len(recorded_answers(self.app)))


@pytest.mark.parametrize("stream", [False, True])
def test_what_hooks_hear_of_is_recorded(app: App, held: Held, stream: bool) -> None:
    hooks = Onlooker(app)
    key = body_of(agent_of(look), hooks=hooks, stream=stream)
    assert DBOS.retrieve_workflow(app.started(key)).get_result(polling_interval_sec=0.02) == "done"
    assert hooks.seen == [1, 2]
    own = OwnOnlooker(app)
    key = body_of(agent_of(look, hooks=own), stream=stream)
    assert DBOS.retrieve_workflow(app.started(key)).get_result(polling_interval_sec=0.02) == "done"
    assert own.seen == [3, 4]
    assert not held.is_waited_for.is_set()


def test_what_decides_about_a_call_is_asked_when_the_answer_is_recorded(
    app: App, held: Held
) -> None:
    seen: list[int] = []

    async def decide(*_: Any) -> bool:
        seen.append(len(recorded_answers(app)))
        return False

    @function_tool(needs_approval=decide)
    async def ask(name: str) -> str:
        return f"asked {name}"

    key = body_of(agent_of(ask))
    assert DBOS.retrieve_workflow(app.started(key)).get_result(polling_interval_sec=0.02) == "done"
    assert seen[0] == 1
    assert not held.is_waited_for.is_set()


def test_what_a_stream_shows_to_its_end_is_recorded(app: App, held: Held) -> None:
    key = body_of(agent_of(look), stream=True)
    assert DBOS.retrieve_workflow(app.started(key)).get_result(polling_interval_sec=0.02) == "done"
    assert made == ["look"]
    assert not held.is_waited_for.is_set()
