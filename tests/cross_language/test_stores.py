"""What the JavaScript store does, beside what it converts."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cross_language.javascript import JavaScript
from tests.cross_language.scenario import BOTH, agents, finish, interrupted, load, start
from timestep import DatabaseRunStateStore, FileRunStateStore
from timestep.database import migrations
from timestep.errors import (
    CorruptStateError,
    ForeignStateError,
    StateTooNewError,
    UnknownStateError,
)
from timestep.journal.checkpoints import Checkpoint, States
from timestep.serialization.ids import storable_name
from timestep.sessions import row_key


def _place(url: str, **names: str) -> dict[str, str]:
    return {"connectionString": url, **names}


def _execute(url: str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        cursor = connection.execute(query.encode(), values)
        return cursor.fetchall() if cursor.description else []


def _change(url: str, run_id: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the state of a run where it is stored."""
    [(document,)] = _execute(url, "SELECT state_data FROM run_states WHERE run_id = %s", run_id)
    escaped = "$text" in document
    state = json.loads(document["$text"]) if escaped else document
    change(state)
    stored = {"$text": json.dumps(state)} if escaped else state
    query = "UPDATE run_states SET state_data = %s WHERE run_id = %s"
    _execute(url, query, json.dumps(stored), run_id)


def _too_new(state: dict[str, Any]) -> None:
    state["$schemaVersion"] = "1.99"


def _sandbox(state: dict[str, Any]) -> None:
    state["sandbox"] = {"backendId": "docker"}


def _unknown_field(state: dict[str, Any]) -> None:
    state["mood"] = "good"


def _unknown_item(state: dict[str, Any]) -> None:
    items = state["generated_items" if "generated_items" in state else "generatedItems"]
    items[0] = {**items[0], "type": "local_shell_call_item"}


def _same_names(state: dict[str, Any]) -> None:
    agent = state["current_agent" if "current_agent" in state else "currentAgent"]
    agent["identity"] = "worker#2"


def _no_items(state: dict[str, Any]) -> None:
    state.pop("generated_items", None)
    state.pop("generatedItems", None)


_CHANGES = {
    "too_new": (_too_new, StateTooNewError),
    "foreign": (_sandbox, ForeignStateError),
    "foreign: field": (_unknown_field, ForeignStateError),
    "foreign: item": (_unknown_item, ForeignStateError),
    "foreign: agents": (_same_names, ForeignStateError),
    "corrupt": (_no_items, CorruptStateError),
}


def test_javascript_refuses_what_it_cannot_go_on_with(
    database_url: str, javascript: JavaScript
) -> None:
    wanted: dict[str, str] = {}
    for name, (change, _) in _CHANGES.items():
        wanted[name] = asyncio.run(start(database_url, run_id=name))
        _change(database_url, wanted[name], change)
    wanted["foreign: sdk"] = asyncio.run(start(database_url, run_id="foreign: sdk"))
    set_sdk = "UPDATE run_states SET sdk = 'rust' WHERE run_id = %s"
    _execute(database_url, set_sdk, wanted["foreign: sdk"])
    before = _execute(database_url, "SELECT * FROM run_states ORDER BY id")

    stores = [_place(database_url, runId=name) for name in [*wanted, "unknown"]]
    errors = javascript.run("refused", stores=[*stores, _place(database_url), {}])

    reasons = [name.partition(":")[0] for name in wanted]
    nowhere = errors.pop()
    assert nowhere["name"] == "ConfigurationError"
    assert "TIMESTEP_DB_URL" in nowhere["message"]
    assert [error["reason"] for error in errors] == [*reasons, "unknown", "unknown"]
    assert {error["name"] for error in errors} == {"StateError"}
    assert "upgrade @timestep-ai/timestep" in errors[0]["message"]
    assert '"sandbox"' in errors[1]["message"]
    assert "neither a runId nor a sessionId" in errors[-1]["message"]
    assert _execute(database_url, "SELECT * FROM run_states ORDER BY id") == before


