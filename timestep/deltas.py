"""What changed between two JSON documents, and the document that a change makes.

A checkpoint stores what changed since the one before: most of a run's state is lists that
only grow. `patched(old, difference(old, new)) == new` for every pair.
"""

from __future__ import annotations

from typing import Any


class Tail(list[Any]):
    """What a list of the new document has after all that it had in the old one."""


class Some(dict[str, Any]):
    """Those keys of an object that may be new or changed; it keeps the others."""


_SET = "set"
_UNSET = "unset"
_EXTEND = "extend"
_CHANGE = "change"


def difference(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What turns `old` into `new`: keys set, unset, lists extended, objects changed."""
    delta: dict[str, Any] = {}
    for key in () if isinstance(new, Some) else old.keys() - new.keys():
        delta.setdefault(_UNSET, []).append(key)
    for key, value in new.items():
        if key not in old:
            delta.setdefault(_SET, {})[key] = value
            continue
        before = old[key]
        if isinstance(value, Tail):
            if value:
                delta.setdefault(_EXTEND, {})[key] = value
            continue
        if type(before) is type(value) and before == value and not _hides_a_type(before, value):
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            if change := difference(before, value):
                delta.setdefault(_CHANGE, {})[key] = change
        elif _grew(before, value):
            delta.setdefault(_EXTEND, {})[key] = value[len(before) :]
        else:
            delta.setdefault(_SET, {})[key] = value
    return delta


def patched(old: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """The document that a change makes of `old`, which stays as it is."""
    unset = set(delta.get(_UNSET, ()))
    new = {key: value for key, value in old.items() if key not in unset}
    new.update(delta.get(_SET, {}))
    for key, tail in delta.get(_EXTEND, {}).items():
        new[key] = [*old[key], *tail]
    for key, change in delta.get(_CHANGE, {}).items():
        new[key] = patched(old[key], change)
    return new


def _grew(before: object, value: object) -> bool:
    return (
        isinstance(before, list)
        and isinstance(value, list)
        and len(before) < len(value)
        and value[: len(before)] == before
        and not _hides_a_type(before, value[: len(before)])
    )


def _hides_a_type(before: object, value: object) -> bool:
    """Whether equal values differ as JSON: Python says 1 == 1.0 == True."""
    if type(before) is not type(value):
        return True
    if isinstance(before, dict) and isinstance(value, dict):
        return any(_hides_a_type(before[key], value[key]) for key in before)
    if isinstance(before, list) and isinstance(value, list):
        return any(_hides_a_type(a, b) for a, b in zip(before, value, strict=True))
    return False
