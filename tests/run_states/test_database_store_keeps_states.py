"""States in `run_states`: saved and loaded in any process, with no workflow in sight."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import re
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from agents import Agent, RunContextWrapper, Runner, RunState

from tests.support import forked_processes
from tests.support.conditions import until
from tests.support.forked_processes import Forked
from tests.support.interrupting_agents import (
    TOLD,
    decide,
    deleter,
    handing_off,
    made,
    nested,
    stopped,
)
from tests.support.model_provider import Provider, answers, provider
from timestep import DatabaseRunStateStore, register_type
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
from tests.support.interrupting_agents import decide, deleter, made
from timestep import DatabaseRunStateStore, register_type

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
    other = forked_processes.run("-c", code, database_url)
    assert other.returncode == 0, other.stderr
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


def save_among_three(url: str, n: int, folder: Path) -> None:
    """Save a state once all three savers are ready to."""

    async def save() -> None:
        agent = deleter()
        state = await stopped(agent, context={"n": n})
        async with DatabaseRunStateStore(agent, run_id="r", connection_string=url) as store:
            await asyncio.to_thread(meet)
            await store.save(state)

    def meet() -> None:
        (folder / f"ready {n}").touch()
        until(lambda: len(list(folder.glob("ready *"))) == 3)

    asyncio.run(save())


def test_savers_at_once_leave_one_active(database_url: str, tmp_path: Path) -> None:
    call = f"save_among_three({database_url!r}, 0, Path({str(tmp_path)!r}))"
    process = Forked("-c", f"from {__name__} import Path, save_among_three; {call}")
    threads = [
        threading.Thread(target=save_among_three, args=(database_url, n, tmp_path)) for n in (1, 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process.wait(60) == 0
    found = states(database_url)
    assert sorted(row["state_data"]["context"]["context"]["n"] for row in found) == [0, 1, 2]
    assert [row["is_active"] for row in found].count(True) == 1
    assert len(runs(database_url)) == 1


@register_type
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
        (column("""state_data = '{"$text": "{"}'"""), CorruptStateError, "is None"),
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


@pytest.mark.parametrize(
    ("make", "told"),
    [(lambda: nested(2), f"1: 0: {TOLD}"), (handing_off, TOLD)],
    ids=["agents that are tools", "a handoff"],
)
def test_other_agents_than_the_first_are_found_again(
    database_url: str, make: Callable[[], Agent[Any]], told: str
) -> None:
    async def use() -> str:
        before, after = make(), make()
        async with DatabaseRunStateStore(
            before, run_id="r", connection_string=database_url
        ) as store:
            await store.save(await stopped(before))
        async with DatabaseRunStateStore(
            after, run_id="r", connection_string=database_url
        ) as store:
            decide(state := await store.load())
            return str((await Runner.run(after, state)).final_output)

    assert asyncio.run(use()) == told
    assert made == ["a", "b"]


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

    async def forget() -> None:
        store = DatabaseRunStateStore(deleter(), run_id="r", connection_string=database_url)
        with pytest.raises(UnknownStateError):
            await store.load()
        assert held() == 1

    for work in (use, forget):
        asyncio.run(work())
        gc.collect()
        until(lambda: held() == 0)


def test_the_documented_example_runs_as_it_is_printed(
    database_url: str, provider: Provider, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "run-states.md").read_text()
    found = re.search(r"<!-- the run-state example -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    url = "postgresql://user:pass@localhost/timestep"
    assert found[1].count(url) == 1
    provider.behaviours.append(answers)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    exec(compile(found[1].replace(url, database_url), "run-states.md", "exec"), {})
    assert capsys.readouterr().out == "1 turn was saved\n"
    (state,) = states(database_url)
    (run,) = runs(database_url)
    assert (state["state_type"], run["status"], run["agent"]) == ("final", "completed", "Assistant")
    assert state["resumed_at"] is not None
    assert json.dumps(state["state_data"]).count("Hello") > 1
