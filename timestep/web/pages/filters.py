"""Writes values as people read them in a page."""

from __future__ import annotations

import datetime
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote

from markupsafe import Markup, escape

from timestep.runtime.terminal import printable, printable_lines
from timestep.serialization.documents.outline import outline
from timestep.serialization.json_output import dumps
from timestep.tool_options import shown_value

_STEPS = (
    (60, "s", 1),
    (3600, "min", 60),
    (86_400, "h", 3600),
    (float("inf"), "d", 86_400),
)
"""Below how many seconds an age is given in which unit, of so many seconds."""

_DEEPEST = 20
"""Levels of JSON that is on lines: each one more makes all lines in it longer."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?')
"""A string of JSON text, which may be cut."""

_COMMAND = re.compile(r"""`(timestep (?:\$'(?:\\.|[^'\\])*'|'[^']*'|"[^"]*"|[^`'"$]|\$(?!'))*)`""")
"""A command in a text; a word of it that is quoted may hold a backtick."""

_FROM_RIGHT = frozenset(("R", "AL", "AN"))
"""Unicode's classes of characters that are written from right to left."""

NOTHING = "\N{EN DASH}"
"""Stands where there is no value."""

STATUS_WORDS = {
    "running": "running",
    "completed": "completed",
    "failed": "failed",
    "interrupted": "waits for a person",
    "cancelled": "cancelled",
}


def duration(seconds: float | None) -> str:
    """A span of time: `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`."""
    if seconds is None:
        return NOTHING
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    unit, size = next((unit, size) for below, unit, size in _STEPS if seconds < below)
    return f"{int(seconds // size)} {unit}"


def took(seconds: float | None) -> str:
    """How long something took, to the millisecond where it was shorter than a second."""
    is_short = seconds is not None and 0 <= seconds < 1
    return f"{round((seconds or 0) * 1000)} ms" if is_short else duration(seconds)


def moment(when: datetime.datetime | None) -> Markup:
    """A time as how long ago it was, with the exact one behind it; a script keeps it right."""
    if when is None:
        return Markup(NOTHING)
    exact = when.astimezone(datetime.UTC).isoformat(timespec="milliseconds")
    ahead = (when - datetime.datetime.now(datetime.UTC)).total_seconds()
    told = f"in {duration(ahead)}" if ahead > 0 else f"{duration(-ahead)} ago"
    shown = exact.replace("T", " ").replace("+00:00", " UTC")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, shown, told)


def money(dollars: float | None) -> str:
    """An estimated cost; a dash where the price of a model is not known."""
    if dollars is None:
        return NOTHING
    return f"${dollars:,.2f}" if dollars == 0 or dollars >= 1 else f"${dollars:.4f}"


def number(count: int | None) -> str:
    return NOTHING if count is None else f"{count:,}"


def counted(count: int, what: str) -> str:
    """So many of something that has a regular plural: `1 turn`, `2,000 turns`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def line(text: Any) -> str:
    """One line of somebody's text: what a browser would obey, or not show, is escaped."""
    return printable(text if isinstance(text, str) else _json_line(text))


def lines(text: Any) -> str:
    """Somebody's text, which keeps its lines."""
    return printable_lines(text if isinstance(text, str) else _json_line(text))


def _json_line(value: Any) -> str:
    """JSON with the letters that it has, which `dumps` writes as escapes."""
    text = dumps(value)
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except RecursionError:
        return text


def begin(text: str, most: int) -> str:
    """The beginning of somebody's text, which says so where there is more."""
    return text if len(text) <= most else f"{text[:most]} …"


def apart(text: Any) -> Markup:
    """JSON text in which no string turns what is beside it, whatever script it is in."""
    return _isolated(_STRING, lines(text))


def sentence(text: str, arguments: Any) -> Markup:
    """What a call will do, in which no argument of the call turns the words beside it."""
    told = line(text)
    values = {line(value) for value in _values(arguments) if _is_from_right(value)}
    found = sorted((one for one in values if one in told), key=len, reverse=True)
    if not found:
        return escape(told)
    return _isolated(re.compile("|".join(map(re.escape, found))), told)


def commands(text: str) -> list[tuple[bool, str]]:
    """A text in parts: those that are commands of `timestep`, which it has in backticks."""
    parts = _COMMAND.split(text)
    return [(bool(number % 2), part) for number, part in enumerate(parts) if part]


def _isolated(pattern: re.Pattern[str], text: str) -> Markup:
    """A text with each match by itself."""

    def parts() -> Iterator[Markup]:
        end = 0
        for found in pattern.finditer(text):
            yield escape(text[end : found.start()])
            yield Markup("<bdi>{}</bdi>").format(found[0])
            end = found.end()
        yield escape(text[end:])

    return Markup("").join(parts())


def _values(arguments: Any) -> Iterator[str]:
    """The arguments of a call as its tool's template writes them."""
    named = arguments if isinstance(arguments, dict) else {"input": arguments}
    for value in named.values():
        shown = shown_value(value)
        yield shown
        yield shown.removesuffix("…")


def _is_from_right(text: str) -> bool:
    return any(unicodedata.bidirectional(one) in _FROM_RIGHT for one in text)


def json_text(value: Any) -> str:
    """JSON on lines, in which each character is seen; nested deeply, on one line.

    Raises:
        ValueError: It is nested more deeply than can be written at all.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, indent=None if _is_deep(value) else 2)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return "".join(map(_escaped, text))


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        inside = [one.values() if isinstance(one, dict) else one for one in level if _holds(one)]
        level = [one for several in inside for one in several]
    return any(map(_holds, level))


def _holds(value: Any) -> bool:
    return isinstance(value, dict | list) and len(value) > 0


def _escaped(character: str) -> str:
    """A character of JSON text, as an escape of JSON's where it would not be seen."""
    if character == "\n" or character.isprintable() or printable(character) == character:
        return character
    return json.dumps(character)[1:-1]


def segment(text: str) -> str:
    """An id as a segment of a path: a slash in it is `%2F`."""
    return quote(text, safe="", errors="surrogatepass")


_NOT_SENT = re.compile(r"[\x00-\x1f\x7f%]")
"""What browsers change in the names and values of fields, such as the end of a line, and `%`."""


def as_field(id_: str) -> str:
    """An id as the name, or the value, of a field, which comes back as it was: see `of_field`."""
    return _NOT_SENT.sub(lambda found: f"%{ord(found[0]):02X}", id_)


def of_field(sent: str) -> str:
    """The id that a field holds as `as_field` wrote it."""
    return unquote(sent)


FILTERS: dict[str, Callable[..., Any]] = {
    "apart": apart,
    "as_field": as_field,
    "begin": begin,
    "counted": counted,
    "commands": commands,
    "duration": duration,
    "line": line,
    "lines": lines,
    "moment": moment,
    "money": money,
    "number": number,
    "outline": outline,
    "segment": segment,
    "sentence": sentence,
    "status": STATUS_WORDS.__getitem__,
    "took": took,
}
"""By the names that templates have for them."""
