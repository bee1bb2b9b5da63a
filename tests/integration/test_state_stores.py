"""States in `run_states`: saved and loaded in any process, inside workflows and outside."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import multiprocessing
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from agents import Agent, RunContextWrapper, Runner, RunState, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call

import timestep
from tests.answering import AnsweringModel
from tests.integration.app import App
from tests.integration.provider import Provider, answers, provider
from tests.stopping import TOLD, decide, deleter, made, stopped
from timestep import DatabaseRunStateStore, DatabaseSession
from timestep.errors import (
    CorruptStateError,
    DatabaseError,
    ForeignStateError,
    StateTooNewError,
    UnknownStateError,
)

__all__ = ["provider"]


@pytest.fixture(autouse=True)
def nothing_made() -> None:
    made.clear()


def states(url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT to_jsonb(t) FROM run_states t ORDER BY created_at, id")
        return [row for (row,) in found]


def runs(url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url) as connection:
        return [
            row
            for (row,) in connection.execute(
                "SELECT to_jsonb(r) || jsonb_build_object('agent', a.name) FROM runs r "
                "JOIN agents a ON a.id = r.current_agent_id ORDER BY r.started_at, r.id"
            )
        ]


def test_a_state_travels_from_one_process_to_another(database_url: str) -> None:
    """The other process has neither DBOS nor any settings."""

    async def stop() -> None:
        agent = deleter()
        async with DatabaseRunStateStore(
            agent, run_id="tidy", connection_string=database_url
        ) as store:
            await store.save(await stopped(agent, context={"who": "ann"}))

    asyncio.run(stop())
    code = """
import asyncio, sys
from agents import Runner, set_tracing_disabled
from tests.stopping import decide, deleter, made
from timestep import DatabaseRunStateStore

async def main(url):
    agent = deleter()
    async with DatabaseRunStateStore(agent, run_id="tidy", connection_string=url) as store:
        state = await store.load()
        decide(state)
        result = await Runner.run(agent, state)
        await store.save(result.to_state())
        print(result.final_output, result.context_wrapper.context, made)

