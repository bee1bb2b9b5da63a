"""Sessions that keep their items elsewhere: a replay asks them nothing and changes nothing."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    ModelResponse,
    OpenAIConversationsSession,
    OpenAIResponsesCompactionSession,
    RunConfig,
    RunHooks,
    SQLiteSession,
    Usage,
    input_guardrail,
)
from agents.extensions.memory import AdvancedSQLiteSession, EncryptedSession, SQLAlchemySession
from agents.memory import SessionSettings
from agents.run_internal import session_persistence
from agents.testing import ScriptedModel, assistant_message
from sqlalchemy import NullPool

import timestep
from tests.support.dbos_app import App
from tests.support.passing_time import HOUR, pass_time
from timestep.execution.replay.session_end import SessionEnd, how_many_added, marks

KEY = "kSJ8NfPRbXnyEqSDjSLsk2F6lZ4JmBSBvM0ESDN-2rA="
Make = Callable[[], Any]


class Items:
    """The items of one conversation as OpenAI's API keeps them: with ids, in its own form."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.kept: dict[str, list[dict[str, Any]]] = {}

    def list(self, conversation_id: str, order: str) -> AsyncIterator[Any]:
        async def pages() -> AsyncIterator[Any]:
            kept = list(self.kept[conversation_id])
            for item in kept if order == "asc" else reversed(kept):
                yield SimpleNamespace(model_dump=lambda exclude_unset, item=item: item)

        return pages()

    async def create(self, conversation_id: str, items: Any) -> None:
        for item in items:
            content = item.get("content")
            if isinstance(content, str):
                content = [{"type": "input_text", "text": content}]
            given = {**item, "type": "message", "content": content, "status": "completed"}
            self.kept[conversation_id].append({**given, "id": f"item_{next(self.numbers)}"})

    async def delete(self, conversation_id: str, item_id: str) -> None:
        kept = self.kept[conversation_id]
        kept[:] = [item for item in kept if item["id"] != item_id]


class OpenAI:
    """As much of the client as the sessions use."""

    def __init__(self) -> None:
        self.items = Items()
        self.conversations = self
        self.responses = self
        self.compactions = 0

    async def create(self, items: Any) -> Any:
        name = f"conv_{len(self.items.kept)}"
        self.items.kept[name] = []
        return SimpleNamespace(id=name)

    async def compact(self, **_: Any) -> Any:
        self.compactions += 1
        return SimpleNamespace(output=[{"type": "compaction", "encrypted_content": "all"}])


