"""Stores in workflows: what they do is recorded, and another workflow finishes what one began."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from agents import Agent, Runner, RunState, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from click.testing import CliRunner
from dbos import DBOS

import timestep
from tests.run_states.test_database_store_keeps_states import Basket
from tests.sdk.test_mcp_servers_are_asked_once import Fake
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App
from tests.support.interrupting_agents import TOLD, decide, deleter, made, nested, stopped
from timestep import DatabaseRunStateStore, DatabaseSession
from timestep.cli import main
from timestep.errors import UnknownStateError


@pytest.fixture(autouse=True)
def nothing_made() -> None:
    made.clear()


def test_a_session_gives_the_newest_state_of_its_runs(app: App) -> None:
    agent = deleter()

    async def workflow() -> str:
        session = DatabaseSession("talk")
        await timestep.run_agent(agent, "tidy up", session, on_interruption="return")
        return "stopped"

    async def elsewhere() -> None:
        store = DatabaseRunStateStore(agent, session_id="talk")
        derived = store.run_id
        with pytest.raises(UnknownStateError, match="session 'talk'"):
            await store.load()
        await store.save(await stopped(agent))
        assert (await store.load()).get_interruptions()
        assert store.run_id == derived
        await asyncio.to_thread(app.run, workflow)
        # The durable run's own state is newer, and is what is gone on with.
        state = await store.load()
        (durable,) = [row for row in app.rows("runs") if row["workflow_id"] is not None]
        assert store.run_id == str(durable["id"]) != derived
        decide(state)
        await store.save((await Runner.run(agent, state)).to_state())
        assert {row["session_id"] for row in app.rows("runs")} == {durable["session_id"]}
        active = [row for row in app.rows("run_states") if row["is_active"]]
        assert {(str(row["run_id"]), row["state_type"]) for row in active} == {
            (store.run_id, "final"),
            (derived, "interrupted"),
        }
        # A durable run's row is its workflow's own.
        (again,) = [row for row in app.rows("runs") if row["workflow_id"] is not None]
        assert again == durable
        await store.clear()
        assert not any(row["is_active"] for row in app.rows("run_states"))
        with pytest.raises(UnknownStateError):
            await DatabaseRunStateStore(agent, session_id="talk").load()

    asyncio.run(elsewhere())


def test_a_run_of_no_workflow_is_listed_and_shown(app: App) -> None:
    async def save() -> list[str | None]:
        stores = [DatabaseRunStateStore(deleter(), run_id=name) for name in ("a", "b")]
        for store in stores:
            await store.save(await stopped(deleter()))
        return [store.run_id for store in stores]

    ids = asyncio.run(save())
    page = asyncio.run(timestep.list_runs())
    assert {(run.id, run.workflow_id) for run in page.items} == {(id_, None) for id_ in ids}
    listed, shown = (CliRunner().invoke(main, given) for given in (["runs"], ["show", str(ids[0])]))
    assert all(str(id_) in listed.output for id_ in ids)
    assert str(ids[0]) in shown.output
    assert "None" not in listed.output + shown.output


def test_a_store_without_ids_saves_to_a_new_run(app: App) -> None:
    agent = deleter()

    async def use() -> str | None:
        store = DatabaseRunStateStore(agent)
        await store.save(await stopped(agent))
        return store.run_id

    async def workflow() -> str:
        return str(await use())

    outside = asyncio.run(use())
    inside = app.run(workflow, workflow_id="w")
    assert {str(row["id"]) for row in app.rows("runs")} >= {outside, inside}
    assert app.replay("w") == inside


@pytest.mark.parametrize("durably", [timestep.run_agent, timestep.DurableRunner.run])
def test_a_state_of_one_workflow_is_finished_by_another(
    app: App, durably: Callable[..., Awaitable[Any]]
) -> None:
    # The second workflow's agent is another object, as in another process.
    first, second = deleter(), deleter()

    async def stops() -> str:
        result = await timestep.run_agent(
            first, "tidy up", context={"who": "ann"}, on_interruption="return"
        )
        await DatabaseRunStateStore(first, run_id="order").save(result.to_state())
        return str(len(result.interruptions))

    async def goes_on() -> str:
        async with DatabaseRunStateStore(second, run_id="order") as store:
            state = await store.load()
            decide(state)
            result = await durably(second, state)
            await store.save(result.to_state())
        return f"{result.final_output} {result.context_wrapper.context}"

    assert app.run(stops, workflow_id="w1") == "2"
    assert app.steps("w1")[-1] == "run state: save"
    said = app.run(goes_on, workflow_id="w2")
    assert said == f"{TOLD} {{'who': 'ann'}}"
    assert made == ["a", "b"]
    assert app.steps("w2")[0] == "run state: load"
    assert app.steps("w2")[-1] == "run state: save"
    of_w2 = next(row for row in app.rows("runs") if row["workflow_id"] == "w2")
    assert of_w2["status"] == "completed"
    calls = {
        (row["call_id"], row["status"])
        for row in app.rows("tool_calls")
        if row["run_id"] == of_w2["id"]
    }
    assert calls == {("c1", "executed"), ("c2", "rejected")}
    stored = uuid.uuid5(uuid.NAMESPACE_URL, "timestep:run:order")
    saved = [row for row in app.rows("run_states", "created_at") if row["run_id"] == stored]
    assert [(row["state_type"], row["is_active"]) for row in saved] == [
        ("interrupted", False),
        ("final", True),
    ]
    assert saved[0]["resumed_at"] is not None
    assert app.replay("w1") == "2"
    assert app.replay("w2") == said
    assert made == ["a", "b"]


def test_runs_inside_the_one_that_is_gone_on_with_are_finished_too(app: App) -> None:
    first, second = nested(2), nested(2)

    async def stops() -> str:
        result = await timestep.run_agent(first, "tidy up", on_interruption="return")
        await DatabaseRunStateStore(first, run_id="r").save(result.to_state())
        return "stopped"

    async def goes_on() -> str:
        state = await DatabaseRunStateStore(second, run_id="r").load()
        decide(state)
        return str((await timestep.run_agent(second, state)).final_output)

    app.run(stops)
    said = app.run(goes_on, workflow_id="w2")
    assert said == f"1: 0: {TOLD}"
    assert app.steps("w2") == ["run state: load", "tool: ask (ask-1)", "turn 2: Asks1"]
    assert app.replay("w2") == said
    assert made == ["a", "b"]


def test_what_nobody_decided_is_asked_by_the_workflow_that_goes_on(app: App) -> None:
    first, second = deleter(), deleter()

    async def stops() -> str:
        result = await timestep.run_agent(first, "tidy up", on_interruption="return")
        await DatabaseRunStateStore(first, run_id="r").save(result.to_state())
        return "stopped"

    async def goes_on() -> str:
        state = await DatabaseRunStateStore(second, run_id="r").load()
        state.approve(state.get_interruptions()[0])
        return str((await timestep.run_agent(second, state)).final_output)

    app.run(stops)
    BODIES["goes-on"] = goes_on
    id_ = app.started("goes-on")
    (asked,) = app.until(lambda: asyncio.run(timestep.list_interruptions(workflow_id=id_)))
    assert (asked.tool_name, asked.call_id) == ("delete", "c2")
    timestep.resume_workflow_sync(id_, reject=[asked.id], message="not that one")
    handle: Any = DBOS.retrieve_workflow(id_)
    assert handle.get_result(polling_interval_sec=0.02) == TOLD
    assert made == ["a", "b"]
    assert app.replay(id_) == TOLD


def test_a_recovery_saves_and_loads_what_the_first_execution_did(app: App) -> None:
    """Others went on meanwhile: their state stays the active one."""
    agent = deleter()

    async def workflow() -> str:
        store = DatabaseRunStateStore(agent, run_id="r")
        await store.save(await stopped(agent, context={"n": 1}))
        state = await store.load()
        return str(state.to_json()["context"]["context"])

    async def others() -> None:
        store = DatabaseRunStateStore(agent, run_id="r")
        await store.save(await stopped(agent, context={"n": 2}))

    assert app.run(workflow, workflow_id="w") == "{'n': 1}"
    asyncio.run(others())
    before = app.everything()
    assert app.recover("w") == "{'n': 1}"
    assert app.everything() == before


def test_a_save_that_is_executed_again_is_the_same_one(app: App) -> None:
    """The process died between the save and DBOS's record of it."""
    agent = deleter()

    async def workflow() -> str:
        store = DatabaseRunStateStore(agent)
        await store.save(await stopped(agent))
        return str(store.run_id)

    said = app.run(workflow, workflow_id="w")
    before = app.everything()
    app.execute("DELETE FROM dbos.operation_outputs WHERE workflow_uuid = 'w'")
    assert app.recover("w") == said
    assert app.everything() == before


