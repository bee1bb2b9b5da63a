"""Checks what callers give: ids, texts to look for, seconds, documents.

Python, the command line and the HTTP API share these checks: each operation makes its own first.
"""

from __future__ import annotations

import datetime
import re

from timestep.errors import InvalidInputError, InvalidQueryError, UnknownRunError
from timestep.runtime.terminal import quoted
from timestep.serialization.json_input import check_depth

LONGEST_ID = 1000
"""Bytes of an id in UTF-8: an index holds 2,704 of a queue's name and a deduplication id."""
SHORTEST = 0.001
LONGEST = 1e9
"""Seconds: DBOS counts milliseconds; thirty years are a mistake."""


def check_id(what: str, text: object) -> None:
    """Refuse what cannot be the id of something new, or the name of a queue.

    Args:
        what: The name of the argument.
        text: What was given.

    Raises:
        InvalidInputError: It is no text, empty, too long, has a character that no text in the
            database can have, or could not be in an address.
    """
    reason = flaw(text)
    if reason is None and (length := len(str(text).encode())) > LONGEST_ID:
        reason = f"has {length} bytes in UTF-8, and may have {LONGEST_ID}"
    if text in (".", ".."):
        # RFC 3986, 5.2.4: also where they are escaped, in what browsers do.
        reason = "would be taken for a step of a path in each address that has it"
    if reason is not None:
        raise InvalidInputError(f"{what} {quoted(text)} {reason}")


def of_a_run(what: str, id_: str) -> InvalidInputError:
    """What refuses a run's id for a new workflow: who names the one would mean the other.

    Args:
        what: The name of the argument.
        id_: What was given.
    """
    return InvalidInputError(
        f"{what} {quoted(id_)} is the id of a run: give the new workflow another one"
    )


def check_known(text: object, what: str = "run and no workflow") -> None:
    """Refuse what cannot be the id of anything there is.

    Raises:
        UnknownRunError: It cannot.
    """
    reason = flaw(text)
    if reason is not None:
        raise UnknownRunError(f"there is no {what} {quoted(text)}: it {reason}")


def check_filter(what: str, text: object) -> None:
    """Refuse what cannot be looked for; None looks for nothing.

    Raises:
        InvalidQueryError: It cannot.
    """
    reason = flaw(text or "any")
    if reason is not None:
        raise InvalidQueryError(f"{what} {quoted(text)} {reason}")


def checked_moment(what: str, moment: object) -> datetime.datetime:
    """A time in UTC, as PostgreSQL, which knows fewer time zones than Python does, takes it.

    Raises:
        InvalidQueryError: It is none, has no time zone, or is not in the years 1 to 9999 in UTC.
    """
    if not isinstance(moment, datetime.datetime):
        raise InvalidQueryError(f"{what} {quoted(moment)} is not a datetime")
    if moment.tzinfo is None:
        raise InvalidQueryError(f"{what} {moment} has no time zone: give it one")
    try:
        return moment.astimezone(datetime.UTC)
    except OverflowError:
        raise InvalidQueryError(f"{what} {moment} is not a time") from None


_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"([0-9]{1,9})([mhdw])", re.ASCII)


def span_of(text: str) -> datetime.timedelta | None:
    """The time that `12h`, `30d` or `8w` stands for; None: the text is no such thing.

    Raises:
        OverflowError: It is too long for Python.
    """
    found = _SPAN.fullmatch(text)
    return None if found is None else datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment_of(text: str, zone: datetime.tzinfo | None = None) -> datetime.datetime:
    """The time that people mean by `7d` (ago), `2026-01-31` or `2026-01-31T12:00+01:00`.

    Args:
        text: What they gave.
        zone: The time zone of a time that names none; None: the machine's own.

    Raises:
        InvalidQueryError: It is none of these.
    """
    try:
        if (ago := span_of(text)) is not None:
            return datetime.datetime.now(datetime.UTC) - ago
        found = datetime.datetime.fromisoformat(text)
        return found.astimezone() if zone is None or found.tzinfo else found.replace(tzinfo=zone)
    except (ValueError, OverflowError):
        raise InvalidQueryError(
            f"{quoted(text)} is neither a time ago (30m, 12h, 7d, 2w) nor a day or time such as "
            "2026-01-31 or 2026-01-31T12:00"
        ) from None


def check_seconds(what: str, seconds: object) -> None:
    """Refuse what is no time that DBOS can wait for.

    Raises:
        InvalidInputError: It is no number, or too small or too large a one.
    """
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not SHORTEST <= seconds <= LONGEST
    ):
        raise InvalidInputError(
            f"{what} {quoted(seconds)} is not a positive number of seconds, {SHORTEST} to "
            f"{LONGEST:.0f}"
        )


def check_document(what: str, value: object) -> None:
    """Refuse a value that is nested too deeply to be recorded.

    Raises:
        InvalidInputError: It is.
    """
    try:
        check_depth(value)
    except ValueError as error:
        raise InvalidInputError(f"{what} cannot be used: {error}") from error


def is_utf8(text: str) -> bool:
    """Whether a text has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def flaw(text: object) -> str | None:
    """Why a text cannot be in a column of the database, or has nothing in it; None: it can."""
    if not isinstance(text, str):
        return "is not text"
    if not text.strip():
        return "is empty"
    if "\x00" in text:
        return "has a NUL character"
    return None if is_utf8(text) else "has half of a surrogate pair"
