"""Sessions: the SDK's protocol, and replays that read what was read."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from agents import Agent, RunHooks, function_tool
from agents.memory import SessionSettings
from agents.testing import ScriptedModel, assistant_message, function_call

import timestep
from tests.support.dbos_app import App
from tests.support.passing_time import HOUR, pass_time
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


@function_tool
def look() -> str:
    return "seen"


def test_runs_of_one_session_at_the_same_time_lose_nothing(app: App) -> None:
    agents = [
        Agent(
            name=f"A{n}",
            model=ScriptedModel(
                [[function_call("look", {}, call_id="c")], [assistant_message(f"answer {n}")]]
            ),
            tools=[look],
        )
        for n in range(20)
    ]

    async def body() -> str:
        async def one(agent: Agent[Any]) -> None:
            session = DatabaseSession("shared")
            await timestep.DurableRunner.run(agent, agent.name, session=session)

        await asyncio.gather(*(one(agent) for agent in agents))
        return "done"

    app.run(body, workflow_id="w")
    items = app.rows("session_items", "position")
    assert len(items) == 20 * 4
    assert {row["item_data"]["content"] for row in items if row["role"] == "user"} == {
        agent.name for agent in agents
    }
    # What a run added at once stays together: each batch is met once.
    batches = [key for key, _ in itertools.groupby(items, lambda r: (r["run_id"], r["run_change"]))]
    assert len(batches) == len(set(batches)) == 20 * 3
    for run_id in {run_id for run_id, _ in batches}:
        kinds = [row["item_type"] or row["role"] for row in items if row["run_id"] == run_id]
        assert kinds == ["user", "function_call", "function_call_output", "message"]
    before = app.everything()
    assert app.replay("w") == "done"
    assert app.everything() == before


def test_an_item_is_popped_by_one_caller_only(app: App) -> None:
    """A run that still sees an item which another took gets the one before."""

    class Popping(RunHooks[Any]):
        async def on_agent_start(self, context: Any, agent: Any) -> None:
            if not app.rows("session_items", "position")[2]["deleted_at"]:
                # Somebody else, after this run has begun.
                other = DatabaseSession("talk").pop_item()
                await asyncio.get_running_loop().run_in_executor(None, asyncio.run, other)
            popped.append(await session.pop_item())

    session = DatabaseSession("talk")
    popped: list[Any] = []

    async def body() -> str:
        popped.clear()
        agent = Agent(name="A", model=ScriptedModel([[assistant_message("yes")]]))
        await timestep.DurableRunner.run(agent, [], session=session, hooks=Popping())
        return str(popped)

    async def begin() -> None:
        await session.add_items([said("a"), said("b"), said("c")])

    asyncio.run(begin())
    answer = app.run(body, workflow_id="w")
    assert answer == str([said("b")])
    left = app.rows("session_items", "position")
    assert [row["removed_run_id"] is not None for row in left[:3]] == [False, True, False]
    assert app.replay("w") == answer
    assert app.rows("session_items", "position") == left


def test_callers_at_the_same_time_pop_different_items(app: App) -> None:
    async def use() -> list[Any]:
        session = DatabaseSession("talk")
        await session.add_items([said(str(n)) for n in range(8)])
        return await asyncio.gather(*(DatabaseSession("talk").pop_item() for _ in range(8)))

    popped = asyncio.run(use())
    assert sorted(item["content"] for item in popped) == [str(n) for n in range(8)]


def test_settings_and_limits_are_the_sdks(app: App) -> None:
    async def use() -> None:
        session = DatabaseSession("talk", session_settings={"limit": 2})
        assert isinstance(session.session_settings, SessionSettings)
        await session.add_items([said(text) for text in "abc"])
        assert await session.get_items() == [said("b"), said("c")]
        assert await session.get_items(limit=0) == []
        assert len(await session.get_items(limit=9)) == 3

    asyncio.run(use())


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


class Hanging(DatabaseSession):
    """Hangs when the answer is added for the first time."""

    is_slow = True

    async def add_items(self, items: list[Any]) -> None:
        if items[0].get("role") == "assistant" and self.is_slow:
            self.is_slow = False
            pass_time()
            await asyncio.Event().wait()
        await super().add_items(items)


def test_what_a_run_out_of_time_did_not_add_is_not_added_by_its_replay(app: App) -> None:
    session = Hanging("s")
    agent = Agent("A", model=ScriptedModel([[assistant_message("done")]]))

    async def body() -> str:
        try:
            await timestep.run_agent(agent, "hi", session, timeout=HOUR)
        except TimeoutError:
            return "too late"
        return "in time"

    assert app.run(body, workflow_id="w") == "too late"
    assert [item.get("role") for item in asyncio.run(session.get_items())] == ["user"]
    assert app.replay("w") == "too late"
    assert [item.get("role") for item in asyncio.run(session.get_items())] == ["user"]
