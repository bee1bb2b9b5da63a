"""Sessions that keep their items elsewhere: the SDK's own, and a user's.

What such a session answers to a run is recorded with the run, so a replay asks it nothing.
What a run does to it is done once: an intent that tells how the session ended before is
committed first, and an execution that finds the intent without an outcome looks whether the
session has changed since.

These are steps of the run's record alone. A session is also written when a guardrail trips,
at a moment that depends on timing, and DBOS's step numbers must not.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any

from timestep.recorded import recorded
from timestep.rows import jsonable
from timestep.run import Run, current_step

_READ = "get_items"
_ADD = "add_items"
_POP = "pop_item"
_RECORDED = {_READ, _ADD, _POP, "clear_session", "run_compaction"}
"""Other methods only touch what a session object holds in memory, which each process has anew."""

_Call = Callable[..., Awaitable[Any]]


async def call_session(run: Run, call: _Call, method: Any, *args: Any, **options: Any) -> Any:
    """What a session's method answers to the run's loop, recorded.

    Args:
        run: The run whose loop calls.
        call: Calls the method, as the SDK does.
        method: The session's method, bound to it.
    """
    session, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
    step = current_step()
    if name not in _RECORDED or (step is not None and step.run is run):
        return await call(method, *args, **options)

    async def effect() -> Any:
        return await call(method, *args, **options)

    session_id = getattr(session, "session_id", "")
    title = f"session {name}: {session_id}"
    if name == _ADD:
        before = await _before(run, title, session, len(args[0]))
        add = functools.partial(_add, session, before, args[0], effect)
        return await recorded(run, title, add, is_aftermath=True)
    if name == _POP:
        before = await _before(run, title, session, 1)
        pop = functools.partial(_pop, session, before, effect)
        return await recorded(run, title, pop, is_aftermath=True)
    return await recorded(run, title, effect, is_aftermath=True)


class _Before:
    """How a session ended before a change, and whether that was seen by this execution."""

    def __init__(self) -> None:
        self.is_fresh = False
        self.tail: list[Any] = []


async def _before(run: Run, title: str, session: Any, count: int) -> _Before:
    before = _Before()

    async def look() -> list[Any]:
        before.is_fresh = True
        return [jsonable(item) for item in await session.get_items(limit=count)]

    before.tail = await recorded(run, f"{title}: before", look, is_aftermath=True)
    return before


async def _add(
    session: Any, before: _Before, items: list[Any], add: Callable[[], Awaitable[Any]]
) -> None:
    """Add items that an execution which died may have added."""
    if not before.is_fresh:
        now = _marks(await session.get_items(limit=len(before.tail) + len(items)))
        if now == _marks(before.tail) + _marks(items) or (
            len(now) > len(items) and now[-len(items) :] == _marks(items) != _marks(before.tail)
        ):
            return
    await add()


async def _pop(session: Any, before: _Before, pop: Callable[[], Awaitable[Any]]) -> Any:
    """Remove an item that an execution which died may have removed."""
    if not before.is_fresh and before.tail:
        now = _marks(await session.get_items(limit=1))
        if now != _marks(before.tail):
            return before.tail[0]
    return await pop()


def _marks(items: list[Any]) -> list[str]:
    """What tells an item from another; a session may give items ids of its own."""
    return [
        json.dumps({key: value for key, value in jsonable(item).items() if key != "id"})
        if isinstance(item, dict)
        else str(item)
        for item in items
    ]