def test_python_refuses_what_it_cannot_go_on_with(
    database_url: str, javascript: JavaScript
) -> None:
    answer = javascript.run("start", store=_place(database_url), decided=BOTH)
    run_id = answer["runId"]
    for change, error in _CHANGES.values():
        [(kept,)] = _execute(database_url, "SELECT state_data FROM run_states")
        _change(database_url, run_id, change)
        before = _execute(database_url, "SELECT * FROM run_states")
        with pytest.raises(error, match=f"of run {run_id}"):
            asyncio.run(load(database_url, run_id=run_id))
        assert _execute(database_url, "SELECT * FROM run_states") == before
        _execute(database_url, "UPDATE run_states SET state_data = %s", json.dumps(kept))
    # As it was, it is loaded.
    assert len(asyncio.run(load(database_url, run_id=run_id)).get_interruptions()) == 2


def test_of_several_that_save_at_once_one_is_active(
    database_url: str, javascript: JavaScript
) -> None:
    place = _place(database_url, runId="crowded", sessionId="chat 2")

    async def both() -> None:
        there = asyncio.to_thread(javascript.run, "saveAtOnce", store=place, times=8)
        here = [start(database_url, run_id="crowded") for _ in range(4)]
        await asyncio.gather(there, *here)

    asyncio.run(both())
    counts = _execute(
        database_url, "SELECT sdk, count(*) FROM run_states GROUP BY sdk ORDER BY sdk"
    )
    assert counts == [("javascript", 8), ("python", 4)]
    assert _execute(database_url, "SELECT count(*) FROM run_states WHERE is_active") == [(1,)]
    javascript.run("cleared", store=place)
    assert _execute(database_url, "SELECT count(*) FROM run_states WHERE is_active") == [(0,)]


def test_a_session_leads_to_the_newest_state_of_its_runs(
    database_url: str, javascript: JavaScript, effects: Path
) -> None:
    asyncio.run(start(database_url, run_id="first", session_id="chat 3"))
    second = asyncio.run(start(database_url, run_id="second", session_id="chat 3"))
    told = javascript.run("finish", store=_place(database_url, sessionId="chat 3"), decided=[])
    # It was saved to the run that was loaded.
    assert told["runId"] == second
    query = "SELECT sdk, is_active FROM run_states WHERE run_id = %s ORDER BY created_at"
    assert _execute(database_url, query, second) == [("python", False), ("javascript", True)]

    # SQLAlchemy's spelling of a URL is taken, too.
    url = database_url.replace("postgresql:", "postgresql+psycopg:")
    answer = javascript.run("start", store=_place(url, sessionId="chat 4"), decided=[])
    assert asyncio.run(finish(database_url, session_id="chat 4"))["runId"] == answer["runId"]


def _odd_names() -> list[str]:
    """Names of all lengths around the bound, with characters of each number of bytes."""
    drawn = random.Random(15)
    characters = ["a", "é", "…", "🎈", "\x00", "\ud83d", "\udc00", "\x7f", "\t", "'", '"', "\\"]
    lengths = [*range(1, 40), *range(230, 260), *range(980, 1003), 5000]
    made = ["".join(drawn.choices(characters, k=length)) for length in lengths]
    made += ["é" * length for length in range(480, 503)]
    # As JSON has it: two halves that follow each other are one character.
    return [json.loads(json.dumps(name)) for name in made]


def test_any_name_is_the_same_in_both_languages(javascript: JavaScript) -> None:
    names = _odd_names()
    agent, _ = agents()
    for name, found in zip(names, javascript.run("named", names=names), strict=True):
        run = FileRunStateStore(agent, run_id=name).run_id
        session = FileRunStateStore(agent, session_id=name).run_id
        id_, key = row_key(name)
        assert found == [run, session, str(id_), key, storable_name(name)], ascii(name)


