"""What a cancelled caller leaves, where a commit is on its way or waits for one."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any

import psycopg
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    ModelRetrySettings,
    ModelSettings,
    function_tool,
    input_guardrail,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from tests.execution.test_deferred_commit_begins_nothing_early import body_of
from tests.support.dbos_app import BODIES, App
from tests.support.passing_time import HOUR
from timestep.execution.commits import Commits
from timestep.journal.reads import database


@pytest.fixture(autouse=True)
def joint(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_ORDINARY_STEPS", "false")
    database.forget_databases()


@function_tool
async def look(name: str) -> str:
    return name


async def cut_off(agent: Agent[Any], when: threading.Event, cancelled: threading.Event) -> str:
    """What comes of a run that its workflow's code cancels."""
    task = asyncio.ensure_future(timestep.run_agent(agent, "go"))
    await asyncio.to_thread(when.wait, 60)
    task.cancel()
    cancelled.set()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    return "not"


def test_a_check_that_ended_is_recorded_whatever_cancels_it(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = asyncio.Event()
    waits = threading.Event()
    cancelled = threading.Event()
    ended: list[str] = []
    begin, over = Commits.defer, Commits.deferred

    def begun(one: Commits, writing: Any) -> None:
        begin(one, writing)
        landing.set()

    async def awaited(one: Commits) -> None:
        if one.has_deferred and ended:
            waits.set()
        await over(one)

    monkeypatch.setattr(Commits, "defer", begun)
    monkeypatch.setattr(Commits, "deferred", awaited)

    @input_guardrail
    async def slow(*_: Any) -> GuardrailFunctionOutput:
        await landing.wait()
        ended.append("slow")
        return GuardrailFunctionOutput(None, tripwire_triggered=False)

    model = ScriptedModel(
        [[function_call("look", {"name": "a"}, call_id="1")], [assistant_message("done")]]
    )
    agent = Agent("A", model=model, tools=[look], input_guardrails=[slow])

    BODIES["check"] = functools.partial(cut_off, agent, waits, cancelled)
    with psycopg.connect(app.url) as connection:
        connection.execute("LOCK TABLE model_responses IN EXCLUSIVE MODE")
        workflow_id = app.started("check")
        assert cancelled.wait(60)
        connection.rollback()
    assert DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02) == "cancelled"
    assert ended == ["slow"]
    assert len(app.rows("model_responses")) == 1
    assert len(app.rows("guardrail_results")) == 1


@pytest.mark.parametrize("has_policy", [False, True])
def test_a_models_time_ends_with_its_answer_and_not_with_the_commit(
    app: App, has_policy: bool
) -> None:
    """The SDK would count the commit, too, and ask again: two answers to one question."""
    model = ScriptedModel([[assistant_message("first")], [assistant_message("second")]])
    policy = ModelRetrySettings(max_retries=2, policy=lambda _: True)
    settings = ModelSettings(timeout=HOUR, retry=policy if has_policy else None)
    key = body_of(Agent("A", model=model, model_settings=settings))
    with psycopg.connect(app.url) as connection:
        connection.execute("LOCK TABLE model_responses IN EXCLUSIVE MODE")
        workflow_id = app.started(key)
        app.until(lambda: _waiting(app))
        app.pass_time()
        connection.rollback()
    assert DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02) == "first"
    assert [row["error"] for row in app.rows("model_responses")] == [None]
    assert app.recover(workflow_id) == "first"
    assert len(app.rows("model_responses")) == 1


def test_a_cancelled_caller_whose_connection_is_lost_hears_that_it_is_cancelled(app: App) -> None:
    began = threading.Event()
    cancelled = threading.Event()
    lost = threading.Event()
    model = ScriptedModel([[assistant_message("done")]])

    async def body() -> str:
        task = asyncio.ensure_future(timestep.run_agent(Agent("A", model=model), "go"))
        await asyncio.to_thread(began.wait, 60)
        task.cancel()
        for _ in range(20):
            # The run has its turns to hear of it.
            await asyncio.sleep(0)
        cancelled.set()
        await asyncio.to_thread(lost.wait, 60)
        try:
            await task
        except asyncio.CancelledError:
            return "cancelled"
        return "not cancelled"

    BODIES["lost"] = body
    with psycopg.connect(app.url) as connection:
        connection.execute("LOCK TABLE model_responses IN EXCLUSIVE MODE")
        workflow_id = app.started("lost")
        app.until(lambda: _waiting(app))
        began.set()
        assert cancelled.wait(60)
        (pid,) = _waiting(app)
        with psycopg.connect(app.url) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        connection.rollback()
        lost.set()
    assert DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02) == "cancelled"
    assert len(app.rows("model_responses")) == 1
    assert [row["requests"] for row in app.rows("usage_metrics")] == [1]


def test_a_run_that_is_cut_off_while_it_is_written_down_ends(app: App) -> None:
    agent = Agent("A", model=ScriptedModel([[assistant_message("done")]]))
    may_cancel, cancelled = threading.Event(), threading.Event()

    BODIES["begins"] = functools.partial(cut_off, agent, may_cancel, cancelled)
    with psycopg.connect(app.url) as connection:
        connection.execute("LOCK TABLE runs IN EXCLUSIVE MODE")
        workflow_id = app.started("begins")
        app.until(lambda: len(_waiting(app)) == 1)
        may_cancel.set()
        assert cancelled.wait(60)
        connection.rollback()
    assert DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02) == "cancelled"
    (run,) = app.rows("runs")
    assert (run["status"], run["cancel_reason"]) == ("cancelled", "code")
    assert app.recover(workflow_id) == "cancelled"
    (run,) = app.rows("runs")
    assert (run["status"], run["cancel_reason"]) == ("cancelled", "code")
    assert app.rows("model_responses") == []


def _waiting(app: App) -> list[int]:
    """Which backends wait for a lock."""
    found = app.execute(
        "SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return [pid for (pid,) in found]
