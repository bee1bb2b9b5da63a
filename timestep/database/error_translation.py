"""Translates psycopg's and SQLAlchemy's errors into Timestep's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import sqlalchemy as sa
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

from timestep.database.urls import shown
from timestep.errors import DatabaseError, DatabaseRightsError, DatabaseUnreachableError


@contextmanager
def translated(url: sa.URL | None = None) -> Iterator[None]:
    """Turn the driver's errors inside into Timestep's, one clear line each, `from` them.

    Args:
        url: the database in question; it is named in the message, its password masked.

    Raises:
        DatabaseUnreachableError: there is no connection, or no longer.
        DatabaseRightsError: the user lacks a right.
        DatabaseError: anything else that the server refused.
    """
    try:
        yield
    except DBAPIError as exc:
        if not isinstance(exc.orig, psycopg.Error):
            text = _line(str(exc.orig))
            fix = ": run `timestep migrate`" if "no such table" in text else ""
            raise DatabaseError(f"{_at(url)}{text}{fix}") from exc
        raise _translation(exc.orig, url) from exc
    except psycopg.Error as exc:
        raise _translation(exc, url) from exc


def keep_rows_out(engine: sa.Engine) -> None:
    """Let the errors of an engine say what went wrong, and nothing of the rows that it is about.

    The server's details quote the whole row that it refuses, and SQLAlchemy the parameters: what
    people typed and models said, for every log and traceback that has the error.
    """
    sa.event.listen(engine, "handle_error", _keep_rows_out)


def _keep_rows_out(context: ExceptionContext) -> None:
    error, told = context.original_exception, context.sqlalchemy_exception
    if isinstance(error, psycopg.Error):
        shorten(error)
    if told is not None:
        told.hide_parameters = True
        if told.args and isinstance(error, psycopg.Error):
            kind = type(error)
            told.args = (f"({kind.__module__}.{kind.__name__}) {error}",)


def shorten(error: psycopg.Error) -> None:
    """Let an error of the driver say its first line alone, without the server's details."""
    if error.diag.message_primary:
        error.args = (error.diag.message_primary,)


_NOT_MIGRATED = {"42P01", "42703", "3F000"}
"""Undefined table, column, schema."""
_UNREACHABLE = {"57P01", "57P02", "57P03", "57P05", "53300", "3D000"}
"""Shutting down, crashed, starting, idle too long, too many connections, no database."""
_PERMISSION_DENIED = "42501"


def _translation(error: psycopg.Error, url: sa.URL | None) -> DatabaseError:
    state = error.sqlstate
    text = error.diag.message_primary or _line(str(error))
    where = _at(url)
    if state is None and isinstance(error, psycopg.OperationalError):
        return DatabaseUnreachableError(where + _connecting(text, url))
    if state is None:
        return DatabaseError(where + text)
    if state in _UNREACHABLE or state[:2] in ("08", "28"):
        return DatabaseUnreachableError(where + _connecting(text, url))
    if state == _PERMISSION_DENIED:
        user = f"the user {url.username!r}" if url and url.username else "the database's user"
        return DatabaseRightsError(f"{where}{text}: grant that right to {user}")
    if state in _NOT_MIGRATED:
        return DatabaseError(f"{where}{text}: run `timestep migrate`")
    return DatabaseError(where + text)


def _connecting(text: str, url: sa.URL | None) -> str:
    """What a failed connection is about and how to fix it.

    libpq gives no code for it, only the server's text.
    """
    if missing := re.search(r'database "(.+?)" does not exist', text):
        name = missing[1]
        return f"the database {name!r} does not exist: create it with `createdb {name}`"
    if refused := re.search(r"(password authentication failed.*|no password supplied)", text):
        return f"{refused[1]}: check the user and password in its URL"
    if unknown := re.search(r'role ".+?" does not exist', text):
        return f"{unknown[0]}: check the user in its URL"
    if forbidden := re.search(r"(no pg_hba\.conf entry.*|permission denied for database.*)", text):
        return f"{forbidden[1]}: the server does not let this user in"
    return re.sub(r"^connection (failed|is bad): ", "", text)


def _at(url: sa.URL | None) -> str:
    return f"{shown(url)}: " if url is not None else ""


def _line(text: str) -> str:
    return " ".join(text.split()) or "no reason given"
