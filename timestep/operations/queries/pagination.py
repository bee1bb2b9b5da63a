"""Cuts lists into pages, and makes the cursor that asks for the next one."""

from __future__ import annotations

import base64
import datetime
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from timestep.errors import InvalidQueryError
from timestep.operations.arguments import check_filter
from timestep.operations.described import Described
from timestep.runtime.terminal import quoted
from timestep.serialization.json_input import loads

T = TypeVar("T")

LONGEST = 200
"""The items of one page at most."""


@dataclass(frozen=True)
class Page(Described, Generic[T]):
    """A part of a list."""

    items: list[T]
    next_cursor: str | None
    """What to ask for the next part with; None: this is the last one."""


def page_size(limit: int) -> int:
    """The limit, if a page may have it.

    Raises:
        InvalidQueryError: It may not.
    """
    if not isinstance(limit, int) or not 1 <= limit <= LONGEST:
        raise InvalidQueryError(f"limit {quoted(limit)} is not between 1 and {LONGEST}")
    return limit


def page_of(found: list[T], size: int, place: Callable[[T], Any]) -> Page[T]:
    """A page of what was found; one item more than fits tells that there is another page.

    Args:
        found: Up to `size + 1` items.
        size: How many the page holds.
        place: Where an item stands in the list, as JSON.
    """
    items = found[:size]
    if len(found) <= size:
        return Page(items, None)
    return Page(items, cursor_of(place(items[-1])))


def cursor_of(place: Any) -> str:
    """What a caller gives to go on at a place in a list.

    Args:
        place: As JSON.
    """
    text = json.dumps(place, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def run_place(cursor: str | None) -> tuple[datetime.datetime, uuid.UUID] | None:
    """The place in a list of runs that a cursor stands for.

    Raises:
        InvalidQueryError: It is no cursor of such a list.
    """
    if cursor is None:
        return None
    try:
        moment, id_ = _opened(cursor)
        return _moment(moment), uuid.UUID(id_)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise _bad(cursor) from None


RunPlace = tuple[datetime.datetime, uuid.UUID, str]
"""Where a run is in the list of runs: when it began, its id, and nothing; or a workflow without
one: when it was created, no id, and its own. Those come after the runs of their moment."""

NO_RUN = uuid.UUID(int=0)
"""Stands for the id of a run where a workflow has none."""


def listed_place(cursor: str | None) -> RunPlace | None:
    """The place in the list of runs, or of workflows without one, that a cursor stands for.

    Raises:
        InvalidQueryError: It is no cursor of such a list.
    """
    if cursor is None:
        return None
    try:
        moment, id_, *workflow_id = _opened(cursor)
        for one in workflow_id:
            check_filter("cursor", one)
        return _moment(moment), uuid.UUID(id_), "".join(workflow_id)
    except (InvalidQueryError, ValueError, TypeError, AttributeError, OverflowError):
        raise _bad(cursor) from None


def written(place: RunPlace) -> list[str]:
    """A place in the list of runs, as a cursor has it."""
    moment, id_, workflow_id = place
    return [moment.isoformat(), str(id_), *([workflow_id] if workflow_id else [])]


def session_place(cursor: str | None) -> tuple[datetime.datetime, str] | None:
    """The place in a list of sessions that a cursor stands for.

    Raises:
        InvalidQueryError: It is no cursor of such a list.
    """
    if cursor is None:
        return None
    try:
        moment, key = _opened(cursor)
        check_filter("cursor", key)
        return _moment(moment), key
    except (InvalidQueryError, ValueError, TypeError, AttributeError, OverflowError):
        raise _bad(cursor) from None


def name_place(cursor: str | None) -> str | None:
    """The name in a list by names that a cursor stands for.

    Raises:
        InvalidQueryError: It is no cursor of such a list.
    """
    if cursor is None:
        return None
    try:
        name: str = _opened(cursor)
        check_filter("cursor", name)
        return name
    except (InvalidQueryError, ValueError):
        raise _bad(cursor) from None


def interruption_place(cursor: str | None) -> uuid.UUID | None:
    """The interruption that a cursor of a list of them stands for.

    Raises:
        InvalidQueryError: It is no cursor of such a list.
    """
    if cursor is None:
        return None
    try:
        return uuid.UUID(_opened(cursor))
    except (ValueError, TypeError, AttributeError):
        raise _bad(cursor) from None


def match_place(cursor: str | None) -> tuple[int, uuid.UUID] | None:
    """The place among what is looked for in a run that a cursor stands for.

    Raises:
        InvalidQueryError: It is no cursor of such a list.
    """
    if cursor is None:
        return None
    try:
        turn, id_ = _opened(cursor)
        if type(turn) is not int or not 0 <= turn < 2**31:
            raise ValueError("it is no turn")
        return turn, uuid.UUID(id_)
    except (ValueError, TypeError, AttributeError):
        raise _bad(cursor) from None


def item_place(cursor: str | None) -> int | None:
    """The place in a list of items that a cursor stands for.

    Raises:
        InvalidQueryError: It is no cursor of such a list.
    """
    return _number(cursor, below=2**31)


def entry_place(cursor: str | None) -> int | None:
    """The entry of the audit, or of a session, that a cursor stands for.

    Raises:
        InvalidQueryError: It is no cursor of such a list.
    """
    return _number(cursor, below=2**63)


def _number(cursor: str | None, *, below: int) -> int | None:
    if cursor is None:
        return None
    try:
        number = _opened(cursor)
    except ValueError:
        raise _bad(cursor) from None
    if type(number) is not int or not 0 <= number < below:
        raise _bad(cursor)
    return number


def _moment(text: str) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("it has no time zone")
    # PostgreSQL knows fewer time zones than Python does.
    return found.astimezone(datetime.UTC)


def _opened(cursor: str) -> Any:
    if not isinstance(cursor, str):
        raise ValueError("it is not text")
    text = cursor.encode("ascii")
    return loads(base64.b64decode(text + b"=" * (-len(text) % 4), b"-_", validate=True))


def _bad(cursor: str) -> InvalidQueryError:
    return InvalidQueryError(
        f"{quoted(cursor)} is not a cursor of this list: use a page's next_cursor"
    )
