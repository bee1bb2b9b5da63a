"""Makes steps of what a run asks of sessions that keep their items elsewhere, or in memory.

What such a session answers to a run is recorded with the run, so a replay asks it nothing.
What a run does to it is done once: how the session was is committed before a change, and an
execution that finds that without the change's outcome looks what became of the session
(`timestep.execution.replay.session_end`). How it was is what the run was told last, where that
says enough; only otherwise is the session read for it.

A session in memory is gone with its process: what was done to it is done again, to the session
object of each process that comes to it (`timestep.execution.replay.session_contents`).

These are steps of the run's record alone. A session is also written when a guardrail trips, at a
moment that depends on timing, and DBOS's step numbers must not; that write follows what the
record holds as the run's end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from agents.memory.session_settings import resolve_session_limit

from timestep.errors import ReplayError
from timestep.execution.current import as_loop, current_step
from timestep.execution.replay.session_contents import Place, SessionContents
from timestep.execution.replay.session_end import SessionEnd, how_many_added, is_there, marks
from timestep.execution.run import Run
from timestep.serialization.sdk_objects import jsonable
from timestep.steps.recorded_value import Outcome, outcome_of
from timestep.steps.step import Refused

_GET = "get_items"
_ADD = "add_items"
_POP = "pop_item"
_CLEAR = "clear_session"
_COMPACT = "run_compaction"
_RECORDED = {_GET: _GET, _ADD: _ADD, _POP: _POP, _CLEAR: _CLEAR, _COMPACT: _COMPACT}
"""Other methods only touch what a session object holds in memory, which each process has anew."""
_RECORDED["_run_compaction"] = _COMPACT
"""An encrypted session's."""

_READ_UNDER_LOCK = "_get_items_with_generation"

CALLED = frozenset({*_RECORDED, _READ_UNDER_LOCK})
"""Methods of sessions whose calls are recorded, or are around such calls."""

_EVERYTHING = 2**31 - 1
"""A limit above every session's length."""

_Call = Callable[..., Awaitable[Any]]
_Effect = Callable[[], Awaitable[Any]]

_after_lock: ContextVar[list[_Effect] | None] = ContextVar("timestep_after_lock", default=None)
"""What is done when the session whose lock the caller holds lets go of it."""


async def call_session(run: Run, call: _Call, method: Any, *args: Any, **options: Any) -> Any:
    """What a session's method answers to the run's loop, recorded.

    Args:
        run: The run whose loop calls.
        call: Calls the method, as the SDK does.
        method: The session's method, bound to it.

    Raises:
        ReplayError: The session lacks what it held, and nobody can tell whether it was lost.
    """
    name, step = getattr(method, "__name__", ""), current_step()
    if step is not None and step.run is run:
        return await call(method, *args, **options)
    if name == _READ_UNDER_LOCK:
        return await _read_under_lock(call, method, *args, **options)
    if name not in _RECORDED:
        return await call(method, *args, **options)

    async def effect(given: tuple[Any, ...] = args) -> Any:
        return await call(method, *given, **options)

    session: Any = getattr(method, "__self__", None)
    contents = run.session_contents.get(id(session))
    if contents is None:
        contents = run.session_contents[id(session)] = SessionContents(session)
    context = {name: value for name, value in options.items() if name == "wrapper"}

    async def everything() -> list[Any]:
        limit = {} if _settings(session) is None else {"limit": _EVERYTHING}
        found: list[Any] = await call(session.get_items, **limit, **context)
        return found

    async def newest(limit: int) -> list[Any]:
        found: list[Any] = await call(session.get_items, limit=limit, **context)
        return found

    async def give(items: list[Any]) -> Any:
        return await call(session.add_items, items, **context)

    contents.everything, contents.newest, contents.give = everything, newest, give
    change = _Change(run, session, contents, _RECORDED[name], effect)
    if change.name == _GET:
        limit = options.get("limit", args[0] if args else None)
        return await change.read(resolve_session_limit(limit, _settings(session)))
    if change.name == _ADD:
        return await change.add(args[0], lambda items: effect((items, *args[1:])))
    if change.name == _POP:
        return await change.pop()
    if change.name == _CLEAR:
        return await change.clear()
    return await change.compact()


