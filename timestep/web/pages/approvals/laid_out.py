"""Lays a call's arguments out for a person to read."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from timestep.operations.overview.questions import LONGEST_NAME, Document, Piece, Question
from timestep.web.pages.filters import json_text

_LONGEST = 2000
"""Characters of a value that are shown."""
_MOST = 40
"""Values of one call that are shown one by one: the names of others are told."""
_LONGEST_NAMES = 500
"""Characters of those names."""
_PAGE = 400_000
"""Characters of all calls of a page: where these are many, there is less of each."""
_LINE, _IN_LINE = 240, 80
"""Characters of arguments in a line, and of one of them."""
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


def in_line(question: Question) -> list[Part]:
    """A call's arguments in a line: the beginning of each, and how many are left out."""
    found = []
    left = _LINE
    if question.arguments is None:
        return []
    pieces, count = pieces_of(question.arguments, question.required)
    if pieces is None:
        part = _whole(question.arguments, _LINE)
        return [dataclasses.replace(part, text=f"{part.text} …" if part.is_cut else part.text)]
    for piece in pieces:
        if left <= 0:
            break
        text = piece.text[: min(_IN_LINE, left)]
        name = piece.name[:_IN_LINE]
        found.append(Part(name, text, not piece.is_text, len(text) < piece.length))
        left -= len(text) + len(name)
    if count > len(found):
        found.append(Part(None, f"and {count - len(found)} more", False, True))
    return found


@dataclass(frozen=True)
class Change:
    """An argument before and after."""

    name: str
    before: str
    after: str


def changes(question: Question) -> list[Change]:
    """What a person changed in a call's arguments, each in a line."""
    read = [question.arguments, question.resolution_arguments]
    found = [pieces_of(one, question.required)[0] if one is not None else [] for one in read]
    before, after = ({piece.name: piece for piece in pieces or ()} for pieces in found)
    made = []
    for name in dict.fromkeys([*after, *before]):
        was, is_ = before.get(name), after.get(name)
        if was is None or is_ is None or (was.hash, was.is_text) != (is_.hash, is_.is_text):
            made.append(Change(name[:_IN_LINE], _begin(was), _begin(is_)))
    return made


def _begin(piece: Piece | None) -> str:
    if piece is None:
        return "left out"
    text = piece.text[:_LINE]
    # A text is quoted: another value may look like it.
    shown = json.dumps(text, ensure_ascii=False) if piece.is_text else text
    return f"{shown} …" if len(text) < piece.length else shown
