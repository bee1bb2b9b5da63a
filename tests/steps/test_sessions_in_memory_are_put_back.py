"""Sessions that live in a process's memory: a process that is without them is given them again."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from agents import (
    Agent,
    ModelResponse,
    OpenAIResponsesCompactionSession,
    RunHooks,
    SessionSettings,
    SQLiteSession,
    Usage,
)
from agents.extensions.memory import AdvancedSQLiteSession, EncryptedSession
from agents.run_internal import session_persistence
from agents.testing import ScriptedModel, assistant_message
from dbos import SetWorkflowID

import timestep
from tests.support.dbos_app import BODIES, App, run_it
from timestep.errors import ReplayError

KEY = "kSJ8NfPRbXnyEqSDjSLsk2F6lZ4JmBSBvM0ESDN-2rA="


class Died(Exception):
    """The process is gone at this point of a workflow."""


@dataclasses.dataclass
class Listed:
    """A session as users write their own: a list."""

    session_id: str
    session_settings: SessionSettings | None = None
    items: list[Any] = dataclasses.field(default_factory=list)

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return list(self.items) if limit is None else self.items[-limit:]

    async def add_items(self, items: list[Any]) -> None:
        self.items.extend(items)

    async def pop_item(self) -> Any:
        return self.items.pop() if self.items else None

    async def clear_session(self) -> None:
        self.items.clear()


def compacting(inner: Any) -> OpenAIResponsesCompactionSession:
    client: Any = SimpleNamespace(responses=SimpleNamespace(compact=compact))
    return OpenAIResponsesCompactionSession(
        "s",
        inner,
        client=client,
        compaction_mode="input",
        should_trigger_compaction=lambda given: len(given["session_items"]) >= 4,
    )


async def compact(**given: Any) -> Any:
    compacted.append(len(given["input"]))
    summary = {"type": "message", "role": "user", "content": f"{len(given['input'])} items"}
    return SimpleNamespace(output=[summary])


compacted: list[int] = []

MEMORY = ":memory:"

KINDS: dict[str, Callable[[Path | str], Any]] = {
    "sqlite": lambda path: SQLiteSession("s", path),
    "limited": lambda path: SQLiteSession("s", path, session_settings=SessionSettings(limit=1)),
    "advanced": lambda path: AdvancedSQLiteSession(
        session_id="s", db_path=path, create_tables=True
    ),
    "encrypted": lambda path: EncryptedSession("s", SQLiteSession("s", path), KEY),
    "compacting": lambda path: compacting(SQLiteSession("s", path)),
    "encrypted compacting": lambda path: encrypted(compacting(SQLiteSession("s", path))),
}
ELSEWHERE: dict[str, Callable[[Path | str], Any]] = {
    "listed": lambda path: Listed("s"),
    "database": lambda path: encrypted(timestep.DatabaseSession(str(path))),
    "compacting database": lambda path: compacting(timestep.DatabaseSession(str(path))),
}


def encrypted(inner: Any) -> EncryptedSession:
    return EncryptedSession("s", inner, KEY)


@pytest.mark.parametrize(
    ("kind", "is_file"),
    [*((kind, False) for kind in KINDS), ("compacting", True), ("encrypted compacting", True)],
)
def test_the_next_run_sees_what_it_would_have_seen(
    app: App, kind: str, is_file: bool, tmp_path: Path
) -> None:
    check(app, KINDS[kind], lambda name: tmp_path / name if is_file else MEMORY)
    assert bool(compacted) == ("compacting" in kind)


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_the_next_run_sees_what_another_kind_would_have_held(app: App, kind: str) -> None:
    check(app, ELSEWHERE[kind], lambda name: name)
    assert bool(compacted) == ("compacting" in kind)


def check(app: App, make: Callable[[Path | str], Any], path: Callable[[str], Path | str]) -> None:
    """Let a workflow of three runs die before the third."""
    seen: list[Any] = []

    async def talk(name: str, dies_before: int | None) -> str:
        """What the session held at last."""
        session = make(path(name))
        try:
            for n in range(3):
                if n == dies_before:
                    raise Died
                answered = ModelResponse([assistant_message(f"yes {n}")], Usage(), f"response-{n}")
                agent = Agent(name="A", model=ScriptedModel([answered]))
                result = await timestep.DurableRunner.run(agent, f"hi {n}", session=session)
                seen.append(texts(result.to_input_list()))
            return str(texts(await session.get_items(limit=100)))
        finally:
            close(session)

    compacted.clear()
    whole = app.run(lambda: talk("whole", None), workflow_id="whole")
    ended, calls = list(seen), list(compacted)
    compacted.clear()
    with pytest.raises(Died):
        app.run(lambda: talk("dies", 2), workflow_id="dies")
    seen.clear()
    assert run_on(app, "dies", lambda: talk("dies", None)) == whole
    assert (seen, compacted) == (ended, calls)
    assert app.replay("dies") == whole


async def say(text: str, session: Any) -> list[str]:
    """What a run of one answer is about: what its session held, and what it was asked."""
    model = ScriptedModel([[assistant_message(f"yes {text}")]])
    result = await timestep.DurableRunner.run(Agent(name="A", model=model), text, session=session)
    return texts(result.to_input_list())


def texts(items: Any) -> list[str]:
    return [
        item["content"] if isinstance(item["content"], str) else item["content"][0]["text"]
        for item in items
    ]


def dying(*steps: Callable[[], Awaitable[Any]], dies: bool) -> Callable[[], Awaitable[str]]:
    """A workflow whose first process dies before the last of its steps."""

    async def body() -> str:
        answer: Any = None
        for step in steps[: len(steps) - dies]:
            answer = await step()
        if dies:
            raise Died
        return str(answer)

    return body


class Shared(Listed):
    """Keeps the items of all sessions in one place of the process."""

    kept: ClassVar[dict[str, list[Any]]] = {}

    def __init__(self, session_id: str) -> None:
        super().__init__(session_id, items=self.kept.setdefault(session_id, []))


@pytest.mark.parametrize("kind", ["sqlite", "shared"])
def test_what_earlier_workflows_said_is_put_back(app: App, kind: str) -> None:
    """A chat: each message is a workflow, and the process keeps the conversation."""
    session: Any = None

    def new_process() -> None:
        nonlocal session
        Shared.kept = {}
        session = SQLiteSession("s") if kind == "sqlite" else Shared("s")

    new_process()
    app.run(lambda: say("one", session), workflow_id="one")
    app.run(lambda: say("two", session), workflow_id="two")
    steps = [lambda: say("three", session), lambda: say("four", session)]
    with pytest.raises(Died):
        app.run(dying(*steps, dies=True), workflow_id="three")
    new_process()
    wanted = [word for n in ("one", "two", "three", "four") for word in (n, f"yes {n}")]
    # It recovers first; what ended is recovered by nobody.
    assert run_on(app, "three", dying(*steps, dies=False)) == str(wanted)
    assert texts(asyncio.run(session.get_items())) == wanted
    # An execution in the same process, of the same session or of one that shares its items.
    assert app.replay("three") == str(wanted)
    if kind == "shared":
        session = Shared("s")
        assert app.replay("three") == str(wanted)
    assert texts(asyncio.run(session.get_items())) == wanted


@pytest.mark.parametrize("first", ["a", "b"])
def test_workflows_that_share_a_session_find_all_of_it(app: App, first: str) -> None:
    """Two workflows speak by turns in one session; both recover, in either order."""
    session = SQLiteSession("s")

    def turns(name: str, dies: bool) -> Callable[[], Awaitable[str]]:
        # Both say the same things, and neither may take the other's for its own.
        return dying(
            *(lambda n=n: gate(name, n) for n in range(3)),
            dies=dies,
        )

    turn = {"a": [asyncio.Event(), asyncio.Event()], "b": [asyncio.Event(), asyncio.Event()]}
    is_first_life = True

    async def gate(name: str, n: int) -> list[str]:
        if is_first_life and (name, n) != ("a", 0):
            await (turn["b"][n - 1] if name == "a" else turn["a"][n]).wait()
        said = await say(f"hi {n}", session)
        if is_first_life:
            turn[name][n].set()
        return said

    async def first_life() -> None:
        results = await asyncio.gather(
            start("a", turns("a", True)), start("b", turns("b", True)), return_exceptions=True
        )
        assert [type(result) for result in results] == [Died, Died]

    asyncio.run(first_life())
    before = texts(asyncio.run(session.get_items()))
    assert len(before) == 8
    is_first_life = False
    session.close()
    session = SQLiteSession("s")
    second = "b" if first == "a" else "a"
    run_on(app, first, turns(first, False))
    run_on(app, second, turns(second, False))
    after = texts(asyncio.run(session.get_items()))
    assert sorted(after) == sorted([*before, *2 * ["hi 2", "yes hi 2"]])
    session.close()


async def start(workflow_id: str, body: Callable[[], Awaitable[Any]]) -> str:
    BODIES[workflow_id] = body
    with SetWorkflowID(workflow_id):
        return await run_it(workflow_id)


def test_parallel_runs_of_a_session_are_put_back_alike(app: App) -> None:
    async def parallel(session: Any) -> None:
        # The same words: one run's are not the other's.
        await asyncio.gather(*(say("hi", session) for _ in range(4)))

    def body(dies: bool) -> Callable[[], Awaitable[str]]:
        session = SQLiteSession("s")
        opened.append(session)
        return dying(lambda: parallel(session), lambda: say("and?", session), dies=dies)

    opened: list[SQLiteSession] = []
    with pytest.raises(Died):
        app.run(body(dies=True), workflow_id="w")
    before = texts(asyncio.run(opened[0].get_items()))
    assert len(before) == 8
    assert run_on(app, "w", body(dies=False)) == str([*before, "and?", "yes and?"])
    for session in opened:
        session.close()


class Rewinding(RunHooks[Any]):
    """Takes the newest item back, as the SDK does before it asks a model again."""

    def __init__(self, session: Any) -> None:
        self.session = session

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        await session_persistence._session_pop_item(self.session)


@pytest.mark.parametrize("forgotten", [None, "add_items", "pop_item"])
@pytest.mark.parametrize("kind", ["sqlite", "listed"])
def test_what_was_taken_back_stays_away(app: App, kind: str, forgotten: str | None) -> None:
    """Also where the process died after the change, and before that was recorded."""

    async def talk(session: Any) -> None:
        agent = Agent(name="A", model=ScriptedModel([[assistant_message("yes")]]))
        await say("one", session)
        hooks = Rewinding(session)
        await timestep.DurableRunner.run(agent, "two", session=session, hooks=hooks)

    def body(dies: bool) -> Callable[[], Awaitable[str]]:
        session = (KINDS | ELSEWHERE)[kind](MEMORY)
        opened.append(session)
        return dying(lambda: talk(session), lambda: say("three", session), dies=dies)

    opened: list[Any] = []
    with pytest.raises(Died):
        app.run(body(dies=True), workflow_id="w")
    held = ["one", "yes one", "yes"]
    assert texts(asyncio.run(opened[0].get_items())) == held
    if forgotten is not None:
        app.execute(
            "DELETE FROM timestep.step_values WHERE id = (SELECT id FROM timestep.step_values "
            "WHERE name = %s ORDER BY created_at DESC LIMIT 1)",
            (f"session {forgotten}",),
        )
    assert run_on(app, "w", body(dies=False)) == str([*held, "three", "yes three"])
    for session in opened:
        close(session)


def test_what_cannot_be_told_is_refused_until_it_is_said(app: App) -> None:
    class Newest(Listed):
        """Keeps the newest items, which are others' by now."""

    def body(items: list[str], dies: bool) -> Callable[[], Awaitable[str]]:
        session = Newest("s", items=[{"role": "user", "content": text} for text in items])
        opened.append(session)
        return dying(lambda: say("one", session), lambda: say("two", session), dies=dies)

    opened: list[Newest] = []
    with pytest.raises(Died):
        app.run(body([], dies=True), workflow_id="w")
    with pytest.raises(ReplayError, match=r"session 's' lacks .*Newest .* in_memory = True"):
        run_on(app, "w", body(["other"], dies=False))
    assert texts(opened[-1].items) == ["other"]
    assert [row["status"] for row in app.rows("runs")] == ["completed"]

    Newest.in_memory = False  # type: ignore[attr-defined]
    wanted = ["other", "two", "yes two"]
    assert run_on(app, "w", body(["other"], dies=False)) == str(wanted)

    with pytest.raises(Died):
        app.run(body([], dies=True), workflow_id="v")
    Newest.in_memory = True  # type: ignore[attr-defined]
    wanted = ["other", "one", "yes one", "two", "yes two"]
    assert run_on(app, "v", body(["other"], dies=False)) == str(wanted)


def run_on(app: App, workflow_id: str, body: Callable[[], Awaitable[Any]]) -> str:
    """The result of a workflow that a new process executes, with code that does not die."""
    BODIES[workflow_id] = body
    return app.recover(workflow_id)


def close(session: Any) -> None:
    while hasattr(session, "underlying_session"):
        session = session.underlying_session
    if isinstance(session, SQLiteSession):
        session.close()
