"""Reads JSON that others wrote, and tells values that are nested too deeply."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NoReturn

DEEPEST = 100
"""How deeply objects and lists may be nested: encoding a value takes frames of Python's stack."""

_CONTAINERS = (dict, list, tuple)


def loads(text: str | bytes) -> Any:
    """What JSON from outside says.

    Raises:
        ValueError: It is not JSON, says a key of an object twice, has a number that is none here,
            or is nested too deeply; the message is for people, and does not repeat the text.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_not_json, parse_float=_float
        )
    except RecursionError:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels") from None
    check_depth(value)
    return value


def check_depth(value: object) -> None:
    """Refuse what is nested more deeply than a document may be, such as what holds itself.

    Raises:
        ValueError: It is.
    """
    level = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(DEEPEST):
        # Each once, so that what refers to one thing often is not looked through often.
        inside = {
            id(item): item for one in level for item in _in(one) if isinstance(item, _CONTAINERS)
        }
        level = list(inside.values())
    if level:
        raise ValueError(f"it is nested deeper than {DEEPEST} levels")


def _in(container: Any) -> Iterable[object]:
    return container.values() if isinstance(container, dict) else container


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key!r} is there twice")
            seen.add(key)
    return made


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        # It would be another one, of which nobody is told.
        raise ValueError("a number in it is too large")
    return number


def _not_json(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