@pytest.mark.parametrize("name", ["a\x00b \ud83d", "long " * 1000])
def test_a_session_of_any_name_is_found_by_both(
    database_url: str, javascript: JavaScript, effects: Path, name: str
) -> None:
    run_id = asyncio.run(start(database_url, session_id=name))
    place = _place(database_url, sessionId=name)
    assert javascript.run("decide", store=place, decided=["erase"])["runId"] == run_id
    assert asyncio.run(finish(database_url, ["deploy"], session_id=name))["runId"] == run_id
    keys = _execute(database_url, "SELECT session_key FROM sessions")
    assert keys == [(row_key(name)[1],)]
    javascript.run("cleared", store=place)
    [error] = javascript.run("refused", stores=[place])
    assert error["reason"] == "unknown"
    assert len(error["message"]) < 1200
    with pytest.raises(UnknownStateError) as refused:
        asyncio.run(load(database_url, session_id=name))
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("user", ["nul \x00", "half \ud83d", "grün 🎈"])
def test_text_that_jsonb_cannot_hold_arrives(
    database_url: str, javascript: JavaScript, effects: Path, user: str
) -> None:
    javascript.run(
        "start", store=_place(database_url, runId="odd"), context={"user": user}, decided=[]
    )
    state = asyncio.run(load(database_url, run_id="odd"))
    assert state.to_json()["context"]["context"] == {"user": user}


@dataclass
class Account:
    """A context that is no mapping."""

    user: str
    since: datetime.date

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


def test_a_context_of_a_class_comes_back_from_javascript(
    database_url: str, javascript: JavaScript, effects: Path
) -> None:
    account = Account("ada", datetime.date(1842, 1, 1))

    async def begin() -> None:
        agent, _ = agents()
        async with DatabaseRunStateStore(
            agent, run_id="typed", connection_string=database_url
        ) as store:
            await store.save(await interrupted(agent, account, decided=()))

    asyncio.run(begin())
    javascript.run("decide", store=_place(database_url, runId="typed"), decided=["erase"])
    told = asyncio.run(finish(database_url, ["deploy"], run_id="typed"))

    assert told["state"]._context.context == account
    assert effects.read_text().splitlines() == ["python note ada", "python deploy ada"]


def test_pglite_is_made_and_found_again(
    tmp_path: Path, javascript: JavaScript, effects: Path
) -> None:
    place = {"usePglite": True, "pglitePath": str(tmp_path / "pglite"), "sessionId": "chat 5"}
    told = javascript.run("pglite", store=place)
    assert told["output"] == "all done"
    lock = tmp_path / "pglite" / "timestep.lock"
    assert lock.read_text() == ""
    # As `timestep migrate` leaves it.
    files = [[file.version, file.name, file.checksum] for file in migrations.available()]
    assert told["migrations"] == files
    assert effects.read_text().splitlines() == ["javascript note ada", "javascript deploy ada"]


def test_a_pglite_of_another_process_is_refused(tmp_path: Path, javascript: JavaScript) -> None:
    (tmp_path / "timestep.lock").write_text(json.dumps([os.getpid(), None]))
    place = {"usePglite": True, "pglitePath": str(tmp_path), "runId": "taken"}
    [error] = javascript.run("refused", stores=[place])
    assert error["name"] == "ConfigurationError"
    assert f"in use by process {os.getpid()}" in error["message"]


def test_a_checkpoint_that_is_a_change_is_folded(
    database_url: str, javascript: JavaScript, effects: Path
) -> None:
    run_id = asyncio.run(start(database_url, run_id="folded"))
    [(whole,)] = _execute(database_url, "SELECT state_data FROM run_states")
    earlier = {
        **whole,
        "current_turn": 1,
        "generated_items": whole["generated_items"][:2],
        "tool_use_tracker": {},
    }
    states = States(uuid.UUID(run_id))
    rows = [
        states.checkpoint_row(Checkpoint(state, turn, "1.21"))
        for turn, state in enumerate([earlier, whole])
    ]
    assert [row["encoding"] for row in rows] == ["whole", "delta"]
    _execute(database_url, "UPDATE run_states SET is_active = false")
    for row, active in zip(rows, [False, True], strict=True):
        values = json.dumps([{**row, "is_active": active, "created_at": "2100-01-01"}])
        insert = (
            "INSERT INTO run_states SELECT * FROM jsonb_populate_recordset(null::run_states, %s)"
        )
        _execute(database_url, insert, values)

    told = javascript.run("finish", store=_place(database_url, runId=run_id), decided=[])

    assert (told["output"], told["usage"]["requests"]) == ("all done", 3)
    assert effects.read_text().splitlines() == ["python note ada", "javascript deploy ada"]
