"""Finds what changed between two JSON documents, and makes the newer of the older one.

A checkpoint stores what changed since the one before: most of a run's state is lists that
only grow. `patched(old, difference(old, new)) == new` for every pair.
"""

from __future__ import annotations

import json
import marshal
from typing import Any


class Tail(list[Any]):
    """What a list of the new document has after all that it had in the old one."""


class Some(dict[str, Any]):
    """The keys of an object that may be new or changed; all others stay as they are."""


_SET = "set"
_UNSET = "unset"
_EXTEND = "extend"
_CUT = "cut"
_CHANGE = "change"
_REPEAT = "repeat"

_ALIKE = "alike"

_TWINS = {"session_items": "generated_items"}
"""Lists that mostly grow by the same as another one does."""

_REPEATED = {"last_model_response": "model_responses"}
"""Keys that hold the last element of a list once more."""


def difference(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What turns `old` into `new`: keys set, unset, lists extended or cut, objects changed.

    A `Tail` or `Some` in `new` stands for the whole.
    """
    delta: dict[str, Any] = {}
    for key in () if isinstance(new, Some) else sorted(old.keys() - new.keys()):
        delta.setdefault(_UNSET, []).append(key)
    for key, value in new.items():
        if key not in old:
            delta.setdefault(_SET, {})[key] = value
            continue
        before = old[key]
        if before is value:
            continue
        if isinstance(value, Tail):
            if value:
                delta.setdefault(_EXTEND, {})[key] = value
            continue
        if key in _REPEATED and _is_repeated(new, key) and not _is_same(before, value):
            delta.setdefault(_REPEAT, []).append(key)
        elif isinstance(before, dict) and isinstance(value, dict):
            if change := difference(before, value):
                delta.setdefault(_CHANGE, {})[key] = change
        elif _is_same(before, value):
            continue
        elif _begins_with(value, before):
            delta.setdefault(_EXTEND, {})[key] = value[len(before) :]
        elif _begins_with(before, value):
            delta.setdefault(_CUT, {})[key] = len(value)
        else:
            delta.setdefault(_SET, {})[key] = value
    tails = delta.get(_EXTEND, {})
    for key, twin in _TWINS.items():
        if key not in tails or twin not in tails:
            continue
        if tails[key] is tails[twin] or _is_same([*tails[key]], [*tails[twin]]):
            del tails[key]
            delta.setdefault(_ALIKE, []).append(key)
    return delta


def inverse(old: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """What turns `patched(old, delta)` back into `old`."""
    back: dict[str, Any] = {}
    # In order: JSONB gives keys in another one than they were written in.
    changed = (*delta.get(_SET, ()), *delta.get(_REPEAT, ()), *delta.get(_UNSET, ()))
    for key in sorted(changed):
        if key not in old:
            back.setdefault(_UNSET, []).append(key)
        elif key in _REPEATED and _is_repeated(old, key):
            back.setdefault(_REPEAT, []).append(key)
        else:
            back.setdefault(_SET, {})[key] = old[key]
    for key in (*delta.get(_EXTEND, ()), *delta.get(_ALIKE, ())):
        back.setdefault(_CUT, {})[key] = len(old[key])
    for key, length in delta.get(_CUT, {}).items():
        back.setdefault(_EXTEND, {})[key] = old[key][length:]
    for key, change in delta.get(_CHANGE, {}).items():
        back.setdefault(_CHANGE, {})[key] = inverse(old[key], change)
    return back


def patched(old: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """The document that a change makes of `old`, which stays as it is."""
    unset = set(delta.get(_UNSET, ()))
    new = {key: value for key, value in old.items() if key not in unset}
    new.update(delta.get(_SET, {}))
    for key, tail in delta.get(_EXTEND, {}).items():
        new[key] = [*old[key], *tail]
    for key in delta.get(_ALIKE, ()):
        new[key] = [*old[key], *delta[_EXTEND][_TWINS[key]]]
    for key, length in delta.get(_CUT, {}).items():
        new[key] = old[key][:length]
    for key, change in delta.get(_CHANGE, {}).items():
        new[key] = patched(old[key], change)
    for key in delta.get(_REPEAT, ()):
        new[key] = new[_REPEATED[key]][-1]
    return new


def _begins_with(longer: object, shorter: object) -> bool:
    return (
        isinstance(shorter, list)
        and isinstance(longer, list)
        and len(shorter) < len(longer)
        and _is_same(shorter, longer[: len(shorter)])
    )


def _is_repeated(document: dict[str, Any], key: str) -> bool:
    found = document.get(_REPEATED[key])
    if not isinstance(found, list) or not found:
        return False
    return _is_same(found[-1], document[key])


def _is_same(before: Any, value: Any) -> bool:
    """Whether two values are the same JSON: Python says 1 == 1.0 == True."""
    if before is value:
        return True
    if type(before) is not type(value) or before != value:
        return False
    if not isinstance(value, dict | list) or not value:
        return True
    # The bytes of this version tell types, and keys in their order: most often it is the same.
    is_alike = marshal.dumps(before, 2) == marshal.dumps(value, 2)
    return is_alike or _sorted(before) == _sorted(value)


def _sorted(value: object) -> str:
    """JSON text that is the same whatever the order of keys: JSONB has its own."""
    return json.dumps(value, sort_keys=True)
