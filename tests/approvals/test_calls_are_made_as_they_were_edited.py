"""A person approves a call with other arguments: it is made, shown and recorded with those."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from threading import Thread
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import assistant_message, function_call

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import App

made: list[tuple[str, Any]] = []
"""The calls that were made."""
shown: list[dict[str, Any]] = []
"""The calls that the model was shown, each time that it was asked."""


@function_tool(needs_approval=True)
async def refund(order: str, cents: int, note: str | None = None) -> str:
    made.append((order, cents))
    return f"refunded {cents} for {order}"


@function_tool
async def look(name: str) -> str:
    return f"{name} is old"


CALLS: list[Any] = [
    function_call("refund", {"order": "o1", "cents": 5000, "note": None}, call_id="c1"),
    function_call("look", {"name": "a"}, call_id="c2"),
    function_call("refund", {"order": "o2", "cents": 100, "note": None}, call_id="c3"),
]


def answer(items: list[Any]) -> list[Any]:
    """What a clerk's model answers: it asks for the calls, and then tells what came of them."""
    shown[:] = [item for item in items if item.get("type") == "function_call"]
    found = outputs(items)
    if not found:
        return CALLS
    return [assistant_message(" | ".join(f"{k}: {v}" for k, v in sorted(found.items())))]


def clerk(**options: Any) -> Agent[Any]:
    made.clear()
    return Agent(name="Clerk", model=AnsweringModel(answer), tools=[refund, look], **options)


def started(app: App, agent: Agent[Any], given: Any = "pay back", **options: Any) -> Future[str]:
    """A workflow `w` that runs the agent in a thread of its own."""
    outcome: Future[str] = Future()

    async def body() -> str:
        return str((await timestep.run_agent(agent, given, **options)).final_output)

    def work() -> None:
        try:
            outcome.set_result(app.run(body, workflow_id="w"))
        except Exception as error:  # noqa: BLE001  # the future raises it to the test
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    return outcome


def waiting(**which: Any) -> list[timestep.Interruption]:
    return asyncio.run(timestep.list_interruptions(workflow_id="w", **which))


def decide(**decision: Any) -> timestep.ResumeResult:
    return timestep.resume_workflow_sync("w", **decision)


EDITED = {"order": "o1", "cents": 50, "note": "half of it"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_made_and_shown_as_edited_and_both_versions_are_kept(
    app: App, stream: bool
) -> None:
    outcome = started(app, clerk(), stream=stream)
    first, _ = app.until(waiting)
    result = decide(edit={first.id: EDITED}, approve=["c3"], by="ann")
    assert (len(result.resolved), result.goes_on) == (2, True)

    told = "c1: refunded 50 for o1 | c2: a is old | c3: refunded 100 for o2"
    assert outcome.result(timeout=60) == told
    assert sorted(made) == [("o1", 50), ("o2", 100)]
    assert json.loads(shown[0]["arguments"]) == EDITED
    assert CALLS[0].arguments == '{"order":"o1","cents":5000,"note":null}', "not the model's own"

    asked = {"order": "o1", "cents": 5000, "note": None}
    one, other = waiting(resolved=True)
    assert (one.arguments, one.resolution_arguments) == (asked, EDITED)
    assert (one.resolution_action, one.resolved_by) == ("edit", "ann")
    assert (other.resolution_action, other.resolution_arguments) == ("approve", None)
    (call,) = [row for row in app.rows("tool_calls") if row["call_id"] == "c1"]
    assert (call["arguments"], call["edited_arguments"]) == (asked, EDITED)
    assert call["status"] == "executed"
    (item,) = [
        row
        for row in app.rows("run_items")
        if row["tool_call_id"] == call["id"] and row["item_type"] == "tool_call_item"
    ]
    assert json.loads(item["item_data"]["arguments"]) == EDITED
    assert json.loads(item["original_data"]["arguments"]) == asked
    (run,) = asyncio.run(timestep.list_runs()).items
    assert [one.resolution_arguments for one in run.interruptions] == [EDITED, None]
    # What the model answered is its record, and stays.
    first_answer = app.rows("model_responses", "turn")[0]
    assert json.loads(first_answer["output"][0]["arguments"]) == asked
    assert app.replay("w") == told
    assert sorted(made) == [("o1", 50), ("o2", 100)]


def office(depth: int) -> Agent[Any]:
    """An agent that asks the clerk through so many others, and asks itself, too."""
    inner = clerk()
    for level in range(depth):

        def ask(items: list[Any], level: int = level) -> list[Any]:
            if found := outputs(items):
                return [assistant_message(f"{level}: {' | '.join(found.values())}")]
            calls = [function_call("ask", {"input": "pay back"}, call_id=f"ask-{level}")]
            if level == depth - 1:
                calls.append(
                    function_call("refund", {"order": "o3", "cents": 7, "note": None}, call_id="c9")
                )
            return list(calls)

        tool = inner.as_tool("ask", "asks another")
        inner = Agent(name=f"Asks{level}", model=AnsweringModel(ask), tools=[tool, refund])
    return inner


@pytest.mark.parametrize("depth", [1, 2])
def test_a_call_of_a_run_inside_a_run_is_edited_with_its_session(app: App, depth: int) -> None:
    session = timestep.DatabaseSession("s")
    outcome = started(app, office(depth), session=session)
    app.until(lambda: len(waiting()) == 3)
    decide(edit={"c1": EDITED, "c9": {"order": "o3", "cents": 6, "note": None}}, approve=["c3"])
    told = outcome.result(timeout=60)
    assert told.endswith("c3: refunded 100 for o2 | refunded 6 for o3")
    assert "c1: refunded 50 for o1" in told
    assert sorted(made) == [("o1", 50), ("o2", 100), ("o3", 6)]
    kept = [row["item_data"] for row in app.rows("session_items", "position")]
    calls = {item["call_id"]: item["arguments"] for item in kept if "arguments" in item}
    assert json.loads(calls["c9"])["cents"] == 6
    assert app.replay("w") == told