def test_a_tool_saves_in_its_own_step(app: App) -> None:
    inner = deleter()

    @function_tool
    async def put_down() -> str:
        store = DatabaseRunStateStore(inner, run_id="inner")
        await store.save(await stopped(inner))
        return str(len((await store.load()).get_interruptions()))

    model = ScriptedModel(
        [[function_call("put_down", {}, call_id="p")], [assistant_message("done")]]
    )
    agent = Agent(name="Outer", model=model, tools=[put_down])

    async def workflow() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    assert app.run(workflow, workflow_id="w") == "done"
    assert not any(name.startswith("run state") for name in app.steps("w"))
    assert app.replay("w") == "done"


def test_a_refusal_replays_as_it_was(app: App) -> None:
    agent = deleter()

    async def workflow() -> str:
        try:
            await DatabaseRunStateStore(agent, run_id="none").load()
        except UnknownStateError as error:
            return f"{type(error).__name__}: {error}"
        return "loaded"

    said = app.run(workflow, workflow_id="w")
    assert said.startswith("UnknownStateError: no state of run")
    assert app.replay("w") == said


def test_a_file_is_loaded_in_a_replay_as_it_was(app: App, tmp_path: Path) -> None:
    agent = deleter()
    path = tmp_path / "state.json"

    async def workflow() -> str:
        store = timestep.FileRunStateStore(agent, file_path=path)
        await store.save(await stopped(agent, context={"n": 1}))
        return str((await store.load()).to_json()["context"]["context"])

    said = app.run(workflow, workflow_id="w")
    path.unlink()
    assert app.replay("w") == said == "{'n': 1}"
    assert not path.exists()


