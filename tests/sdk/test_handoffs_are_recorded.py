"""Handoffs: who acted is recorded, and a replay hands off to the user's own agents."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, HandoffInputData, RunConfig, handoff
from agents.testing import assistant_message, function_call
from pydantic import BaseModel

import timestep
from tests.support.conversational_model import AnsweringModel
from tests.support.dbos_app import BODIES, App, run_it
from timestep import testing


class Reason(BaseModel):
    text: str


def assert_replays(body: Any) -> str:
    key = f"handoffs-{id(body)}"
    BODIES[key] = body
    return str(testing.assert_replays_sync(run_it, key, times=3, delay=0.003))


def actors(app: App, table: str, *order: str) -> list[str]:
    return [app.names("agents", row["agent_id"]) for row in app.rows(table, *order)]


@pytest.mark.parametrize("nest_history", [False, True])
def test_a_cycle_of_handoffs_tells_who_acted(app: App, nest_history: bool) -> None:
    """Trap 5: A to B to A."""
    reasons: list[str] = []
    turns: list[str] = []

    async def noted(ctx: Any, reason: Reason) -> None:
        reasons.append(reason.text)

    def without_tools(data: HandoffInputData) -> HandoffInputData:
        return data.clone(new_items=tuple(i for i in data.new_items if i.type != "reasoning_item"))

    def first_answers(items: list[Any]) -> list[Any]:
        turns.append("A")
        if turns.count("A") > 1:
            return [assistant_message("back at A")]
        return [function_call("transfer_to_b", {"text": "b knows"}, call_id="h1")]

    def second_answers(items: list[Any]) -> list[Any]:
        turns.append("B")
        return [function_call("transfer_to_a", {}, call_id="h2")]

    first = Agent(name="A", model=AnsweringModel(first_answers))
    second = Agent(name="B", model=AnsweringModel(second_answers))
    first.handoffs = [
        handoff(second, input_type=Reason, on_handoff=noted, input_filter=without_tools)
        if not nest_history
        else handoff(second, input_type=Reason, on_handoff=noted, nest_handoff_history=True)
    ]
    second.handoffs = [first]
    config = RunConfig(nest_handoff_history=nest_history)

    async def body() -> str:
        result = await timestep.DurableRunner.run(first, "go", run_config=config)
        assert result.last_agent is first
        assert all(item.agent in (first, second) for item in result.new_items)
        return str(result.final_output)

    assert assert_replays(body) == "back at A"
    assert turns == ["A", "B", "A"]
    assert set(reasons) == {"b knows"}
    assert actors(app, "model_responses", "ordinal") == ["A", "B", "A"]
    items = app.rows("run_items", "position")
    told = [(app.names("agents", row["agent_id"]), row["item_type"]) for row in items]
    assert told == [
        ("A", "handoff_call_item"),
        ("A", "handoff_output_item"),
        ("B", "handoff_call_item"),
        ("B", "handoff_output_item"),
        ("A", "message_output_item"),
    ]
    (run,) = app.rows("runs")
    assert app.names("agents", run["current_agent_id"]) == "A"
