"""Lays out a JSON document as lines that fold, however deep and however large it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

DEEPEST = 12
"""Levels that fold: a browser does not nest elements much deeper than some hundreds."""
MOST = 400
"""Parts that a document is laid out in."""
LONGEST = 4_000
"""Characters of a text in it."""

_WIDE = 60
"""Characters of what needs no folding."""


@dataclass(frozen=True)
class Part:
    """A line of a document, or where one that folds ends."""

    kind: Literal["leaf", "open", "close"]
    name: str | None = None
    """The key or the index; None: it is the document itself."""
    text: str = ""
    """The value of a leaf, in JSON; of what folds, what it is."""
    is_text: bool = False
    """Whether a leaf is somebody's text, which is then as it is, and has lines."""


def outline(value: Any) -> Iterator[Part]:
    """The parts of a document in their order; what is too much is told in a part of its own.

    Args:
        value: Made of JSON's types.
    """
    waiting: list[tuple[str | None, Any, int] | None] = [(None, value, 0)]
    told = 0
    while waiting:
        one = waiting.pop()
        if one is None:
            yield Part("close")
            continue
        if told >= MOST:
            continue
        name, found, depth = one
        told += 1
        if told == MOST:
            yield Part("leaf", "…", "and more")
        elif not isinstance(found, dict | list) or not found or depth >= DEEPEST:
            yield _leaf(name, found)
        elif (short := _short(found)) is not None and depth > 0:
            yield Part("leaf", name, short)
        else:
            inside = list(found.items() if isinstance(found, dict) else enumerate(found))
            yield Part("open", name, _count(found))
            waiting.append(None)
            waiting += [(str(key), item, depth + 1) for key, item in reversed(inside[:MOST])]


def _leaf(name: str | None, value: Any) -> Part:
    if isinstance(value, str):
        return Part("leaf", name, _cut(value), is_text=True)
    return Part("leaf", name, _cut(_text(value)))


def _short(value: Any) -> str | None:
    """A list or an object that holds no other, and is short, on one line."""
    inside = value.values() if isinstance(value, dict) else value
    if len(value) > 8 or any(isinstance(one, dict | list) for one in inside):
        return None
    text = _text(value)
    return text if len(text) <= _WIDE else None


def _count(value: Any) -> str:
    what = "member" if isinstance(value, dict) else "item"
    return f"{len(value)} {what}{'' if len(value) == 1 else 's'}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text):,} characters)"


def _text(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return f"({_count(value)}, nested too deeply to be shown)"