async def call_around_own(run: Run, call: _Call, method: Any, *args: Any, **options: Any) -> Any:
    """What a session's method answers that keeps its items in a `DatabaseSession`.

    That one sees to it itself that a change which is made again changes nothing. What is recorded
    is what the session around it makes of them, and what it asks of others.
    """
    name, step = _RECORDED.get(getattr(method, "__name__", "")), current_step()
    if name not in (_GET, _COMPACT) or (step is not None and step.run is run):
        return await call(method, *args, **options)

    async def effect() -> list[Any]:
        before = run.counters.session_changes
        with as_loop(step):
            answer = await call(method, *args, **options)
        return [answer, None, {"changes": run.counters.session_changes - before}]

    outcome = await outcome_of(run, f"session {name}", effect, may_follow_end=True)
    answer, _, *more = outcome.value
    if more and not outcome.is_new:
        run.counters.session_changes += more[0]["changes"]
    return answer


async def _read_under_lock(call: _Call, method: Any, read: _Effect, **options: Any) -> Any:
    """What a session reads under its own lock: what it lacks is put back when that is free."""
    later: list[_Effect] = []
    token = _after_lock.set(later)
    try:
        answer = await call(method, read, **options)
    finally:
        _after_lock.reset(token)
    if not later:
        return answer
    for put_back in later:
        await put_back()
    items = answer[0]

    async def known() -> Any:
        return items

    # Once more, for how often the session has changed by now.
    return await call(method, known, **options)


def _settings(session: Any) -> Any:
    return getattr(session, "session_settings", None)