def test_a_durable_runs_checkpoint_is_put_together(app: App) -> None:
    """Its rows hold what changed from turn to turn."""
    model = ScriptedModel(
        [
            *([function_call("look", {"name": n}, call_id=n)] for n in "xyz"),
            [assistant_message("never")],
        ]
    )
    agent = deleter().clone(model=model, name="Looker")

    async def workflow() -> str:
        try:
            await timestep.DurableRunner.run(agent, "go", max_turns=3, context=Basket(["x"]))
        except Exception as error:  # noqa: BLE001  # it ends there, and that is all
            return type(error).__name__
        return "finished"

    assert app.run(workflow) == "MaxTurnsExceeded"
    (run,) = app.rows("runs")
    assert {row["encoding"] for row in app.rows("run_states")} == {"whole", "delta"}

    async def use() -> RunState[Any]:
        return await DatabaseRunStateStore(agent, run_id=run["id"]).load()

    state = asyncio.run(use())
    assert state.to_json(context_serializer=lambda kept: {"kept": repr(kept)})["context"][
        "context"
    ] == {"kept": "Basket(things=['x'], price=0.0)"}
    (active,) = [row for row in app.rows("run_states") if row["is_active"]]
    assert active["resumed_at"] is not None
    # It is the state before its turn.
    assert state.to_json(context_serializer=vars)["current_turn"] == active["turn"] - 1