@pytest.fixture(params=["sqlite", "advanced", "sqlalchemy", "encrypted", "limited", "openai"])
def make(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Make:
    """What makes the session, as each process does for itself."""
    path = tmp_path / "session.sqlite"
    client: Any = OpenAI()
    bounded = SessionSettings(limit=1)
    kinds: dict[str, Make] = {
        "sqlite": lambda: SQLiteSession("s", path),
        "limited": lambda: SQLiteSession("s", path, session_settings=bounded),
        "advanced": lambda: AdvancedSQLiteSession(session_id="s", db_path=path, create_tables=True),
        "sqlalchemy": lambda: SQLAlchemySession.from_url(
            "s",
            url=database_url.replace("://", "+psycopg://"),
            engine_kwargs={"poolclass": NullPool},
            create_tables=True,
        ),
        "encrypted": lambda: EncryptedSession("s", SQLiteSession("s", path), KEY),
        "openai": lambda: OpenAIConversationsSession(openai_client=client),
    }
    found = kinds[request.param]
    vars(found)["conversation"] = "conv_0" if request.param == "openai" else None
    return found


async def closed(session: Any) -> None:
    inner = getattr(session, "underlying_session", session)
    if isinstance(inner, SQLAlchemySession):
        await inner.engine.dispose()
    elif isinstance(inner, SQLiteSession):
        inner.close()


def contents(make: Make) -> list[str]:
    """What the session holds now, each item by its role and text."""

    async def read() -> list[str]:
        session = make()
        if vars(make).get("conversation"):
            session.session_id = vars(make)["conversation"]
        items = await session.get_items(limit=100)
        await closed(session)
        texts = [
            item["content"] if isinstance(item["content"], str) else item["content"][0]["text"]
            for item in items
        ]
        return [f"{item['role']} {text}" for item, text in zip(items, texts, strict=True)]

    return asyncio.run(read())


def change(make: Make, work: Callable[[Any], Any]) -> None:
    async def changed() -> None:
        session = make()
        if vars(make).get("conversation"):
            session.session_id = vars(make)["conversation"]
        await work(session)
        await closed(session)

    asyncio.run(changed())


def forget_last_add(app: App) -> None:
    """As if the process had died before the outcome of the last change was committed."""
    done = app.execute(
        "DELETE FROM timestep.step_values WHERE id = (SELECT id FROM timestep.step_values "
        "WHERE name = 'session add_items' ORDER BY created_at DESC LIMIT 1)"
    )
    assert done.rowcount == 1


class Popping(RunHooks[Any]):
    """Takes the newest item, as the SDK does before it asks a model again."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.taken: Any = None

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        self.taken = await session_persistence._session_pop_item(self.session)


def talk(make: Make, model: ScriptedModel) -> Callable[[], Any]:
    """Two runs that say the same; the second takes back what it was asked."""

    async def body() -> str:
        session = make()
        agent = Agent(name="A", model=model)
        hooks = Popping(session)
        first = await timestep.DurableRunner.run(agent, "hi", session=session)
        second = await timestep.DurableRunner.run(agent, "hi", session=session, hooks=hooks)
        await closed(session)
        taken = json.dumps(hooks.taken)
        return f"{first.final_output} {len(second.to_input_list())} {taken}"

    return body


TALKED = ["user hi", "assistant yes", "assistant yes"]


def model() -> ScriptedModel:
    return ScriptedModel([[assistant_message("yes")], [assistant_message("yes")]])


def test_each_change_is_made_once(app: App, make: Make) -> None:
    answer = app.run(talk(make, model()), workflow_id="w")
    assert contents(make) == TALKED
    everything = app.everything()

    def replay() -> list[str]:
        assert app.recover("w") == answer
        assert app.everything() == everything
        return contents(make)

    assert replay() == TALKED
    forget_last_add(app)
    assert replay() == TALKED

    # The process died before it made the change.
    forget_last_add(app)
    change(make, lambda session: session.pop_item())
    assert replay() == TALKED

    # Another writer came between.
    later = {"role": "user", "content": "later"}
    change(make, lambda session: session.add_items([later]))
    forget_last_add(app)
    assert replay() == [*TALKED, "user later"]


class Counting(SQLiteSession):
    """Notes how much of it is read."""

    reads: ClassVar[list[int | None]] = []

    async def get_items(self, limit: int | None = None) -> Any:
        self.reads.append(limit)
        return await super().get_items(limit)


class Tenant:
    """A session of a user's own that is called with the run's context, with which it is shared."""

    session_id = "s"
    session_settings = None
    in_memory: bool | None = None

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    async def get_items(self, limit: int | None = None, *, wrapper: Any = None) -> list[Any]:
        Counting.reads.append(limit)
        return self.items[-(limit or 0) :]

    async def add_items(self, items: list[Any], *, wrapper: Any = None) -> None:
        assert wrapper is not None
        self.items += items

    async def pop_item(self, *, wrapper: Any = None) -> Any:
        return self.items.pop()

    async def clear_session(self, *, wrapper: Any = None) -> None:
        self.items.clear()


@pytest.mark.parametrize("kind", ["file", "newest of a file", "budget", "own", "own, elsewhere"])
def test_a_session_is_read_once_a_run(app: App, tmp_path: Path, kind: str) -> None:
    """What the run read of it tells later whether a change was made."""
    history = [{"role": "user", "content": f"said {n}"} for n in range(5)]
    file, shared = tmp_path / "session.sqlite", list[Any](history)
    is_limited = kind in ("newest of a file", "budget")

    class Elsewhere(Tenant):
        in_memory = False

    kinds: dict[str, Make] = {
        "own": lambda: Tenant(shared),
        "own, elsewhere": lambda: Elsewhere(shared),
        "budget": lambda: EncryptedSession("s", Counting("s", file), KEY, max_scan_items=2),
    }
    make = kinds.get(kind, lambda: Counting("s", file))
    if "own" not in kind:
        change(make, lambda session: session.add_items(history))

    async def body() -> str:
        session = make()
        config = RunConfig(session_settings=SessionSettings(limit=2 if is_limited else None))
        agent = Agent("A", model=ScriptedModel([[assistant_message("yes")]]))
        result = await timestep.DurableRunner.run(agent, "hi", session=session, run_config=config)
        await closed(session)
        return str(result.final_output)

    async def held() -> list[str]:
        session: Any = Tenant(shared) if "own" in kind else SQLiteSession("s", file)
        items = await session.get_items()
        await closed(session)
        return marks(items) if kind != "budget" else items

    Counting.reads.clear()
    assert app.run(body, workflow_id="w") == "yes"
    assert Counting.reads == [2 if is_limited else None]
    after = asyncio.run(held())
    assert len(after) == len(history) + 2
    forget_last_add(app)
    assert app.recover("w") == "yes"
    assert asyncio.run(held()) == after

    # The process died before it made the change.
    forget_last_add(app)
    change(make, lambda session: session.pop_item())
    assert app.recover("w") == "yes"
    assert len(asyncio.run(held())) == len(after)


def test_an_item_is_taken_once(app: App, make: Make) -> None:
    """The process died after the item was taken, before that was committed."""

    async def body() -> str:
        session = make()
        hooks = Popping(session)
        agent = Agent(name="A", model=ScriptedModel([[assistant_message("yes")]]))
        with pytest.raises(Stopped):
            await timestep.DurableRunner.run(agent, "hi", session=session, hooks=StopAfter(hooks))
        await closed(session)
        return json.dumps(hooks.taken)

    answer = app.run(body, workflow_id="w")
    assert "hi" in answer
    assert contents(make) == []
    change(make, lambda session: session.add_items([{"role": "user", "content": "later"}]))
    app.execute("DELETE FROM timestep.step_values WHERE name = 'session pop_item'")
    assert app.recover("w") == answer
    assert contents(make) == ["user later"]


class Stopped(Exception):
    """Ends a run after its hook."""


class StopAfter(RunHooks[Any]):
    def __init__(self, inner: Popping) -> None:
        self.inner = inner

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        await self.inner.on_agent_start(context, agent)
        raise Stopped


def test_what_a_tripped_run_adds_is_added_after_a_crash(app: App, tmp_path: Path) -> None:
    @input_guardrail
    async def trips(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
        return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

    def make() -> SQLiteSession:
        return SQLiteSession("s", tmp_path / "session.sqlite")

    async def body() -> str:
        session = make()
        # Which of the two ends first must not matter.
        script = ScriptedModel([[assistant_message("late")]])
        agent = Agent(name="A", model=script, input_guardrails=[trips])
        with pytest.raises(InputGuardrailTripwireTriggered):
            await timestep.DurableRunner.run(agent, "hi", session=session)
        session.close()
        return "tripped"

    app.run(body, workflow_id="w")
    saved = contents(make)
    assert saved == ["user hi"]
    app.execute("DELETE FROM timestep.step_values WHERE name LIKE 'session add_items%'")
    app.execute(
        "UPDATE runs SET completed_at = NULL, status = 'running', error_type = NULL, "
        "error_message = NULL, error_turn = NULL, error = NULL"
    )
    change(make, lambda session: session.clear_session())
    assert app.recover("w") == "tripped"
    assert contents(make) == saved


class Hanging(SQLiteSession):
    """Takes forever to keep an answer, the first time."""

    hangs = True

    async def add_items(self, items: Any) -> None:
        if self.hangs and any(item.get("role") == "assistant" for item in items):
            self.hangs = False
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
    held, before = asyncio.run(session.get_items()), app.everything()
    assert [item.get("role") for item in held] == ["user"]
    assert app.replay("w") == "too late"
    assert asyncio.run(session.get_items()) == held
    assert app.everything() == before


def test_a_session_that_cannot_be_read_fails_the_run_alike(app: App) -> None:
    class Unreadable(SQLiteSession):
        async def get_items(self, limit: int | None = None) -> Any:
            raise OSError(5, "no disk", "/here")

    async def body() -> str:
        session = Unreadable("s")
        agent = Agent(name="A", model=ScriptedModel([]))
        with pytest.raises(OSError, match="no disk") as caught:
            await timestep.DurableRunner.run(agent, "hi", session=session)
        session.close()
        return str(caught.value)

    answer = app.run(body, workflow_id="w")
    assert app.recover("w") == answer
    assert [row["status"] for row in app.rows("runs")] == ["failed"]


def test_a_compaction_is_made_once(app: App, tmp_path: Path) -> None:
    client: Any = OpenAI()
    path = tmp_path / "session.sqlite"

    def make() -> Any:
        return OpenAIResponsesCompactionSession(
            "s",
            SQLiteSession("s", path),
            client=client,
            compaction_mode="input",
            should_trigger_compaction=lambda _: True,
        )

    answered = ModelResponse([assistant_message("yes")], Usage(), "response-1")
    script = ScriptedModel([answered])

    async def body() -> str:
        session = make()
        agent = Agent(name="A", model=script)
        result = await timestep.DurableRunner.run(agent, "hi", session=session)
        await closed(session)
        return str(result.final_output)

    answer = app.run(body, workflow_id="w")
    assert client.compactions == 1
    assert app.recover("w") == answer
    assert client.compactions == 1

    async def kept() -> list[Any]:
        session = make()
        items: list[Any] = await session.get_items()
        await closed(session)
        return items

    assert [item["type"] for item in asyncio.run(kept())] == ["compaction"]


def test_runs_of_a_sqlite_session_at_the_same_time_lose_nothing(app: App, tmp_path: Path) -> None:
    def make() -> SQLiteSession:
        return SQLiteSession("s", tmp_path / "session.sqlite")

    async def body() -> str:
        session = make()
        runs = (
            timestep.DurableRunner.run(
                Agent(name="A", model=ScriptedModel([[assistant_message(f"to {n}")]])),
                f"from {n}",
                session=session,
            )
            for n in range(8)
        )
        await asyncio.gather(*runs)
        session.close()
        return "done"

    app.run(body, workflow_id="w")
    held = contents(make)
    wanted = [f"user from {n}" for n in range(8)] + [f"assistant to {n}" for n in range(8)]
    assert sorted(held) == sorted(wanted)
    assert app.recover("w") == "done"
    assert contents(make) == held


def items_of(texts: Iterable[str]) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


def said(*texts: str) -> list[str]:
    return marks(items_of(texts))


@pytest.mark.parametrize(
    ("before", "now", "items", "done"),  # of `before`, "…" is what the run did not ask for
    [
        ([], [], ["a"], 0),
        ([], ["a"], ["a"], 1),
        # The same again and again.
        (["a", "a"], ["a", "a"], ["a"], 0),
        (["a", "a"], ["a", "a", "a"], ["a"], 1),
        # Another writer, before and after.
        (["a"], ["a", "x", "b", "c", "y"], ["b", "c"], 2),
        (["a"], ["a", "x"], ["b", "c"], 0),
        # Half a batch.
        (["a"], ["a", "b"], ["b", "c"], 1),
        # A history that was cut, or written anew.
        (["a", "b"], ["b", "c"], ["c"], 1),
        (["a", "b"], ["summary"], ["c"], 0),
        # A history of which the run asked for the newest items alone, and what may be read of it.
        (["…", "a", "b"], ["x", "a", "b", "c"], ["c"], 1),
        (["…", "a", "b"], ["a", "b", "a", "b", "y", "c"], ["c"], 1),
        (["…", "a", "b"], ["a", "b", "a", "b"], ["c"], 0),
        (["…", "a", "b"], ["a", "b"], ["c", "d"], 0),
        (["…", "a", "b"], ["c", "d"], ["c", "d"], 2),
        (["…", "a"], ["d"], ["c", "d"], 2),
    ],
)
def test_how_much_of_a_batch_was_added(
    before: list[str], now: list[str], items: list[str], done: int
) -> None:
    is_whole = "…" not in before
    end = SessionEnd(items_of(before if is_whole else before[1:]), is_whole)
    assert end.tells(items_of(items))
    assert how_many_added(end.recorded(), said(*now), said(*items)) == done


def test_an_end_that_would_look_the_same_tells_nothing() -> None:
    for end, added in ((["a"], ["a"]), (["a", "b"], ["a", "b"]), (["a", "a"], ["a"]), ([], ["a"])):
        assert not SessionEnd(items_of(end), is_whole=False).tells(items_of(added))
        assert SessionEnd(items_of(end), is_whole=True).tells(items_of(added))


def test_an_item_is_known_in_another_form() -> None:
    form = {
        "id": "item_1",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "hi"}],
    }
    assert marks([form]) == said("hi")


class Called:
    """An object in the place of a session's method, which counts its calls."""

    def __init__(self, method: Any) -> None:
        self.method = method
        self.calls = 0

    async def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return await self.method(*args, **options)


def in_object(method: Any) -> Any:
    return Called(method)


def in_function(method: Any) -> Any:
    async def other(*args: Any, **options: Any) -> Any:
        other.calls += 1  # type: ignore[attr-defined]  # a function's own attribute
        return await method(*args, **options)

    other.calls = 0  # type: ignore[attr-defined]  # as above
    return other


@pytest.mark.parametrize("put", [in_object, in_function])
@pytest.mark.parametrize("is_around", [False, True])
def test_what_is_in_the_place_of_a_method_is_called_once(
    app: App, tmp_path: Path, put: Callable[[Any], Any], is_around: bool
) -> None:
    path = tmp_path / "session.sqlite"
    session: Any = SQLiteSession("s", path)
    if is_around:
        session = EncryptedSession("s", session, KEY)
    placed = session.underlying_session if is_around else session
    called = {name: put(getattr(placed, name)) for name in ("get_items", "add_items")}
    vars(placed).update(called)

    async def body() -> str:
        agent = Agent("A", model=ScriptedModel([[assistant_message("hi")]]))
        return str((await timestep.run_agent(agent, "go", session=session)).final_output)

    assert app.run(body, "w") == "hi"
    counts = {name: one.calls for name, one in called.items()}
    assert all(counts.values())
    assert app.replay("w") == "hi"
    assert {name: one.calls for name, one in called.items()} == counts
    assert len(asyncio.run(placed.get_items())) == 2
    placed.close()
