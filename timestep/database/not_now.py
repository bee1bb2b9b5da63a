"""Tells which answers of a database say "not now", and which are for good.

What says "not now" passes by itself: the same statement, sent again, goes well then. Everything
that the table does not name is for good: a CHECK, a type, a right that is missing (42501). Timestep
itself never cancels a statement, so 57014 is never its own doing: it is a timeout of the server,
or an administrator's; a workflow that a person cancels is told by its status, and by no error.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from timestep.errors import DatabaseError

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


@dataclass(frozen=True)
class Answer:
    """An answer that says "not now"."""

    reason: str
    """What is the matter, for people: without a name of a host, a user or a table."""
    wants_new_connection: bool = False
    """Whether the connection goes on to answer so, and only a new one may not."""
    is_lost: bool = False
    """Whether only this connection may be lost, so that the next attempt tells."""


_TABLE = {
    # The session is on a server that takes no writes: a standby, or one that a fail-over left. A
    # session keeps its `default_transaction_read_only` for good, so it takes a new one.
    "25006": Answer("it takes no writes (read-only, as in a fail-over)", True),
    # A transaction that an earlier failure, or a proxy, left open: a new one begins anew.
    "25P02": Answer("a transaction before had failed", True),
    # It ended a transaction that stood still for too long, and undid it: 25P03 idle, 25P04 as a
    # whole (from PostgreSQL 17 on).
    "25P03": Answer("it ended a transaction that was idle", True),
    "25P04": Answer("it ended a transaction that took too long", True),
    # What a proxy gave to another session, or had reset, lacks what was prepared (26000), or has
    # it already (42P05). Prepared anew, it works.
    "26000": Answer("a proxy exchanged the connection", True),
    "42P05": Answer("a proxy exchanged the connection", True),
    # It undid one of two that collided: 40001 serialization, 40P01 deadlock; or it does not know
    # (40003) whether it did. Statements of Timestep may be sent twice.
    "40000": Answer("it undid the transaction"),
    "40001": Answer("another transaction came in between"),
    "40003": Answer("it does not know whether the transaction was committed"),
    "40P01": Answer("it ended a deadlock"),
    # A lock was not to be had within `lock_timeout`.
    "55P03": Answer("a lock is held for longer than lock_timeout"),
    # `statement_timeout`, or an administrator's pg_cancel_backend.
    "57014": Answer("a statement was cancelled (statement_timeout, or by an administrator)"),
    # Operator intervention, of no kind that has a code of its own.
    "57000": Answer("its operator intervenes", True),
    # What the statement was to read has been cleaned away (before PostgreSQL 17).
    "72000": Answer("its snapshot was too old"),
}
"""By the SQLSTATE."""

_CLASSES = {
    # The connection is lost or cannot be made. PgBouncer says 08P01 for all that is its own, such
    # as `query_wait_timeout` and a server that is gone.
    "08": Answer("the connection is lost", True, True),
    # It is short of something: disk space, memory, connections (PgBouncer, too: 53300).
    "53": Answer("it is short of disk space, memory or connections"),
    # It stops, has crashed, starts (57P01 to 57P03), drops the database for it to be restored
    # (57P04), or has ended a session that was idle (57P05).
    "57P": Answer("it is stopping or starting", True, True),
    # A disk, or the operating system, fails it.
    "58": Answer("its disk or operating system fails", True),
}
"""By the beginning of the SQLSTATE."""

_ENDED = Answer("it, or a proxy, ended the session", True, True)
"""A failure that ends the session is no answer to the statement: a proxy that has no server to give
says what it heard at its own log-in (28P01, 3D000, XX000, as PgBouncer, while one fails over). At
the log-in of a new session libpq tells no SQLSTATE: that is for good only at a process's start."""
_UNREACHABLE = Answer("it is not reached", True, True)
"""Without an SQLSTATE: a socket, TLS, or a name fails; what a proxy says before the session is."""
_POOL = Answer("all connections of the pool are in use")
_BUSY_FILE = Answer("another process writes the SQLite file")
_PLAN = Answer("a migration has changed a table", True)
_COLLISION = Answer("another state of the run became the active one")

_ACTIVE_STATE = "run_states_active_key"
"""Two made a state the run's active one at once: the second one replaces the first."""
_PROTOCOL = "08P01"
_NOT_SUPPORTED = "0A000"
_REPLAN = "RevalidateCachedQuery"
"""Where the server says "cached plan must not change result type", in whatever language."""
_FATAL = ("FATAL", "PANIC")

FAILURES = (DatabaseError, PoolTimeoutError, DBAPIError, psycopg.Error)
"""What `answer` is asked about."""


def pauses() -> Iterator[float]:
    """Seconds to wait before each new attempt."""
    return (min(_FIRST_PAUSE * 2**count, _LONGEST_PAUSE) for count in itertools.count())


def answer(failure: BaseException) -> Answer | None:
    """What a failure says, if that is "not now"; None where it is for good.

    Args:
        failure: The driver's or SQLAlchemy's, or Timestep's that was raised from it.
    """
    if isinstance(failure, PoolTimeoutError):
        return _POOL
    cause = failure.__cause__ if isinstance(failure, DatabaseError) else failure
    if isinstance(cause, PoolTimeoutError):
        return _POOL
    error = cause.orig if isinstance(cause, DBAPIError) else cause
    found = _said(error)
    if found is None and isinstance(cause, DBAPIError) and cause.connection_invalidated:
        return _UNREACHABLE
    return found


def is_of_a_session(failure: BaseException) -> bool:
    """Whether the server itself answered, so that there is a session with it."""
    cause = failure.__cause__ if isinstance(failure, DatabaseError) else failure
    error = cause.orig if isinstance(cause, DBAPIError) else cause
    if not isinstance(error, psycopg.Error) or error.sqlstate is None:
        return False
    return _said(error) is not _ENDED


def state_of(failure: BaseException) -> str | None:
    """The SQLSTATE of a failure, if it has one."""
    cause = failure.__cause__ if isinstance(failure, DatabaseError) else failure
    error = cause.orig if isinstance(cause, DBAPIError) else cause
    return error.sqlstate if isinstance(error, psycopg.Error) else None


def _said(error: BaseException | None) -> Answer | None:
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", None)
        return _BUSY_FILE if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) else None
    if not isinstance(error, psycopg.Error):
        return None
    if error.diag.constraint_name == _ACTIVE_STATE:
        return _COLLISION
    state = error.sqlstate
    if not state:
        # What libpq found out by itself; a wrong argument has another class.
        is_libpqs = isinstance(error, psycopg.OperationalError) or type(error) is (
            psycopg.DatabaseError
        )
        return _UNREACHABLE if is_libpqs else None
    if state == _NOT_SUPPORTED:
        return _PLAN if error.diag.source_function == _REPLAN else None
    if state == _PROTOCOL and not _is_fatal(error):
        # PostgreSQL's own, of a message that is wrong, which it stays; a proxy's ends the session.
        return None
    if (found := _TABLE.get(state)) is not None:
        return found
    found = next((said for name, said in _CLASSES.items() if state.startswith(name)), None)
    return _ENDED if found is None and _is_fatal(error) else found


def _is_fatal(error: psycopg.Error) -> bool:
    return (error.diag.severity_nonlocalized or error.diag.severity) in _FATAL


def drop_connections(engine: sa.Engine) -> None:
    """Have an engine let go of its connections where only a new one may answer otherwise."""
    sa.event.listen(engine, "handle_error", _drop)


def _drop(context: ExceptionContext) -> None:
    found = _said(context.original_exception)
    if found is not None and found.wants_new_connection:
        context.is_disconnect = True
