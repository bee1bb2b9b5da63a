"""States in files: whole or not at all, private, and refused without a change."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import os
import stat
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, RunContextWrapper, Runner, RunState, set_tracing_disabled
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.interrupting_agents import TOLD, decide, deleter, made, stopped
from timestep import DatabaseRunStateStore, FileRunStateStore, create_run_state_store
from timestep.errors import (
    ConfigurationError,
    CorruptStateError,
    DatabaseUnreachableError,
    ForeignStateError,
    StateError,
    StateTooNewError,
    UnknownStateError,
)
from timestep.run_states import document as documents
from timestep.serialization.values import restored, storable

set_tracing_disabled(True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "states" / "state.json"


def save(path: Path, agent: Agent[Any], **options: Any) -> RunState[Any]:
    async def run() -> RunState[Any]:
        state = await stopped(agent, **options)
        async with FileRunStateStore(agent, file_path=path) as store:
            await store.save(state)
        return state

    return asyncio.run(run())


def load(path: Path, agent: Agent[Any]) -> RunState[Any]:
    return asyncio.run(FileRunStateStore(agent, file_path=path).load())


def test_a_run_that_stopped_is_finished_by_whoever_loads_it(path: Path) -> None:
    made.clear()
    saved = save(path, deleter(), context={"who": "ann"})
    agent = deleter()
    state = load(path, agent)
    assert state.to_json() == saved.to_json()
    decide(state)
    result = asyncio.run(Runner.run(agent, state))
    assert result.final_output == TOLD
    assert result.context_wrapper.context == {"who": "ann"}
    assert made == ["a", "b"]


def test_the_file_says_what_it_holds_and_is_its_owners_alone(path: Path) -> None:
    save(path, deleter())
    envelope = json.loads(path.read_text())
    assert (envelope["sdk"], envelope["resumed_at"]) == ("python", None)
    assert envelope["schema_version"] == envelope["state"]["$schemaVersion"]
    load(path, deleter())
    loaded = json.loads(path.read_text())
    assert loaded["resumed_at"] > envelope["saved_at"]
    assert {**loaded, "resumed_at": None} == envelope
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()} == {0o600}


def test_a_write_that_is_cut_short_leaves_the_old_state(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(path, deleter(), context={"n": 1})
    before = path.read_text()
    kept = sorted(found.name for found in path.parent.iterdir())
    written: list[str] = []

    def die(source: str, target: Path) -> None:
        written.append(Path(source).read_text())
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            save(path, deleter(), context={"n": 2})
    assert json.loads(written[0])["state"]["context"]["context"] == {"n": 2}
    assert path.read_text() == before
    assert sorted(found.name for found in path.parent.iterdir()) == kept
    # A process that is killed there leaves its file behind, until the next one saves.
    (path.parent / ".state.json.new").write_text("half")
    save(path, deleter(), context={"n": 3})
    assert json.loads(path.read_text())["state"]["context"]["context"] == {"n": 3}
    assert sorted(found.name for found in path.parent.iterdir()) == kept


def test_what_is_replaced_is_on_the_disk_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    replace, fsync = os.replace, os.fsync

    def synced(handle: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def replaced(source: str, target: Path) -> None:
        done.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    save(path, deleter())
    assert done == ["file", "replace", "directory"]


def test_savers_at_once_leave_one_whole_state(path: Path) -> None:
    barrier = threading.Barrier(4)
    agent = deleter()
    states = [asyncio.run(stopped(agent, context={"n": n})) for n in range(4)]

    def save_one(state: RunState[Any]) -> None:
        barrier.wait()
        asyncio.run(FileRunStateStore(agent, file_path=path).save(state))

    threads = [threading.Thread(target=save_one, args=(state,)) for state in states]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = load(path, agent).to_json()
    assert found in [state.to_json() for state in states]
    assert len(list(path.parent.glob("*.json"))) == 1


def test_a_state_that_is_saved_during_a_load_is_not_overwritten(path: Path) -> None:
    old, new = deleter(), deleter()
    save(path, old, context={"n": 1})

    class Slow(FileRunStateStore):
        async def _read(self, stored: Any, *args: Any) -> Any:
            if stored.state["context"]["context"] == {"n": 1}:
                await FileRunStateStore(new, file_path=path).save(
                    await stopped(new, context={"n": 2})
                )
            return await super()._read(stored, *args)

    state = asyncio.run(Slow(old, file_path=path).load())
    assert state.to_json()["context"]["context"] == {"n": 2}
    assert json.loads(path.read_text())["resumed_at"] is not None


def changed(**changes: Any) -> Callable[[str], str]:
    def change(text: str) -> str:
        envelope = json.loads(text)
        for name, value in changes.items():
            place = envelope if name in envelope else envelope["state"]
            place[name.replace("schema", "$schema") if name == "schemaVersion" else name] = value
        return json.dumps(envelope)

    return change


def deep(levels: int) -> Callable[[str], str]:
    """A file in which something is nested so deeply."""

    def change(text: str) -> str:
        envelope = json.loads(text)
        envelope["state"]["original_input"] = "DEEP"
        return json.dumps(envelope).replace('"DEEP"', "[" * levels + "]" * levels)

    return change


def without(name: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        envelope = json.loads(text)
        del envelope["state"][name]
        return json.dumps(envelope)

    return change


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (lambda text: text[:100], CorruptStateError, "is no JSON"),
        (lambda text: "[]", CorruptStateError, "holds no state"),
        (deep(100_000), CorruptStateError, "too deeply"),
        (deep(800), CorruptStateError, "cannot be loaded|too deeply"),
        (changed(state=[]), CorruptStateError, "no object"),
        (without("$schemaVersion"), CorruptStateError, r"\$schemaVersion is None"),
        (without("current_agent"), CorruptStateError, "'current_agent' is missing"),
        (without("original_input"), CorruptStateError, "cannot be loaded"),
        (changed(generated_items=[1]), CorruptStateError, "cannot be loaded"),
        (changed(schemaVersion="1.0.x"), CorruptStateError, "no state of the Agents SDK"),
        (changed(schemaVersion="0.9"), CorruptStateError, "does not read"),
        (changed(schemaVersion="1.999"), StateTooNewError, "1.999, which .* upgrade openai-agents"),
        (changed(schemaVersion="2.0"), StateTooNewError, "upgrade openai-agents"),
        (changed(sdk="go"), ForeignStateError, "the format of 'go'"),
        (changed(current_agent={"name": "Gone"}), ForeignStateError, "names 'Gone'"),
    ],
)
def test_what_cannot_be_gone_on_with_is_refused_and_stays(
    path: Path, change: Callable[[str], str], error: type[Exception], told: str
) -> None:
    save(path, deleter())
    path.write_text(change(path.read_text()))
    before = path.read_text()
    with pytest.raises(error, match=told):
        load(path, deleter())
    assert path.read_text() == before


def test_bytes_that_are_no_text_are_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptStateError, match="is no text"):
        load(path, deleter())


def test_other_agents_are_refused_by_name(path: Path) -> None:
    save(path, deleter())
    before = path.read_text()
    with pytest.raises(ForeignStateError, match="names 'Deleter', and agent 'Other' leads only to"):
        load(path, deleter("Other"))
    without_tool = Agent(name="Deleter", tools=[])
    with pytest.raises(ForeignStateError, match="calls of 'delete', 'look'"):
        load(path, without_tool)
    assert path.read_text() == before
    # The agent may be met anywhere behind the one that is given.
    assert load(path, Agent(name="Front", handoffs=[deleter()])).get_interruptions()


def test_a_missing_state_is_told(path: Path) -> None:
    async def use() -> None:
        store = FileRunStateStore(deleter(), file_path=path)
        with pytest.raises(UnknownStateError, match=r"no state is saved in .*state\.json"):
            await store.load()
        await store.clear()
        assert not path.parent.exists()
        await store.save(await stopped(deleter()))
        await store.clear()
        with pytest.raises(UnknownStateError):
            await store.load()
        await store.close()
        with pytest.raises(StateError, match="closed"):
            await store.load()

    asyncio.run(use())


def test_a_store_without_an_id_makes_one_when_it_saves(tmp_path: Path) -> None:
    async def use() -> None:
        store = FileRunStateStore(deleter())
        assert store.run_id is None
        for refused in (store.load, store.clear):
            with pytest.raises(StateError, match=r"before its first save\(\)"):
                await refused()
        await store.save(await stopped(deleter()))
        assert (tmp_path / "home" / "run_states" / f"{store.run_id}.json").exists()
        again = FileRunStateStore(deleter(), run_id=store.run_id)
        assert (await again.load()).get_interruptions()

    asyncio.run(use())


def test_names_are_the_same_runs_everywhere() -> None:
    agent = deleter()
    given = "0D1F8F0E-9A3A-5F0E-8A7E-6F1A3C5B7D92"
    assert FileRunStateStore(agent, run_id=given).run_id == given.lower()
    assert FileRunStateStore(agent, run_id=uuid.UUID(given)).run_id == given.lower()
    # What stores in other languages make of them.
    named = FileRunStateStore(agent, run_id="order 7", session_id="talk")
    assert named.run_id == "9903eca7-bcab-511e-809d-e0d22a662f33"
    of_session = FileRunStateStore(agent, session_id="talk")
    assert of_session.run_id == "35c08ac7-f704-5928-919b-8843caff8d78"


@pytest.mark.parametrize("bad", [{"run_id": ""}, {"session_id": ""}, {"run_id": b"a"}])
def test_an_id_that_names_nothing_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="names anything"):
        FileRunStateStore(deleter(), **bad)


def test_what_a_state_cannot_hold_is_refused_when_it_is_saved(path: Path) -> None:
    async def use() -> None:
        agent = deleter()
        store = FileRunStateStore(agent, file_path=path)
        with pytest.raises(StateError, match="not a str"):
            await store.save("state")  # type: ignore[arg-type]  # what the test is about
        with pytest.raises(StateError, match="cannot be kept as JSON"):
            await store.save(await stopped(agent, context={"when": object()}))
        with pytest.raises(StateError, match="give the store a context_serializer"):
            await store.save(await stopped(agent, context=threading.Lock()))
        with pytest.raises(ForeignStateError, match="the state names 'Deleter'"):
            await FileRunStateStore(Agent(name="Other"), file_path=path).save(await stopped(agent))

    asyncio.run(use())
    assert not path.exists()


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@dataclasses.dataclass
class Kept:
    value: Any
    when: datetime.datetime | None = None


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(st.text(), PLAIN) | st.builds(Kept, PLAIN, st.none() | st.datetimes()))
def test_whatever_a_context_holds_comes_back(context: Any) -> None:
    async def there_and_back() -> RunState[Any]:
        agent = Agent(name="A")
        state: RunState[Any] = RunState(RunContextWrapper(context), "hi", agent)
        document = documents.made(state, agent, None)
        kept = restored(json.loads(json.dumps(storable(document.state))))
        stored = documents.Stored("it", "python", "1", kept)
        return await documents.read(stored, agent, None)

    def note(kept: Any) -> dict[str, Any]:
        found.append(kept)
        return {}

    found: list[Any] = []
    document = asyncio.run(there_and_back()).to_json(context_serializer=note)
    assert (found or [document["context"]["context"]]) == [context]


def test_a_context_of_a_kind_that_only_its_user_knows(path: Path) -> None:
    class Basket:
        def __init__(self, things: list[str]) -> None:
            self.things = things

    def store() -> FileRunStateStore:
        return FileRunStateStore(
            deleter(),
            file_path=path,
            context_serializer=lambda basket: {"things": basket.things},
            context_deserializer=lambda document: Basket(document["things"]),
        )

    async def use() -> None:
        await store().save(await stopped(deleter(), context=Basket(["apple"])))
        result = await Runner.run(deleter(), await store().load())
        assert isinstance(result.context_wrapper.context, Basket)
        assert result.context_wrapper.context.things == ["apple"]

    asyncio.run(use())


def test_the_choice_between_a_file_and_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    async def chosen(**options: Any) -> type:
        return type(await create_run_state_store(deleter(), run_id="r", **options))

    url = "postgresql://user:secret@localhost/name"
    assert asyncio.run(chosen()) is FileRunStateStore
    assert asyncio.run(chosen(use_database=True)) is DatabaseRunStateStore
    assert asyncio.run(chosen(connection_string=url)) is DatabaseRunStateStore
    assert asyncio.run(chosen(connection_string=url, use_database=False)) is FileRunStateStore
    monkeypatch.setenv("TIMESTEP_DB_URL", url)
    assert asyncio.run(chosen()) is DatabaseRunStateStore
    assert asyncio.run(chosen(use_database=False)) is FileRunStateStore


def test_a_bad_url_is_told_and_its_password_is_not() -> None:
    for bad in ("mysql://ann:secret@host/name", "postgres://ann:secret@host"):
        with pytest.raises(ConfigurationError, match=r"^connection_string=") as caught:
            DatabaseRunStateStore(deleter(), connection_string=bad)
        assert "secret" not in str(caught.value)
    store = DatabaseRunStateStore(
        deleter(), run_id="r", connection_string="postgres://ann:secret@127.0.0.1:1/name"
    )
    with pytest.raises(DatabaseUnreachableError, match=r"127\.0\.0\.1:1/name") as lost:
        asyncio.run(store.load())
    assert "secret" not in f"{lost.value!r} {lost.value.__cause__!r} {store!r} {vars(store)}"


def test_pglite_beside_a_url_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="give one of them"):
        DatabaseRunStateStore(deleter(), connection_string="postgres://h/n", pglite_path="p")
