"""Tells whether a session was changed, by what it ended with before.

That is recorded before each change. An execution that finds the record without the change's
outcome looks for the change's items behind what the session ended with. It tells items from one
another by their texts, since a session may give items ids and a form of its own; two writers that
add the same texts at the same time are one to it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from timestep.serialization.sdk_objects import jsonable

_NOT_TOLD_APART = {"id", "type", "status"}
"""Fields that a session may give to an item, and that tell no item from another."""


@dataclass(frozen=True)
class SessionEnd:
    """What a session ends with, as far as its run was told."""

    items: list[Any]
    is_whole: bool
    """Whether the session holds no others."""

    def with_added(self, items: list[Any]) -> SessionEnd:
        """What the session ends with after the run added items.

        No more of it than before, where that is not all: a session may not give more.
        """
        end = [*self.items, *items]
        return SessionEnd(end if self.is_whole else end[len(items) :], self.is_whole)

    def tells(self, added: list[Any]) -> bool:
        """Whether it can be seen by this end whether items were added behind it."""
        if self.is_whole:
            return True
        end, after, count = marks(self.items), marks([*self.items, *added]), len(self.items)
        ends_again = (after[start : start + count] == end for start in range(1, len(added) + 1))
        return bool(end) and not any(ends_again)

    def recorded(self) -> dict[str, Any]:
        """What is recorded of it before a change, for `is_there` and `how_many_added`."""
        history = marks(self.items)
        told = {"count": len(history), "history": digest(history)}
        return told if self.is_whole else {**told, "is_whole": False}


def is_there(before: dict[str, Any], now: list[str]) -> bool:
    """Whether a session still holds all that it held before, and that was something.

    Args:
        before: What `SessionEnd.recorded` gave then.
        now: The marks of the items that the session holds now.
    """
    return before["count"] > 0 and _behind(before, now) is not None


def how_many_added(before: dict[str, Any], now: list[str], items: list[str]) -> int:
    """How many of the items that were to be added the session holds behind what it held before.

    Args:
        before: What `SessionEnd.recorded` gave then.
        now: The marks of the items that the session holds now, or of its newest.
        items: The marks of the items that were to be added.
    """
    since = _behind(before, now)
    if since is None:
        # Cut or rewritten since: then the items are looked for at its end.
        newest = items[-len(now) :]
        return len(items) if now and now[-len(newest) :] == newest else 0
    for start in range(len(since)):
        if since[start : start + len(items)] == items:
            return len(items)
    return len(since) if since == items[: len(since)] else 0


def _behind(before: dict[str, Any], now: list[str]) -> list[str] | None:
    """What a session holds behind what it ended with; None if that is not there."""
    count = before["count"]
    last = len(now) - count
    for start in range(last, -1, -1) if not before.get("is_whole", True) else (0,):
        if start <= last and digest(now[start : start + count]) == before["history"]:
            return now[start + count :]
    return None


def marks(items: list[Any]) -> list[str]:
    """What tells items from one another: their texts, as a session may give items ids."""
    return [json.dumps(sorted(_texts(jsonable(item)))) for item in items]


def digest(told: list[str]) -> str:
    """What tells one history from another, by its items' marks."""
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


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