set_tracing_disabled(True)
asyncio.run(main(sys.argv[1]))
"""
    other = subprocess.run(
        [sys.executable, "-c", code, database_url], check=True, capture_output=True, text=True
    )
    assert other.stdout == f"{TOLD} {{'who': 'ann'}} ['b']\n"
    first, second = states(database_url)
    (run,) = runs(database_url)
    assert run["id"] == str(uuid.uuid5(uuid.NAMESPACE_URL, "timestep:run:tidy"))
    assert (run["status"], run["workflow_id"], run["agent"]) == ("completed", None, "Deleter")
    assert (run["input"], run["current_turn"], run["max_turns"]) == ("tidy up", 2, 10)
    assert (first["state_type"], first["is_active"], first["turn"]) == ("interrupted", False, 1)
    assert (second["state_type"], second["is_active"], second["turn"]) == ("final", True, 2)
    assert first["resumed_at"] is not None
    assert second["resumed_at"] is None
    for row in (first, second):
        assert (row["sdk"], row["encoding"], row["run_id"]) == ("python", "whole", run["id"])
        assert row["schema_version"] == row["state_data"]["$schemaVersion"]


def test_a_run_follows_what_is_saved_of_it(database_url: str) -> None:
    async def use() -> list[str]:
        agent = deleter()
        store = DatabaseRunStateStore(agent, run_id="r", connection_string=database_url)
        statuses = []
        fresh: RunState[Any] = RunState(RunContextWrapper(None), "tidy up", agent)
        for state in (fresh, await stopped(agent)):
            await store.save(state)
            statuses.append(runs(database_url)[0]["status"])
        decide(state := await store.load())
        await store.save((await Runner.run(agent, state)).to_state())
        statuses.append(runs(database_url)[0]["status"])
        await store.save(await stopped(agent))
        statuses.append(runs(database_url)[0]["status"])
        await store.close()
        return statuses

    assert asyncio.run(use()) == ["running", "interrupted", "completed", "interrupted"]


def save_at_the_barrier(url: str, n: int, barrier: Any) -> None:
    async def save() -> None:
        agent = deleter()
        state = await stopped(agent, context={"n": n})
        async with DatabaseRunStateStore(agent, run_id="r", connection_string=url) as store:
            await asyncio.to_thread(barrier.wait)
            await store.save(state)

    asyncio.run(save())


def test_savers_at_once_leave_one_active(database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(3)
    process = spawn.Process(target=save_at_the_barrier, args=(database_url, 0, barrier))
    threads = [
        threading.Thread(target=save_at_the_barrier, args=(database_url, n, barrier))
        for n in (1, 2)
    ]
    process.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.join()
    assert process.exitcode == 0
    found = states(database_url)
    assert sorted(row["state_data"]["context"]["context"]["n"] for row in found) == [0, 1, 2]
    assert [row["is_active"] for row in found].count(True) == 1
    assert len(runs(database_url)) == 1


@dataclasses.dataclass
class Basket:
    things: list[str]
    price: float = 0.0


ODD = {
    "nul": "a\x00b",
    "surrogate": "\ud800",
    "infinite": float("-inf"),
    "big": 2**80,
    "small": 1e-7,
    "text": "\\u0000 é 💥",
}


@pytest.mark.parametrize(
    "context",
    [ODD, {name: value for name, value in ODD.items() if name in ("big", "small")}, Basket(["x"])],
    ids=["odd", "numbers", "dataclass"],
)
def test_what_a_context_holds_comes_back(database_url: str, context: Any) -> None:
    async def use() -> Any:
        agent = deleter()
        store = DatabaseRunStateStore(agent, run_id="r", connection_string=database_url)
        saved = await stopped(agent, context=context)
        await store.save(saved)
        loaded = await store.load()
        await store.close()
        again = loaded.to_json(context_serializer=lambda kept: {"kept": str(kept)})
        assert again == saved.to_json(context_serializer=lambda kept: {"kept": str(kept)})
        return (await Runner.run(agent, loaded)).context_wrapper.context

    assert asyncio.run(use()) == context


Change = Callable[[psycopg.Connection[Any], str], Any]


def column(sql: str) -> Change:
    return lambda connection, id_: connection.execute(
        f"UPDATE run_states SET {sql} WHERE id = %s",
        (id_,),
    )


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (column("state_data = '[]'"), CorruptStateError, "no object"),
        (column("""state_data = '{"$text": "{"}'"""), CorruptStateError, "put together"),
        (column("state_data = state_data - '$schemaVersion'"), CorruptStateError, "is None"),
        (column("state_data = state_data - 'context'"), CorruptStateError, "'context' is missing"),
        (
            column("""state_data = state_data || '{"$schemaVersion": "9.0"}', sdk_version = '7'"""),
            StateTooNewError,
            "9.0, which openai-agents 7 wrote",
        ),
        (column("sdk = 'ruby'"), ForeignStateError, "'ruby'"),
        (
            column("""state_data = jsonb_set(state_data, '{current_agent,name}', '"Gone"')"""),
            ForeignStateError,
            "names 'Gone'",
        ),
        (column("is_active = false"), UnknownStateError, "no state of run .* is saved in postgres"),
        (
            lambda connection, id_: connection.execute("DELETE FROM run_states"),
            UnknownStateError,
            "no state of run",
        ),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused_and_stays(
    database_url: str, change: Change, error: type[Exception], told: str
) -> None:
    async def use() -> None:
        agent = deleter()
        store = DatabaseRunStateStore(agent, run_id="r", connection_string=database_url)
        await store.save(await stopped(agent))
        (row,) = states(database_url)
        with psycopg.connect(database_url) as connection:
            change(connection, row["id"])
        before = states(database_url), runs(database_url)
        with pytest.raises(error, match=told) as caught:
            await store.load()
        assert (states(database_url), runs(database_url)) == before
        assert all(row["resumed_at"] is None for row in before[0])
        assert "password" not in str(caught.value)
        await store.close()

    asyncio.run(use())


def test_other_agents_change_nothing(database_url: str) -> None:
    async def use() -> None:
        agent = deleter()
        store = DatabaseRunStateStore(agent, run_id="r", connection_string=database_url)
        await store.save(await stopped(agent))
        before = states(database_url), runs(database_url)
        other = DatabaseRunStateStore(
            Agent(name="Other"), run_id="r", connection_string=database_url
        )
        with pytest.raises(ForeignStateError, match="names 'Deleter'"):
            await other.load()
        with pytest.raises(ForeignStateError, match="names 'Deleter'"):
            await other.save(await stopped(agent))
        assert (states(database_url), runs(database_url)) == before
        await store.close()
        await other.close()

    asyncio.run(use())


def test_a_database_without_the_schema_is_told(empty_database_url: str) -> None:
    store = DatabaseRunStateStore(deleter(), run_id="r", connection_string=empty_database_url)
    with pytest.raises(DatabaseError, match="timestep migrate"):
        asyncio.run(store.load())
    asyncio.run(store.close())


def test_a_store_closes_the_connections_that_are_its_own(database_url: str) -> None:
    def held() -> int:
        with psycopg.connect(database_url) as connection:
            counted = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'timestep' "
                "AND datname = current_database()"
            ).fetchone()
        assert counted is not None
        return int(counted[0])

    async def use() -> None:
        async with DatabaseRunStateStore(
            deleter(), run_id="r", connection_string=database_url
        ) as store:
            with pytest.raises(UnknownStateError):
                await store.load()
            assert held() == 1
        await store.close()

    asyncio.run(use())
    for _ in range(200):
        if held() == 0:
            return
    pytest.fail("the store's connection is still there")


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
    with psycopg.connect(app.url) as connection:
        connection.execute("DELETE FROM dbos.operation_outputs WHERE workflow_uuid = 'w'")
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
        async def _read(self, stored: Any) -> RunState[Any]:
            if stored.state["context"]["context"] == {"n": 1}:
                await self.save(await stopped(agent, context={"n": 2}))
            return await super()._read(stored)

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
        with psycopg.connect(app.url) as connection:
            counted = connection.execute(
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
        assert is_saved.wait(20)
        return [assistant_message("done")]

    agent = deleter().clone(model=AnsweringModel(answer))

    async def workflow() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    assert app.run(workflow, workflow_id="w") == "done"
    threads[0].join()
    rows = app.rows("run_states")
    assert len(rows) == 4
    (active,) = [row for row in rows if row["is_active"]]
    assert (active["state_type"], active["schema_version"] != "1") == ("final", True)


def test_the_readme_example_runs_as_it_is_printed(
    database_url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    found = re.search(r"<!-- the run-state example -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    url = "postgresql://user:pass@localhost/timestep"
    assert found[1].count(url) == 1
    provider.behaviours.append(answers)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    exec(compile(found[1].replace(url, database_url), "README.md", "exec"), {})
    assert capsys.readouterr().out == "1 turn was saved\n"
    (state,) = states(database_url)
    (run,) = runs(database_url)
    assert (state["state_type"], run["status"], run["agent"]) == ("final", "completed", "Assistant")
    assert state["resumed_at"] is not None
    assert json.dumps(state["state_data"]).count("Hello") > 1
