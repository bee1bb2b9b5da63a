"""Lays a call's arguments out for a person to read."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from timestep.operations.overview.questions import LONGEST_NAME, Document, Piece
from timestep.web.pages.filters import json_text

_LONGEST = 2000
"""Characters of a value that are shown."""
_MOST = 40
"""Values of one call that are shown one by one: the names of others are told."""
_LONGEST_NAMES = 500
"""Characters of those names."""
_PAGE = 400_000
"""Characters of all calls of a page: where these are many, there is less of each."""
_LONG = 400
"""Characters of a value, and lines, from which on it is scrolled in itself."""
_LONG_LINES = 10


@dataclass(frozen=True)
class Part:
    """A value of a call."""

    name: str | None
    """Of an argument; None: it is the whole."""
    text: str
    is_json: bool
    is_cut: bool
    length: int = 0
    """Characters of the whole value, where it is cut."""

    @property
    def is_long(self) -> bool:
        """Whether it may be scrolled where it stands."""
        return len(self.text) > _LONG or self.text.count("\n") > _LONG_LINES


def on_page(calls: int) -> Callable[..., list[Part]]:
    """How the arguments of each call are laid out on a page of so many calls."""
    return functools.partial(arguments, most=_PAGE // max(calls, 1))


def arguments(document: Document | None, order: Any = None, *, most: int = _PAGE) -> list[Part]:
    """A call's arguments, each by its name and cut by itself.

    Args:
        document: The arguments.
        order: Names that come first, in their order: the database keeps none.
        most: Characters of them, about; what is left out is told.
    """
    if document is None:
        return []
    longest = min(_LONGEST, most)
    pieces, count = pieces_of(document, order)
    if pieces is None:
        return [_whole(document, longest)]
    parts: list[Part] = []
    for piece in pieces[:_MOST]:
        if most <= 0:
            break
        parts.append(_part(piece, min(longest, most)))
        most -= len(parts[-1].text) + len(parts[-1].name or "")
    if count > len(parts):
        names = ", ".join(one.name[:LONGEST_NAME] for one in pieces[len(parts) :])
        told = f"and {count - len(parts)} more: {names[:_LONGEST_NAMES]}"
        parts.append(Part(None, told, False, True))
    return parts


def pieces_of(document: Document, order: Any = None) -> tuple[list[Piece] | None, int]:
    """The values of an object as far as they are read, and how many it has; None: it is none."""
    is_set_aside = document.pieces is not None and [one.name for one in document.pieces] == [
        "$text"
    ]
    if document.pieces is not None and not is_set_aside:
        return list(document.pieces), document.count
    try:
        value = document.value()
        if not isinstance(value, dict):
            return None, 0
        return [_piece(name, value[name]) for name in ordered(value, order)], len(value)
    except ValueError:
        return None, 0


def no_object(document: Document | None) -> list[Part]:
    """Arguments that are no object, which neither fields nor a table by their names show."""
    if document is None or pieces_of(document)[0] is not None:
        return []
    return arguments(document)


def ordered(names: Iterable[str], order: Any) -> list[str]:
    """Names, of which those that are in a list come first, in its order, if it is one."""
    known = list(names)
    listed = order if isinstance(order, list) else []
    first = [name for name in listed if isinstance(name, str) and name in known]
    return list(dict.fromkeys([*first, *known]))


def _piece(name: str, value: Any) -> Piece:
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    hash_ = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return Piece(name, isinstance(value, str), text, len(text), hash_)


def _part(piece: Piece, longest: int) -> Part:
    text = piece.text
    if not piece.is_text and not piece.is_cut:
        text = _laid_out(text)
    name = piece.name if len(piece.name) <= LONGEST_NAME else f"{piece.name[:LONGEST_NAME]}…"
    is_cut = piece.is_cut or len(text) > longest or name != piece.name
    length = max(piece.length, len(text)) if is_cut else 0
    return Part(name, text[:longest], not piece.is_text, is_cut, length)


def _laid_out(text: str) -> str:
    """JSON text on lines; as it is where it is nested too deeply."""
    try:
        return json_text(json.loads(text))
    except (ValueError, RecursionError):
        return text


def _whole(document: Document, longest: int) -> Part:
    """What is no object, or cannot be told apart: its text."""
    try:
        value = document.value()
        is_text = isinstance(value, str)
        text = value if is_text else json_text(value)
    except ValueError:
        is_text, text = False, document.text
    is_cut = document.is_cut or len(text) > longest
    return Part(None, text[:longest], not is_text, is_cut, document.length if is_cut else 0)
