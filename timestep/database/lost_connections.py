"""Tells which database errors pass by themselves, and how long to wait before the next attempt."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from timestep.errors import DatabaseError

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_ACTIVE_STATE = "run_states_active_key"

FAILURES = (DatabaseError, PoolTimeoutError)
"""What may be only that the database is away: `is_lost_connection` tells."""


def pauses() -> Iterator[float]:
    """Seconds to wait before each new attempt."""
    return (min(_FIRST_PAUSE * 2**count, _LONGEST_PAUSE) for count in itertools.count())


def is_lost_connection(failure: BaseException) -> bool:
    """Whether the same thing may go well when it is sent again."""
    if isinstance(failure, PoolTimeoutError):
        return True
    cause = failure.__cause__ if isinstance(failure, DatabaseError) else failure
    error = cause.orig if isinstance(cause, DBAPIError) else cause
    if not isinstance(error, psycopg.Error):
        return isinstance(cause, DBAPIError) and cause.connection_invalidated
    if error.diag.constraint_name == _ACTIVE_STATE:
        # Two made a state the run's active one at once: the second one replaces the first.
        return True
    state = error.sqlstate or ""
    # 57P0x: the server is shutting down or starting; 08: connection lost; 53: it is short of
    # something, such as disk space or connections; 40: it undid one of two that collided.
    return (
        (isinstance(cause, DBAPIError) and cause.connection_invalidated)
        or state.startswith(("08", "53", "57P", "40"))
        or (isinstance(error, psycopg.OperationalError) and not state)
    )
