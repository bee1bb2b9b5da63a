"""Which answers of a database say "not now", and which are for good."""

from __future__ import annotations

import asyncio
import sqlite3

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tests.support import refusals
from timestep.database import not_now, urls
from timestep.database.async_pool import sender_of
from timestep.database.error_translation import translated
from timestep.database.patient_database import PatientDatabase
from timestep.database.waits import Patience
from timestep.errors import DatabaseError
from timestep.journal.recorder import Recorder

NOT_NOW = {
    "08": "000 001 003 004 006 007",
    "25": "006 P02 P03 P04",
    "26": "000",
    "40": "000 001 003 P01",
    "42": "P05",
    "53": "000 100 200 300 400",
    "55": "P03",
    "57": "000 014 P01 P02 P03 P04 P05",
    "58": "000 030 P01 P02",
    "72": "000",
}
FOR_GOOD = {
    "08": "P01",
    "0A": "000",
    "22": "001 021 P02 P05",
    "23": "502 503 505 514",
    "28": "000 P01",
    "3D": "000",
    "40": "002",
    "42": "501 601 703 804 P01",
    "54": "000",
    "55": "000",
    "P0": "001",
    "XX": "000 001",
}


def states(table: dict[str, str]) -> list[str]:
    return [kind + rest for kind, rests in table.items() for rest in rests.split()]


def error_of(state: str) -> psycopg.Error:
    """An error with an SQLSTATE, whether psycopg has a class for it or not."""
    try:
        kind = errors.lookup(state)
    except KeyError:
        kind = type("Unnamed", (psycopg.DatabaseError,), {"sqlstate": state})
    return kind("told")


@pytest.mark.parametrize("state", states(NOT_NOW))
def test_what_passes_by_itself_is_not_now(state: str) -> None:
    error = error_of(state)
    said = not_now.answer(error)
    assert said is not None
    assert said.reason
    assert not_now.answer(DBAPIError("SELECT", {}, error)) is said
    assert not_now.is_of_a_session(error)
    assert not_now.state_of(error) == state
    with pytest.raises(DatabaseError) as caught, translated():
        raise error
    assert not_now.answer(caught.value) is said


@pytest.mark.parametrize("state", states(FOR_GOOD))
def test_what_stays_so_is_for_good(state: str) -> None:
    error = error_of(state)
    assert not_now.answer(error) is None
    with pytest.raises(DatabaseError) as caught, translated():
        raise error
    assert not_now.answer(caught.value) is None


class _ProxySaid(psycopg.errors.ProtocolViolation):
    class diag:  # noqa: N801  # as psycopg names it
        constraint_name = severity_nonlocalized = None
        severity = "FATAL"
        source_function = None


def _busy_file() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return error


@pytest.mark.parametrize(
    "failure",
    [
        psycopg.OperationalError("consuming input failed: SSL SYSCALL error: EOF detected"),
        psycopg.OperationalError("connection failed: FATAL: no more connections allowed"),
        psycopg.errors.ConnectionTimeout("connection timeout expired"),
        psycopg.DatabaseError("server closed the connection unexpectedly"),
        _ProxySaid("query_wait_timeout"),
        PoolTimeoutError("QueuePool limit of size 10 overflow 10 reached"),
        DBAPIError("SELECT", {}, _busy_file()),
        DBAPIError("SELECT", {}, ValueError("whatever"), connection_invalidated=True),
    ],
    ids=str,
)
def test_so_is_what_pools_proxies_and_sockets_say(failure: Exception) -> None:
    assert not_now.answer(failure) is not None
    assert not not_now.is_of_a_session(failure) or failure.args[0] == "query_wait_timeout"


@pytest.mark.parametrize("state", ["28P01", "28000", "3D000", "XX000", "42501"])
def test_so_is_what_ends_the_session_that_a_proxy_had(state: str) -> None:
    """At the start of a process it is told, and is no session's."""
    error = error_of(state)
    assert not_now.answer(error) is None
    ended = type("Ended", (type(error),), {"diag": _ProxySaid.diag})("told")
    said = not_now.answer(ended)
    assert said is not None
    assert said.wants_new_connection
    assert not not_now.is_of_a_session(ended)
    with pytest.raises(psycopg.Error), Patience(is_known=False) as patience:
        patience.pause(ended)
    with Patience(is_known=True) as patience:
        assert patience.pause(ended) > 0


def test_a_database_that_was_never_reached_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(not_now, "_FIRST_PAUSE", 0.0)
    database = PatientDatabase(urls.parse_url("postgresql://nowhere.invalid/x"))
    said = [psycopg.OperationalError("connection refused")]

    def work() -> str:
        if said:
            raise said.pop()
        return "done"

    with pytest.raises(DatabaseError, match="connection refused"):
        database.patiently(work)
    said.append(psycopg.OperationalError("connection refused"))
    database.note_reached()
    assert database.patiently(work) == "done"


def test_a_wrong_argument_is_for_good() -> None:
    assert not_now.answer(psycopg.ProgrammingError("cannot adapt type")) is None
    assert not_now.answer(psycopg.DataError("strings cannot contain NUL")) is None
    assert not_now.answer(DBAPIError("SELECT", {}, sqlite3.OperationalError("no table"))) is None
    assert not_now.answer(ValueError("whatever")) is None


def test_a_plan_that_a_migration_changed_is_made_anew(engine: sa.Engine) -> None:
    recorder = Recorder(engine.url, engine)
    sql = "SELECT * FROM planned"

    async def sent_twice() -> list[object]:
        first = await recorder.sent(sql, {})
        with engine.connect() as connection:
            connection.exec_driver_sql("ALTER TABLE planned ADD COLUMN b int DEFAULT 2")
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            await sender_of(engine).execute(sql, [])
        return [first, await recorder.sent(sql, {})]

    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE planned AS SELECT 1 AS a")
    assert asyncio.run(sent_twice()) == [("1",), ("1", "2")]


def test_connections_that_take_no_writes_are_let_go(engine: sa.Engine, database_url: str) -> None:
    """A session keeps its setting; those that were opened meanwhile would refuse for good."""
    recorder = Recorder(engine.url, engine)

    async def write() -> None:
        await sender_of(engine).execute("INSERT INTO written VALUES ($1::int)", [b"1"])

    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE written (a int)")
    with refusals.read_only(database_url):
        for attempt in (write, write):
            with pytest.raises(psycopg.Error):
                asyncio.run(attempt())
        with pytest.raises(DBAPIError), engine.connect() as connection:
            connection.exec_driver_sql("INSERT INTO written VALUES (2)")

    async def written() -> None:
        await recorder.sent("INSERT INTO written VALUES (%(a)s::int)", {"a": 1})

    asyncio.run(written())
    with engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO written VALUES (2)")
        assert connection.exec_driver_sql("SELECT sum(a) FROM written").scalar() == 3
