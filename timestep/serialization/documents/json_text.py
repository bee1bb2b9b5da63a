"""Makes text of JSON that PostgreSQL's JSONB can hold, and gives back exactly what was given.

What JSONB cannot hold (NUL characters, lone surrogates, NaN) is kept as text under `$text`.

A column may also hold what SQL wrote there, and Python cannot read: nested a thousand levels deep.
One such document must not keep the others of its rows from being read, so `TooDeep` stands for it.
"""

from __future__ import annotations

import json
from typing import Any

from timestep.errors import UnreadableValueError
from timestep.serialization.documents.forms import Json

_TEXT = "$text"

_ROOM = 100
"""Levels by which a document may be nested more deeply where it is written than where it was read:
both take of one stack."""
_OPENING, _CLOSING = b"[" * _ROOM, b"]" * _ROOM
_SHALLOW = 1_000
"""Bytes of a document that is short enough to be read and written, however it is nested."""

# Made once: json.dumps makes one for each call that has such options.
_exact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def dumps(value: object) -> str:
    """JSON text of a value made of JSON's types, with what JSONB cannot hold set aside.

    Raises:
        TypeError: The value is not made of JSON's types.
    """
    try:
        text = _exact.encode(value)
        if "\\u0000" not in text and not _is_set_aside(value):
            text.encode()
            return text
    except ValueError:  # NaN, infinity, or a lone surrogate
        pass
    return json.dumps({_TEXT: json.dumps(value)})


def is_plain(text: str) -> bool:
    """Whether JSONB can hold what JSON text in ASCII says, as it is; False where it may not."""
    return not ("\\u0000" in text or "\\ud" in text or "NaN" in text or "Infinity" in text)


def storable(value: Any) -> Json:
    """The value, or what stands for it where JSONB cannot hold it.

    Raises:
        TypeError: The value is not made of JSON's types.
    """
    text = dumps(value)
    stored: Json = json.loads(text) if text.startswith('{"' + _TEXT + '"') else value
    return stored


class TooDeep:
    """Stands for a document that is nested too deeply to be read.

    Args:
        length: How long the document is, in bytes.
    """

    def __init__(self, length: int) -> None:
        self._length = length

    def __str__(self) -> str:
        return f"(nested too deeply to be shown: {self._length:,} bytes of JSON)"


def loads(data: bytes) -> Any:
    """What a column of JSON holds, or `TooDeep`."""
    try:
        if len(data) <= _SHALLOW:
            return json.loads(data)
        found = json.loads(_OPENING + data + _CLOSING)
    except RecursionError:
        return TooDeep(len(data))
    for _ in range(_ROOM):
        (found,) = found
    return found


def restored(value: Any) -> Any:
    """What `storable` or `dumps` was given.

    Raises:
        UnreadableValueError: It is nested too deeply.
    """
    if isinstance(value, TooDeep):
        raise UnreadableValueError("a recorded document is nested too deeply to be read")
    if _is_set_aside(value):
        try:
            return json.loads(value[_TEXT])
        except (ValueError, RecursionError):
            return value  # Neither of them made it.
    return value


def displayed(value: Any) -> Any:
    """What `storable` or `dumps` was given, for people: a text where it is nested too deeply."""
    return str(value) if isinstance(value, TooDeep) else restored(value)


def _is_set_aside(value: Any) -> bool:
    """Whether a value is text that is JSON, or would be taken for it."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_TEXT), str)


def exact_text(value: Json) -> str | None:
    """The value's JSON text where JSONB would order its keys, or write its numbers, otherwise."""
    return json.dumps(value) if _is_changed_by_jsonb(value) else None


def kept_exactly(value: Json) -> Json:
    """What stands for the value in a JSONB column alone; `restored` gives exactly the value."""
    text = exact_text(value)
    return storable(value) if text is None else {_TEXT: text}


def _is_changed_by_jsonb(value: Json) -> bool:
    waiting: list[Json] = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            keys = list(found)
            # JSONB orders keys by their length, then by their bytes.
            if keys != sorted(keys, key=lambda key: (len(key.encode("utf-8", "replace")), key)):
                return True
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, float) and (found.is_integer() or "e" in repr(found)):
            return True
    return False


def plain_text(text: str | None) -> str | None:
    """Text that a `text` column can hold: NUL and lone surrogates become U+FFFD."""
    if text is None:
        return None
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