def test_a_state_that_is_saved_during_a_load_is_the_one_that_is_loaded(app: App) -> None:
    agent = deleter()

    class Slow(DatabaseRunStateStore):
        async def _read(self, stored: Any, *args: Any) -> Any:
            if stored.state["context"]["context"] == {"n": 1}:
                await self.save(await stopped(agent, context={"n": 2}))
            return await super()._read(stored, *args)

    async def use() -> Any:
        store = Slow(agent, run_id="r")
        await store.save(await stopped(agent, context={"n": 1}))
        return (await store.load()).to_json()["context"]["context"]

    assert asyncio.run(use()) == {"n": 2}
    assert [row["resumed_at"] is None for row in app.rows("run_states", "created_at")] == [
        True,
        False,
    ]


def test_a_save_beside_a_step_of_the_run_fails_neither(app: App) -> None:
    """Both make a state the active one: the step waits for the save, and replaces its state."""
    threads: list[threading.Thread] = []

    def waiting() -> int:
        counted = app.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database()"
        ).fetchone()
        return 0 if counted is None else int(counted[0])

    def save(is_saved: threading.Event) -> None:
        (run,) = app.rows("runs")
        with psycopg.connect(app.url) as connection:
            connection.execute("SELECT FROM runs WHERE id = %s FOR UPDATE", (run["id"],))
            connection.execute("UPDATE run_states SET is_active = false WHERE is_active")
            connection.execute(
                "INSERT INTO run_states (run_id, state_type, schema_version, sdk, sdk_version, "
                "turn, encoding, state_data) VALUES (%s, 'final', '1', 'python', '1', 1, 'whole', "
                "'{}')",
                (run["id"],),
            )
            is_saved.set()
            app.until(waiting)

    def answer(items: list[Any]) -> list[Any]:
        if not any(item.get("type") == "function_call_output" for item in items):
            return [function_call("look", {"name": "x"}, call_id="c")]
        is_saved = threading.Event()
        threads.append(threading.Thread(target=save, args=(is_saved,)))
        threads[0].start()
        assert is_saved.wait(60)
        return [assistant_message("done")]

    agent = deleter().clone(model=AnsweringModel(answer))

    async def workflow() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    assert app.run(workflow, workflow_id="w") == "done"
    threads[0].join()
    rows = app.rows("run_states")
    assert [row["state_type"] for row in rows] == ["final", "final"]
    (active,) = [row for row in rows if row["is_active"]]
    assert (active["state_type"], active["schema_version"] != "1") == ("final", True)


def test_a_state_that_waits_for_a_servers_tool_is_read_again_without_the_server(
    app: App,
) -> None:
    def calls() -> tuple[Agent[Any], Fake]:
        server = Fake(require_approval="always")
        asks = [function_call("add", {"n": 1}, call_id="c")]
        model = AnsweringModel(
            lambda items: [assistant_message(str(outputs(items)))] if outputs(items) else asks
        )
        return Agent(name="Caller", model=model, mcp_servers=[server]), server

    (first, _), (second, server) = calls(), calls()

    async def stops() -> str:
        result = await timestep.run_agent(first, "go", on_interruption="return")
        await DatabaseRunStateStore(first, run_id="r").save(result.to_state())
        return "stopped"

    async def goes_on() -> str:
        state = await DatabaseRunStateStore(second, run_id="r").load()
        state.approve(state.get_interruptions()[0])
        return str((await timestep.run_agent(second, state)).final_output)

    app.run(stops)
    said = app.run(goes_on, workflow_id="w2")
    assert "add done" in said
    assert [what for what, *_ in server.asked].count("add") == 1
    asked = len(server.asked)
    server.breaks = lambda _: ConnectionError("it is gone")
    assert app.replay("w2") == said
    assert len(server.asked) == asked