class _Change:
    """One call of a session's method, in the order of those of its run."""

    def __init__(
        self, run: Run, session: Any, contents: SessionContents, name: str, effect: _Effect
    ) -> None:
        self.name = name
        self._run = run
        self._session = session
        self._contents = contents
        self._effect = effect
        self._is_elsewhere = contents.place is Place.ELSEWHERE

    async def read(self, limit: int | None) -> Any:
        """What the session gives, at most `limit` items of it if that is a number."""
        contents = self._contents

        async def rest() -> dict[str, Any]:
            # In memory: there is no other place in which what is not asked for would be kept.
            is_told = limit is None or contents.place is not Place.MEMORY
            return {} if is_told else contents.difference(await contents.everything())

        outcome, answer, held = await self._kept(self.name, self._effect, rest)
        is_whole = limit is None or (isinstance(answer, list) and len(answer) < limit)
        contents.end = SessionEnd(list(answer), is_whole) if isinstance(answer, list) else None
        if self._is_elsewhere:
            return answer
        if held and not outcome.is_new:
            contents.recall(held)
        elif isinstance(answer, list) and is_whole:
            contents.known = list(answer)
        if outcome.is_new:
            contents.note(outcome.id)
        elif not contents.is_done(outcome.id):
            newest = answer if contents.known is None else None
            later = _after_lock.get()
            if later is None:
                await contents.put_back(newest)
            else:
                later.append(lambda: contents.put_back(newest))
        return answer

    async def add(self, items: list[Any], added: Callable[[list[Any]], Awaitable[Any]]) -> Any:
        """Add items to the session."""
        contents = self._contents
        before = await self._before(adds=items)

        async def rest() -> Any:
            """What an execution that died left to do."""
            now = await self._put_back_before(before)
            if contents.is_in_memory:
                after = [*(contents.known or []), *items]
                return await contents.add_again(before.id, items, after)
            done = how_many_added(before.value, now, marks(items))

            async def left() -> Any:
                return await added(items[done:]) if done < len(items) else None

            return await (left() if self._is_elsewhere else contents.added(before.id, items, left))

        async def others() -> dict[str, Any]:
            # In memory: it costs no round trip.
            is_told = contents.place is not Place.MEMORY
            return {} if is_told else contents.difference(await contents.everything())

        async def effect() -> Any:
            if self._is_elsewhere or not before.is_new:
                answer = await (self._effect() if before.is_new else rest())
            else:
                answer = await contents.added(before.id, items, self._effect)
            contents.grow(items)
            return answer

        end = contents.end
        outcome, answer, held = await self._kept(self.name, effect, others)
        contents.end = None if end is None else end.with_added(items)
        if not outcome.is_new:
            contents.grow(items)
        if held and not outcome.is_new:
            contents.recall(held)
        if outcome.is_new:
            contents.note(outcome.id)
        elif not self._is_elsewhere and not contents.is_done(outcome.id):
            after = items if contents.known is None else contents.known
            await self._again(contents.add_again(before.id, items, after))
            contents.note(outcome.id)
        return answer

    async def pop(self) -> Any:
        """Take the session's newest item."""
        contents = self._contents
        before = await self._before()

        async def rest() -> Any:
            """What an execution that died left to do."""
            now = await self._put_back_before(before)
            return await self._effect() if is_there(before.value, now) else before.value["last"]

        effect = self._effect if before.is_new else rest
        outcome, popped, _ = await self._kept(self.name, effect)
        if self._is_elsewhere or popped is None:
            return popped
        if outcome.is_new:
            contents.note(outcome.id)
        elif not contents.is_done(outcome.id):
            await contents.take_again(outcome.id, popped, self._effect)
        if contents.known is not None:
            contents.known = contents.known[:-1]
        return popped

    async def clear(self) -> Any:
        """Remove every item of the session."""
        contents = self._contents
        outcome, answer, _ = await self._kept(self.name, self._effect)
        contents.known, contents.end = [], SessionEnd([], is_whole=True)
        if outcome.is_new:
            contents.note(outcome.id)
        elif contents.place is Place.MEMORY and not contents.is_done(outcome.id):
            await self._effect()
            contents.note(outcome.id)
        return answer

    async def compact(self) -> Any:
        """Let the session make its items fewer, if it wants to."""
        contents = self._contents
        before = list(contents.known or [])

        async def rest() -> dict[str, Any]:
            is_kept = self._is_elsewhere
            return {} if is_kept else contents.difference(await contents.everything())

        outcome, answer, held = await self._kept(self.name, self._effect, rest)
        if held and not outcome.is_new:
            contents.recall(held)
        if outcome.is_new:
            contents.note(outcome.id)
        elif held and not contents.is_done(outcome.id):
            again = contents.rewrite_again(outcome.id, before, self._session.clear_session)
            await self._again(again)
        return answer

    async def _before(self, adds: list[Any] | None = None) -> Outcome:
        """How the session was before the run adds items to it, or takes its last one."""
        contents = self._contents

        async def look() -> dict[str, Any]:
            end = None if adds is None else self._told(adds)
            if end is None:
                end = SessionEnd(await contents.everything(), is_whole=True)
            self._check()
            last = jsonable(end.items[-1]) if adds is None and end.items else None
            seen = {**end.recorded(), "last": last}
            return seen if self._is_elsewhere else {**seen, **contents.difference(end.items)}

        outcome = await self._outcome(f"{self.name}: before", look)
        if outcome.is_new:
            contents.note(outcome.id)
        elif not self._is_elsewhere:
            contents.recall(outcome.value)
        return outcome

    def _told(self, adds: list[Any]) -> SessionEnd | None:
        """What the session ends with, if the run knows enough of it to add items."""
        end = self._contents.end
        if end is None or self._contents.place is Place.MEMORY:
            # What is in memory costs nothing to read, and others' items are recorded, too.
            return None
        is_enough = end.tells(adds) if self._is_elsewhere else end.is_whole
        return end if is_enough else None

    async def _put_back_before(self, before: Outcome) -> list[str]:
        """What the session holds now, when it has what it held before a change."""
        contents = self._contents
        if not self._is_elsewhere and not contents.is_done(before.id):
            await contents.put_back()
            self._check()
        try:
            return marks(await contents.everything())
        except Exception:
            if before.value.get("is_whole", True):
                raise
            # A session may refuse to read more than it is told to.
            return marks(await contents.newest(before.value["count"]))

    def _check(self) -> None:
        try:
            self._contents.check()
        except ReplayError as error:
            raise Refused(error) from None

    async def _again(self, again: Awaitable[None]) -> None:
        try:
            await again
        except ReplayError as error:
            # The SDK answers some of what a session raises.
            self._run.limits.fail(error)
            raise

    async def _kept(
        self,
        name: str,
        effect: _Effect,
        rest: Callable[[], Awaitable[dict[str, Any]]] | None = None,
    ) -> tuple[Outcome, Any, dict[str, Any]]:
        """What `effect` gave, and what `rest` told then.

        A session that got its id by it has the same id in a replay.
        """

        async def done() -> list[Any]:
            answer = [await effect(), _id_of(self._session)]
            more = {} if rest is None else await rest()
            return [*answer, more] if more else answer

        # What it ends with is not known if this fails.
        self._contents.end = None
        outcome = await self._outcome(name, done)
        answer, session_id, *more = outcome.value
        if session_id is not None and _id_of(self._session) is None:
            self._session.session_id = session_id
        return outcome, answer, more[0] if more else {}

    async def _outcome(self, name: str, effect: _Effect) -> Outcome:
        return await outcome_of(self._run, f"session {name}", effect, may_follow_end=True)


def _id_of(session: Any) -> str | None:
    try:
        found = session.session_id
    except Exception:  # noqa: BLE001  # each kind says in its own way that it has none yet
        return None
    return None if found is None else str(found)
