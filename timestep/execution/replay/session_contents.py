"""Gives a session in memory again what runs did to it, in a process that is without that.

The SDK's SQLite sessions without a path, and lists of users' own, are gone with their process,
and a recovery that only took recorded answers would let the next run see an empty conversation.
So the record tells of each step of a run's session what the session held before it. A replay
compares, and gives the session what it lacks, by the same methods by which it came there.

What a session holds is compared by its items' texts, as many times as each is there, and what
other runs of this process put there is theirs. A session that keeps its items elsewhere has them
all, and gets nothing. Where the contents do not tell which of the two a session is, because it
is of a class that nobody said it of, and it holds other items, a replay refuses to go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hashlib
import threading
import uuid
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from timestep.errors import ReplayError
from timestep.execution.replay.session_end import SessionEnd, digest, marks
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess
from timestep.serialization.sdk_objects import jsonable

_PROTOCOL = "agents.memory.session"
"""The SDK's module of what a session of anybody's may be a subclass of."""


_TURN = 0.001
"""Seconds until who waits for another one looks again."""


class Place(enum.Enum):
    """Where a session keeps its items."""

    MEMORY = "in this process's memory"
    ELSEWHERE = "elsewhere"
    UNKNOWN = "unknown"


def place_of(session: Any) -> Place:
    """Where a session keeps its items, as far as its class says it.

    Args:
        session: Any session. One of a user's own class says it with the attribute `in_memory`.
    """
    if isinstance(said := getattr(session, "in_memory", None), bool):
        return Place.MEMORY if said else Place.ELSEWHERE
    if session is None:
        # Its methods are functions, and it is not known of them.
        return Place.ELSEWHERE
    modules = {kind.__module__ for kind in type(session).__mro__}
    if not any(name.startswith("agents.") for name in modules - {_PROTOCOL}):
        return Place.UNKNOWN
    if (inner := getattr(session, "underlying_session", None)) is not None:
        return place_of(inner)
    engine = getattr(session, "engine", None)
    is_memory = (
        str(getattr(session, "db_path", "")) == ":memory:"
        if engine is None
        else engine.url.get_backend_name() == "sqlite"
        and engine.url.database in (None, "", ":memory:")
    )
    return Place.MEMORY if is_memory else Place.ELSEWHERE


class SessionContents:
    """What a run's record says that a session holds, as the run comes to each of its steps.

    Args:
        session: The session.
    """

    everything: Callable[[], Awaitable[list[Any]]]
    """Reads all of the session's items."""
    newest: Callable[[int], Awaitable[list[Any]]]
    """Reads as many of its newest items."""
    give: Callable[[list[Any]], Awaitable[Any]]
    """Adds items to the session. Whoever calls the session says how it is called then."""

    def __init__(self, session: Any) -> None:
        self.place = place_of(session)
        self.known: list[Any] | None = None
        """None where the record does not say."""
        self.end: SessionEnd | None = None
        """What the run was told last of what the session ends with; None where that is not so
        any more."""
        self._session = session
        self._done = _done_to(session)
        self._is_doubtful = False

    # What is recorded

    def difference(self, now: list[Any]) -> dict[str, Any]:
        """What has to be recorded of what a session holds: nothing where the record says it."""
        known = None if self.known is None else marks(self.known)
        held = marks(now)
        self.known = list(now)
        if known == held:
            return {}
        same = 0
        while same < min(len(known or ()), len(held)) and (known or ())[same] == held[same]:
            same += 1
        return {"same": same, "items": [jsonable(item) for item in now[same:]]}

    def grow(self, items: list[Any]) -> None:
        """Note that the run adds items."""
        if self.known is not None:
            self.known = [*self.known, *items]

    def recall(self, seen: dict[str, Any]) -> None:
        """Take what `difference` was recorded with; `count` and `history` are those before."""
        if "items" in seen:
            self.known = [*(self.known or [])[: seen["same"]], *seen["items"]]
        elif self.known is None or digest(marks(self.known)) != seen["history"]:
            # An earlier version recorded no items.
            self.known = None if seen["count"] else []

    def note(self, key: uuid.UUID) -> None:
        """Note that this process did a step to this very session."""
        self._done.steps.add(key)

    async def added(
        self, change: uuid.UUID, items: list[Any], add: Callable[[], Awaitable[Any]]
    ) -> Any:
        """What `add` gave, with which a run adds items for the first time.

        Args:
            change: Tells this change from others, of other runs and workflows, too.
            items: The items, which are this change's from then on.
            add: Adds them.
        """
        async with self._done.alone():
            answer = await add()
            self._done.claim(change, _count(items))
            return answer

    @property
    def is_in_memory(self) -> bool:
        """Whether it is known that the session is gone with its process."""
        return self.place is Place.MEMORY or self._done.is_in_memory

    # What is done again

    def is_done(self, key: uuid.UUID) -> bool:
        """Whether this process did a step to this very session: there is nothing to do again."""
        return key in self._done.steps

    async def put_back(self, newest: list[Any] | None = None) -> None:
        """Give the session what the record says that it held.

        Args:
            newest: What the record says that it held at least, if it does not say all.
        """
        async with self._done.alone():
            now = await self.everything()
            lacking = _lacking(self.known if newest is None else newest, now)
            if lacking and (newest is not None or not self._may_be_given(now)):
                # Its items may have been written anew since. What the record holds next tells.
                self._is_doubtful = True
            elif lacking:
                await self._give(lacking)

    async def add_again(self, change: uuid.UUID, items: list[Any], after: list[Any]) -> None:
        """Give the session what it lacks of what it held when a run had added to it.

        Args:
            change: As `added` takes it.
            items: What the run added.
            after: What the session held then.

        Raises:
            ReplayError: It lacks that, and nobody can tell why.
        """
        async with self._done.alone():
            now, before = await self.everything(), _count(after) - _count(items)
            # What other changes put there since is theirs, though it be the same.
            others = self._done.claimed - self._done.changes.get(change, Counter()) - before
            if lacking := _left_of(after, _count(now) - others):
                if not self._may_be_given(now):
                    raise self._refusal()
                await self._give(lacking)
            self._is_doubtful = False
            self._done.claim(change, _count(items))

    async def take_again(
        self, key: uuid.UUID, popped: Any, pop: Callable[[], Awaitable[Any]]
    ) -> None:
        """Take from the session what a step took, and give it what was left then."""
        async with self._done.alone():
            now = await self.everything()
            left = (self.known or [])[:-1]
            lacking = _lacking(left, now)
            if lacking and self._may_be_given(now):
                await self._give(lacking)
                now = await self.everything()
            (mark,) = marks([popped])
            held = marks(now)
            if held and held[-1] == mark and held.count(mark) > marks(left).count(mark):
                await pop()
            self.note(key)

    async def rewrite_again(
        self, key: uuid.UUID, before: list[Any], clear: Callable[[], Awaitable[Any]]
    ) -> None:
        """Let the session hold what it held after a step that wrote it anew.

        Args:
            key: The step.
            before: What it held before that.
            clear: Removes every item.

        Raises:
            ReplayError: It does not hold that, and nobody can tell why.
        """
        async with self._done.alone():
            now, after = await self.everything(), self.known or []
            if _lacking(after, now):
                if not self._may_be_given(now):
                    raise self._refusal()
                others = _lacking(now, [*before, *after])
                await clear()
                await self._give([*after, *others])
            self.note(key)

    def check(self) -> None:
        """See that a step that is not recorded finds what it would have found.

        Raises:
            ReplayError: The session lacks what it held, and nobody can tell why.
        """
        if self._is_doubtful:
            raise self._refusal()

    def _may_be_given(self, now: list[Any]) -> bool:
        """Whether what a session lacks is what it lost with a process."""
        held, known = marks(now), marks(self.known or [])
        is_begun_alike = self.place is Place.UNKNOWN and held == known[: len(held)]
        return self.is_in_memory or is_begun_alike

    async def _give(self, items: list[Any]) -> None:
        self._done.is_in_memory = True
        if items:
            await self.give(items)

    def _refusal(self) -> ReplayError:
        kind = type(self._session).__qualname__
        return ReplayError(
            f"session {getattr(self._session, 'session_id', None)!r} lacks what the record says "
            f"that it held, and holds other items: whether a {kind} keeps its items in the memory "
            "of its process cannot be told. Set in_memory = True on the class if it does (a "
            "recovery then gives it what it lacks), in_memory = False if it keeps them elsewhere "
            "(a recovery then leaves it as it is); timestep.DatabaseSession needs neither"
        )


