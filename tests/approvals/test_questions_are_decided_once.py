"""Runs that ask a person: what they record, and how a decision reaches them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

import timestep
from tests.support.dbos_app import App
from tests.support.decisions import decide, started, waiting
from timestep.errors import AlreadyResolvedError, UnknownInterruptionError

DONE: list[str] = []


@function_tool(needs_approval=True)
async def delete(name: str) -> str:
    DONE.append(name)
    return f"deleted {name}"


@function_tool
async def look(name: str) -> str:
    return f"{name} is old"


def operator() -> Agent[Any]:
    DONE.clear()
    model = ScriptedModel(
        [
            [
                function_call("delete", {"name": "a"}, call_id="c1"),
                function_call("look", {"name": "a"}, call_id="c2"),
                function_call("delete", {"name": "b"}, call_id="c3"),
            ],
            [assistant_message("done")],
        ]
    )
    return Agent(name="Operator", model=model, tools=[delete, look])


def test_a_run_waits_until_everything_is_decided(app: App) -> None:
    outcome = started(app, operator())
    first, second = app.until(waiting)
    assert (first.tool_name, first.arguments, first.agent_name) == (
        "delete",
        {"name": "a"},
        "Operator",
    )
    (run,) = app.rows("runs")
    assert (run["status"], run["completed_at"]) == ("interrupted", None)
    (state,) = [row for row in app.rows("run_states") if row["is_active"]]
    assert (state["state_type"], state["encoding"]) == ("interrupted", "whole")
    assert DONE == []

    result = decide(approve=[first.id], by="ann")
    assert (result.resolved, result.pending) == ([first.id], [second.id])
    assert not outcome.done()
    decide(reject=["c3"], message="keep b", by="bob")

    assert outcome.result(timeout=60) == "done"
    assert DONE == ["a"]
    assert {(c["call_id"], c["status"]) for c in app.rows("tool_calls")} == {
        ("c1", "executed"),
        ("c2", "executed"),
        ("c3", "rejected"),
    }
    items = [row["item_data"] for row in app.rows("run_items", "position")]
    outputs = {item["call_id"]: item["output"] for item in items if "output" in item}
    assert outputs == {"c1": "deleted a", "c2": "a is old", "c3": "keep b"}
    assert {
        (i["call_id"], i["resolution_action"], i["resolved_by"]) for i in app.rows("interruptions")
    } == {
        ("c1", "approve", "ann"),
        ("c3", "reject", "bob"),
    }
    assert app.replay("w") == "done"
    assert DONE == ["a"]


def test_decisions_are_idempotent_and_nothing_is_applied_when_an_id_is_bad(app: App) -> None:
    outcome = started(app, operator())
    first, second = app.until(waiting)

    with pytest.raises(UnknownInterruptionError, match="nonsense"):
        decide(approve=[first.id, "nonsense"])
    assert [i.id for i in waiting()] == [first.id, second.id]
    with pytest.raises(AlreadyResolvedError, match="two decisions"):
        decide(approve=[first.id], reject="all")
    assert [i.id for i in waiting()] == [first.id, second.id]

    decide(approve=[first.id])
    assert decide(approve=[first.id]).resolved == [first.id]
    with pytest.raises(AlreadyResolvedError, match="decided already: approve"):
        decide(reject=[first.id])
    decide(approve="all")
    assert decide(approve="all").pending == []
    with pytest.raises(AlreadyResolvedError, match="decided already: approve"):
        decide(reject="all")
    assert outcome.result(timeout=60) == "done"
    assert sorted(DONE) == ["a", "b"]


def test_of_two_people_one_wins_and_the_other_is_told(app: App) -> None:
    outcome = started(app, operator())
    first, _ = app.until(waiting)

    async def race() -> tuple[Any, Any]:
        return await asyncio.gather(
            timestep.resume_workflow("w", approve=[first.id], by="ann"),
            timestep.resume_workflow("w", reject=[first.id], by="bob"),
            return_exceptions=True,
        )

    answers = asyncio.run(race())
    assert sum(isinstance(answer, AlreadyResolvedError) for answer in answers) == 1
    decide(approve="all")
    assert outcome.result(timeout=60) == "done"


def test_an_undecided_approval_is_rejected_when_its_time_is_over(app: App) -> None:
    outcome = started(app, operator(), approval_timeout=0.2)
    assert outcome.result(timeout=60) == "done"
    assert DONE == []
    assert {(i["resolution_action"], i["resolved_by"]) for i in app.rows("interruptions")} == {
        ("reject", "timeout")
    }


def test_return_gives_the_interruptions_back_and_the_state_can_go_on(app: App) -> None:
    agent = operator()

    async def body() -> str:
        result = await timestep.run_agent(agent, "clean up", on_interruption="return")
        names = [str(item.arguments) for item in result.interruptions]
        state = result.to_state()
        for item in result.interruptions:
            state.approve(item)
        final = await timestep.run_agent(agent, state, on_interruption="return")
        return f"{names} {final.final_output}"

    said = app.run(body, workflow_id="w")
    assert said.endswith("done")
    assert sorted(DONE) == ["a", "b"]
    (run,) = app.rows("runs")
    assert run["status"] == "completed"
    assert {(i["resolution_action"], i["resolved_by"]) for i in app.rows("interruptions")} == {
        ("approve", "code")
    }
    assert app.replay("w") == said
    assert sorted(DONE) == ["a", "b"]


def test_a_question_of_an_expert_stops_a_replay_where_it_stopped_the_run(app: App) -> None:
    DONE.clear()
    expert = Agent(
        name="Expert",
        model=ScriptedModel(
            [
                [function_call("delete", {"name": "a"}, call_id="i1")],
                [function_call("delete", {"name": "b"}, call_id="i2")],
                [assistant_message("deleted both")],
            ]
        ),
        tools=[delete],
    )
    asker = Agent(
        name="Asker",
        model=ScriptedModel(
            [
                [
                    function_call("ask", {"input": "?"}, call_id="c1"),
                    function_call("look", {"name": "a"}, call_id="c2"),
                ],
                [assistant_message("done")],
            ]
        ),
        tools=[expert.as_tool("ask", "Asks."), look],
    )
    outcome = started(app, asker)
    for call_id in ("i1", "i2"):
        app.until(lambda: call_id in [question.call_id for question in waiting()])  # noqa: B023
        decide(approve=[call_id])
    assert outcome.result(timeout=60) == "done"
    rows, steps = app.everything(), app.steps("w")
    assert app.replay("w") == "done"
    assert DONE == ["a", "b"]
    assert app.steps("w") == steps
    assert app.everything() == rows
    (outer,) = [row for row in app.rows("runs") if row["parent_run_id"] is None]
    states = [r for r in app.rows("run_states") if r["run_id"] == outer["id"]]
    assert [r["state_type"] for r in states].count("interrupted") == 2
