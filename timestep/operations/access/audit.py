"""Writes who did what, and reads it.

An act that is a transaction of ours has its entry in it. One of DBOS's is entered before it is
done: nothing happens without an entry, and where it is certain that nothing came of it, the entry
says so.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from timestep.database.error_translation import translated
from timestep.errors import (
    DatabaseError,
    DatabaseUnreachableError,
    InvalidQueryError,
    TimestepError,
)
from timestep.journal.fail_fast_read import reading
from timestep.journal.reads.database import database
from timestep.operations.access.acting import NOBODY, Actor, Via, way
from timestep.operations.access.records import ACTS, Act, AuditEntry
from timestep.operations.arguments import check_filter, checked_moment
from timestep.operations.queries.pagination import Page, entry_place, page_of, page_size
from timestep.runtime.cancellation import in_thread
from timestep.runtime.terminal import quoted
from timestep.serialization.ids import storable_name
from timestep.store.access import audit as store

T = TypeVar("T")


def add(
    connection: Any,
    actor: Actor,
    act: Act,
    subjects: Sequence[str],
    details: dict[str, Any] | None = None,
) -> int:
    """Enter an act into the transaction that does it; the entry's id."""
    entry = {**actor.entry(), "act": act, "subjects": subjects, "details": details}
    return store.add(connection, entry)


def begin(
    actor: Actor, act: Act, subjects: Sequence[str], details: dict[str, Any] | None = None
) -> int:
    """Enter an act that is done next, and is no transaction of ours; the entry's id.

    Raises:
        DatabaseError: The database refused, or is away; nothing is to be done then.
    """
    return written(lambda connection: add(connection, actor, act, subjects, details))


def refuse(entry: int, error: TimestepError) -> None:
    """Note that nothing came of an act, unless an error leaves that open.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if not isinstance(error, DatabaseError):
        written(lambda connection: note_refused(connection, entry, error))


def note_refused(connection: Any, entry: int, error: BaseException) -> None:
    """Note that nothing came of an act, of which its error leaves no doubt."""
    store.refuse(connection, entry, type(error).__name__)


def cancelled_by(workflow_ids: Collection[str]) -> dict[str, str]:
    """Who cancelled those of the workflows that somebody cancelled: `by ann over HTTP`.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if not workflow_ids:
        return {}
    found = reading(lambda connection: store.cancelled_by(connection, workflow_ids))
    return {id_: _by(one["who"], one["via"], one["details"]) for id_, one in found.items()}


def _by(who: str, via: Via, details: dict[str, Any]) -> str:
    how = way(via, is_page=bool(details.get("page")), is_nobody=who == NOBODY)
    return how if who == NOBODY else f"by {who} {how}"


def written(work: Callable[[Any], T]) -> T:
    """What `work` does in one transaction, of which it does not matter if it is done twice.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    found = database()

    def attempt() -> T:
        with translated(found.url), found.transactions.begin() as connection:
            return work(connection)

    try:
        return attempt()
    except DatabaseUnreachableError:
        # A pooled connection that was lost while nobody looked: a new one tells.
        return attempt()


async def list_audit(
    *,
    who: str | None = None,
    act: str | None = None,
    subject: str | None = None,
    since: datetime.datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[AuditEntry]:
    """Who did what, the newest first.

    Args:
        who: Only what this one did.
        act: Only acts of this kind.
        subject: Only what is about this workflow, question or token, by its id.
        since: Only what was done then or later.
        limit: 1 to 200.
        cursor: The `next_cursor` of an earlier page, with the same filters.

    Raises:
        InvalidQueryError: A filter, the limit or the cursor cannot be used.
        DatabaseError: The database refused, or is away.
    """
    for name, text in (("who", who), ("subject", subject)):
        check_filter(name, text)
    if act is not None and act not in ACTS:
        raise InvalidQueryError(f"act {quoted(act)} is not one of {', '.join(ACTS)}")
    size = page_size(limit)
    values = {
        "who": None if who is None else storable_name(who),
        "act": act,
        "subject": None if subject is None else storable_name(subject),
        "since": None if since is None else checked_moment("since", since),
        "before": entry_place(cursor),
        "limit": size + 1,
    }
    rows = await in_thread(lambda: reading(lambda connection: store.select(connection, values)))
    return page_of([AuditEntry(**row) for row in rows], size, lambda one: one.id)
