"""Makes steps of what a run asks of sessions that keep their items elsewhere.

What such a session answers to a run is recorded with the run, so a replay asks it nothing.
What a run does to it is done once: how the session was is committed before a change, and an
execution that finds that without the change's outcome looks what became of the session. It can
tell its own items from another's by their texts alone, since a session may give items ids and
a form of its own; two writers that add the same texts while a process dies are one to it.

These are steps of the run's record alone. A session is also written when a guardrail trips, at a
moment that depends on timing, and DBOS's step numbers must not; that write follows what the
record holds as the run's end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from timestep.execution.current import current_step
from timestep.execution.run import Run
from timestep.serialization.sdk_objects import jsonable
from timestep.steps.recorded_value import recorded

_ADD = "add_items"
_POP = "pop_item"
_RECORDED = {"get_items", _ADD, _POP, "clear_session", "run_compaction"}
"""Other methods only touch what a session object holds in memory, which each process has anew."""

_NOT_TOLD_APART = {"id", "type", "status"}
_EVERYTHING = 2**31 - 1
"""A limit above every session's length."""

_Call = Callable[..., Awaitable[Any]]
_Effect = Callable[[], Awaitable[Any]]


async def call_session(run: Run, call: _Call, method: Any, *args: Any, **options: Any) -> Any:
    """What a session's method answers to the run's loop, recorded.

    Args:
        run: The run whose loop calls.
        call: Calls the method, as the SDK does.
        method: The session's method, bound to it.
    """
    session: Any = getattr(method, "__self__", None)
    name = getattr(method, "__name__", "")
    step = current_step()
    if name not in _RECORDED or (step is not None and step.run is run):
        return await call(method, *args, **options)

    async def effect() -> Any:
        return await call(method, *args, **options)

    if name not in (_ADD, _POP):
        return await _kept(run, session, name, effect)

    async def everything() -> list[Any]:
        settings = getattr(session, "session_settings", None)
        limit = {} if settings is None else {"limit": _EVERYTHING}
        found: list[Any] = await call(session.get_items, **limit, **options)
        return found

    is_seen_now = False

    async def look() -> dict[str, Any]:
        nonlocal is_seen_now
        is_seen_now = True
        items = await everything()
        history = _marks(items)
        return {
            "count": len(history),
            "history": _digest(history),
            "last": jsonable(items[-1]) if name == _POP and items else None,
        }

    before = await _kept(run, session, f"{name}: before", look)
    if is_seen_now:
        return await _kept(run, session, name, effect)

    async def rest() -> Any:
        """What an execution that died left to do."""
        now = _marks(await everything())
        if name == _POP:
            return await effect() if _goes_on(before, now) else before["last"]
        items = args[0]
        done = _done(before, now, _marks(items))
        return await call(method, items[done:], **options) if done < len(items) else None

    return await _kept(run, session, name, rest)


async def _kept(run: Run, session: Any, name: str, effect: _Effect) -> Any:
    """What `effect` gave; a session that got its id by it has the same id in a replay."""

    async def done() -> list[Any]:
        return [await effect(), _id_of(session)]

    value, session_id = await recorded(run, f"session {name}", done, may_follow_end=True)
    if session_id is not None and _id_of(session) is None:
        session.session_id = session_id
    return value


def _id_of(session: Any) -> str | None:
    try:
        found = session.session_id
    except Exception:  # noqa: BLE001  # each kind says in its own way that it has none yet
        return None
    return None if found is None else str(found)


def _goes_on(before: dict[str, Any], now: list[str]) -> bool:
    """Whether a session still begins with all that it held before."""
    count: int = before["count"]
    return count > 0 and _digest(now[:count]) == str(before["history"])


def _done(before: dict[str, Any], now: list[str], items: list[str]) -> int:
    """How many of the items an execution that died had added."""
    if before["count"] and not _goes_on(before, now):
        # Cut or rewritten since: then the items are looked for at its end.
        return len(items) if now[-len(items) :] == items else 0
    since = now[before["count"] :]
    for start in range(len(since)):
        if since[start : start + len(items)] == items:
            return len(items)
    return len(since) if since == items[: len(since)] else 0


def _digest(marks: list[str]) -> str:
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()


def _marks(items: list[Any]) -> list[str]:
    """What tells items from one another: their texts."""
    return [json.dumps(sorted(_texts(jsonable(item)))) for item in items]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in _NOT_TOLD_APART:
                yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value