class _Done:
    """What this process did to one session."""

    def __init__(self) -> None:
        self.steps: set[uuid.UUID] = set()
        self.changes: dict[uuid.UUID, Counter[str]] = {}
        """The items that are each change's own."""
        self.claimed: Counter[str] = Counter()
        """All of those."""
        self.is_in_memory = False
        """Whether it was without what a process that is gone had put there."""
        self._lock = threading.Lock()

    def claim(self, change: uuid.UUID, items: Counter[str]) -> None:
        if change not in self.changes:
            self.changes[change] = items
            self.claimed += items

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """While nobody else looks what the session lacks."""
        # No lock of asyncio's: workflows that share a session may have loops of their own.
        while not self._lock.acquire(blocking=False):  # noqa: ASYNC110
            await asyncio.sleep(_TURN)
        try:
            yield
        finally:
            self._lock.release()


class _Sessions(PerProcess):
    """Keeps what was done to the sessions that this process has, as long as it has them."""

    def __init__(self) -> None:
        self.done: dict[int, tuple[weakref.ref[Any], _Done]] = {}


def _done_to(session: Any) -> _Done:
    """Of this very object: another of the same id may keep its items for itself."""
    sessions, key = process_state.of(_Sessions).done, id(session)
    found = sessions.get(key)
    if found is not None and found[0]() is session:
        return found[1]
    done = _Done()
    try:
        reference = weakref.ref(session, lambda gone: _forget(sessions, key, gone))
    except TypeError:
        # Its class has slots. What it holds tells the same, but for equal texts.
        return done
    sessions[key] = (reference, done)
    return done


def _forget(
    sessions: dict[int, tuple[weakref.ref[Any], _Done]], key: int, gone: weakref.ref[Any]
) -> None:
    # Another object may have the identity by now.
    if key in sessions and sessions[key][0] is gone:
        del sessions[key]


def _short(mark: str) -> str:
    return hashlib.blake2b(mark.encode(), digest_size=16).hexdigest()


def _count(items: list[Any]) -> Counter[str]:
    return Counter(map(_short, marks(items)))


def _lacking(wanted: list[Any] | None, now: list[Any]) -> list[Any]:
    """Those of the wanted items that are not there, in their order."""
    return _left_of(wanted or [], _count(now))


def _left_of(items: list[Any], there: Counter[str]) -> list[Any]:
    left, there = [], there.copy()
    for item, mark in zip(items, map(_short, marks(items)), strict=True):
        if there[mark] > 0:
            there[mark] -= 1
        else:
            left.append(item)
    return left
