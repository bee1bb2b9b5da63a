"""Sessions: the SDK's protocol, and replays that read what was read."""

from __future__ import annotations

import asyncio
from typing import Any

from agents import Agent
from agents.memory import SessionSettings
from agents.testing import ScriptedModel, assistant_message

import timestep
from tests.integration.app import App
from timestep import DatabaseSession


def said(text: str) -> Any:
    return {"role": "user", "content": text}


def test_the_protocol_outside_a_workflow(app: App) -> None:
    async def use() -> None:
        session = DatabaseSession("talk")
        assert await session._get_session_id() == "talk"
        assert await session.get_items() == []
        await session.add_items([said("a"), said("b\x00")])
        await session.add_items([said("c")])
        assert await session.get_items() == [said("a"), said("b\x00"), said("c")]
        assert await session.get_items(limit=2) == [said("b\x00"), said("c")]
        bounded = DatabaseSession("talk", session_settings=SessionSettings(limit=1))
        assert await bounded.get_items() == [said("c")]
        assert await session.pop_item() == said("c")
        assert await session.get_items() == [said("a"), said("b\x00")]
        await session.clear_session()
        assert await session.get_items() == []
        assert await session.pop_item() is None
        await session.add_items([said("d")])
        assert await session.get_items() == [said("d")]

    asyncio.run(use())
    assert all(
        (row["deleted_at"] is None) == (row["item_data"] == said("d"))
        for row in app.rows("session_items")
    )


def test_a_replay_reads_what_was_read_and_adds_nothing(app: App) -> None:
    """Trap 6: one replay grew a session from 2 to 4 items."""
    model = ScriptedModel([[assistant_message("one")], [assistant_message("two")]])
    agent = Agent(name="A", model=model)

    async def body() -> str:
        session = DatabaseSession()
        first = await timestep.DurableRunner.run(agent, "hi", session=session)
        second = await timestep.DurableRunner.run(agent, "and?", session=session)
        return f"{first.final_output} {second.final_output} {len(second.to_input_list())}"

    answer = app.run(body, workflow_id="w")
    assert answer.startswith("one two")
    assert len(app.rows("session_items")) == 4
    before = app.everything()
    assert app.replay("w") == answer
    assert app.everything() == before
    assert len(model.calls) == 2


def test_runs_of_one_session_at_the_same_time_lose_nothing(app: App) -> None:
    agents = [
        Agent(name=f"A{n}", model=ScriptedModel([[assistant_message(f"answer {n}")]]))
        for n in range(4)
    ]

    async def body() -> str:
        async def one(agent: Agent[Any]) -> None:
            session = DatabaseSession("shared")
            await timestep.DurableRunner.run(agent, agent.name, session=session)

        await asyncio.gather(*(one(agent) for agent in agents))
        return "done"

    app.run(body)
    items = app.rows("session_items", "position")
    assert len(items) == 8
    assert {row["item_data"]["content"] for row in items if row["role"] == "user"} == {
        "A0",
        "A1",
        "A2",
        "A3",
    }
    assert len({row["position"] for row in items}) == 8


def test_changes_in_workflow_code_are_steps(app: App) -> None:
    async def body() -> str:
        session = DatabaseSession("direct")
        await session.add_items([said("a")])
        found = await session.get_items()
        return str(len(found))

    assert app.run(body, workflow_id="w") == "1"
    assert app.steps("w") == ["session: add", "session: read"]
    assert app.replay("w") == "1"
    assert len(app.rows("session_items")) == 1
