"""Statements that an event loop sends itself: how they end, and what is left behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pytest
import sqlalchemy as sa

from tests.support.conditions import until
from timestep.database import async_pool as sending
from timestep.database import not_now
from timestep.database.async_pool import LIMIT, Answered, Sender, Values, _Connection, sender_of

ECHO = "SELECT $1::text"
SLEEP = "SELECT pg_sleep($1::float8)::text"
KEY = b"7"
WAIT = "SELECT pg_advisory_xact_lock_shared($1::bigint)::text"
"""Ends when nobody has the lock with this key."""


@pytest.fixture
def sender(engine: sa.Engine) -> Sender:
    return sender_of(engine)


def _sessions(engine: sa.Engine, *states: str) -> int:
    """How many connections there are beside the one that asks, in these states."""
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend' "
            "AND query NOT LIKE %(own)s AND state = ANY(%(states)s)",
            {"states": list(states or ("active", "idle")), "own": "%pg_stat_activity%"},
        )
        return int(found.scalar_one())


async def _begun(work: Coroutine[Any, Any, Values | None], engine: sa.Engine) -> asyncio.Task[Any]:
    """A task whose statement the server executes by now."""
    task = asyncio.ensure_future(work)
    await asyncio.to_thread(until, lambda: _sessions(engine, "active") > 0)
    return task


@contextmanager
def _locked(engine: sa.Engine) -> Iterator[None]:
    """Who asks for the lock has to wait."""
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s::bigint)", [KEY.decode()])
        yield


def _waiting(engine: sa.Engine) -> int:
    """How many statements wait for the lock."""
    with engine.connect() as connection:
        found = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event = 'advisory'"
        )
        return int(found.scalar_one())


async def _until_waiting(engine: sa.Engine, count: int) -> None:
    await asyncio.to_thread(until, lambda: _waiting(engine) == count)


def _kill(engine: sa.Engine, state: str) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE "
            f"datname = current_database() AND pid <> pg_backend_pid() AND state = '{state}'"
        )


def _is_at_rest(sender: Sender) -> bool:
    return sender._free == LIMIT and not sender._waiting and all(c.is_settled for c in sender._idle)


def test_a_statement_is_prepared_once_a_connection(sender: Sender, engine: sa.Engine) -> None:
    async def body() -> None:
        assert await sender.execute(ECHO, [b"1"]) == ("1",)
        assert await sender.execute(ECHO, [None]) == (None,)
        assert await sender.execute("SELECT $1::text, 2::text", [b"1"]) == ("1", "2")
        assert await sender.execute("SELECT 1 WHERE $1::bool", [b"f"]) is None
        prepared = "SELECT count(*)::text FROM pg_prepared_statements WHERE name LIKE $1"
        assert await sender.execute(prepared, [b"timestep_%"]) == ("4",)

    asyncio.run(body())
    assert _sessions(engine) == 1
    assert _is_at_rest(sender)


def test_more_than_the_socket_takes_goes_both_ways(sender: Sender) -> None:
    text = "ä" * 3_000_000

    async def body() -> None:
        given = [sender.execute(ECHO, [text.encode()]) for _ in range(3)]
        assert await asyncio.gather(*given) == [(text,)] * 3

    asyncio.run(body())
    assert _is_at_rest(sender)


def test_what_the_server_refuses_leaves_the_connection_good(
    sender: Sender, engine: sa.Engine
) -> None:
    async def body() -> None:
        with pytest.raises(psycopg.errors.SyntaxError):
            await sender.execute("SELEKT $1", [b"1"])
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            await sender.execute("SELECT $1::int", [b"one"])
        assert await sender.execute("SELECT $1::int", [b"1"]) == ("1",)

    asyncio.run(body())
    assert _sessions(engine) == 1
    assert _is_at_rest(sender)


def test_a_connection_in_the_place_of_a_lost_one_is_read_from(
    sender: Sender, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system gives a new socket the number of the one that libpq has closed."""
    read = _Connection._read
    others: list[asyncio.Task[Any]] = []
    numbers: list[int] = []

    def lose(connection: _Connection, done: asyncio.Future[None]) -> None:
        number, answered = connection._pg.socket, asyncio.get_running_loop().create_future()
        read(connection, answered)
        if connection.is_lost:
            # Before the statement that is lost hears of that, another one is sent.
            others.append(asyncio.ensure_future(sender.execute(ECHO, [b"mine"])))
            # Those that the engine has kept have other numbers.
            kept = [engine.raw_connection() for _ in range(engine.pool.checkedin())]  # type: ignore[attr-defined]  # a QueuePool
            sender._connect()
            for pooled in kept:
                pooled.close()
            numbers.extend((number, *(one._pg.socket for one in sender._idle)))
        if answered.done():
            sending._end(done, cast("Exception | None", answered.exception()))

    async def body() -> None:
        monkeypatch.setattr(_Connection, "_read", lose)
        task = await _begun(sender.execute(SLEEP, [b"60"]), engine)
        await asyncio.to_thread(_kill, engine, "active")
        with pytest.raises(psycopg.OperationalError):
            await task
        assert await asyncio.gather(*others) == [("mine",)]

    asyncio.run(body())
    assert numbers[0] == numbers[1]
    assert _is_at_rest(sender)


def test_a_process_without_a_file_to_open_has_no_connection_for_now(
    sender: Sender, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", full)
        with pytest.raises(psycopg.OperationalError, match="Too many open files") as caught:
            asyncio.run(sender.execute(ECHO, [b"mine"]))
    assert not_now.answer(caught.value) is not None
    assert asyncio.run(sender.execute(ECHO, [b"mine"])) == ("mine",)
    assert _is_at_rest(sender)


def test_no_answer_of_a_cancelled_statement_reaches_another(
    sender: Sender, engine: sa.Engine
) -> None:
    async def body() -> None:
        for _ in range(3):
            with _locked(engine):
                task = asyncio.ensure_future(sender.execute(WAIT, [KEY]))
                await _until_waiting(engine, 1)
                task.cancel()
            with pytest.raises(Answered):
                await task
            assert _sessions(engine, "active") == 0
            assert await sender.execute(ECHO, [b"mine"]) == ("mine",)
        # Cancelled when its answer is there, and it has not heard of it.
        for ticks in range(12):
            task = asyncio.ensure_future(sender.execute(f"SELECT {ticks} / $1::int", [b"0"]))
            for _ in range(ticks):
                await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.wait([task])
            assert await sender.execute(ECHO, [b"mine"]) == ("mine",)

    asyncio.run(body())
    assert _is_at_rest(sender)
    assert len(sender._idle) == 1


def test_the_cancelled_caller_of_a_lost_statement_hears_that_it_is_cancelled(
    sender: Sender, engine: sa.Engine
) -> None:
    async def body() -> None:
        task = await _begun(sender.execute(SLEEP, [b"60"]), engine)
        task.cancel()
        await asyncio.to_thread(_kill, engine, "active")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert not isinstance(caught.value, Answered), "it was not executed"

    asyncio.run(body())
    assert _is_at_rest(sender)


def test_the_cancelled_caller_of_a_refused_statement_hears_that_it_is_cancelled(
    sender: Sender, engine: sa.Engine
) -> None:
    async def body() -> None:
        refused = "SELECT 1 / (pg_advisory_xact_lock_shared($1::bigint)::text = 'x')::int"
        with _locked(engine):
            task = asyncio.ensure_future(sender.execute(refused, [KEY]))
            await _until_waiting(engine, 1)
            task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert not isinstance(caught.value, Answered), "it was not executed"
        assert await sender.execute(ECHO, [b"mine"]) == ("mine",)

    asyncio.run(body())
    assert _is_at_rest(sender)


def test_cancelled_when_a_statement_is_prepared_the_next_one_has_another_name(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = _Connection._results
    cancelled: list[bool] = []

    async def cancelling(connection: _Connection) -> Any:
        answer = await results(connection)
        if not cancelled:
            cancelled.append(True)
            raise asyncio.CancelledError
        return answer

    async def body() -> None:
        with pytest.raises(asyncio.CancelledError) as caught:
            await sender.execute("SELECT 1", [])
        assert not isinstance(caught.value, Answered)
        (connection,) = sender._idle
        assert await sender.execute(ECHO, [b"mine"]) == ("mine",)
        assert await sender.execute("SELECT 1", []) == ("1",)
        assert sender._idle == [connection]

    monkeypatch.setattr(_Connection, "_results", cancelling)
    asyncio.run(body())


def test_cancelled_while_it_connects_it_leaves_no_connection_behind(
    sender: Sender, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_connect, connects = threading.Event(), threading.Event()
    connect = Sender._connect

    def slow(self: Sender) -> None:
        connects.set()
        assert may_connect.wait(60)
        connect(self)

    monkeypatch.setattr(Sender, "_connect", slow)

    async def body() -> None:
        task = asyncio.ensure_future(sender.execute(ECHO, [b"1"]))
        await asyncio.to_thread(connects.wait, 60)
        task.cancel()
        await asyncio.wait([task])
        may_connect.set()
        assert await sender.execute(ECHO, [b"2"]) == ("2",)

    asyncio.run(body())
    assert _sessions(engine) == len(sender._idle)
    assert _is_at_rest(sender)


def test_a_lost_connection_is_an_error_and_the_next_statement_has_a_new_one(
    sender: Sender, engine: sa.Engine
) -> None:
    async def body() -> None:
        # While it waits for the answer.
        task = await _begun(sender.execute(SLEEP, [b"60"]), engine)
        await asyncio.to_thread(_kill, engine, "active")
        with pytest.raises(psycopg.OperationalError):
            await task
        assert await sender.execute(ECHO, [b"1"]) == ("1",)
        # While all of them are idle: one statement is told, and what else is idle is given up.
        await asyncio.gather(*(sender.execute(SLEEP, [b"0.05"]) for _ in range(3)))
        await asyncio.to_thread(_kill, engine, "idle")
        with pytest.raises(psycopg.OperationalError):
            await sender.execute(ECHO, [b"2"])
        assert await sender.execute(ECHO, [b"3"]) == ("3",)

    asyncio.run(body())
    assert len(sender._idle) == 1
    assert _is_at_rest(sender)


def test_a_connection_lost_while_sending_is_an_error(sender: Sender) -> None:
    async def body() -> None:
        assert await sender.execute(ECHO, [b"1"]) == ("1",)
        (connection,) = sender._idle
        pid = connection._pg.backend_pid
        await asyncio.to_thread(_terminate, sender._engine, pid)
        with pytest.raises(psycopg.OperationalError):
            await sender.execute(ECHO, [b"x" * 5_000_000])
        assert await sender.execute(ECHO, [b"2"]) == ("2",)

    asyncio.run(body())
    assert _is_at_rest(sender)


def _terminate(engine: sa.Engine, pid: int) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_terminate_backend(%(pid)s, 5000)", {"pid": pid})


def test_statements_beyond_the_limit_go_in_the_order_in_which_they_asked(
    sender: Sender, engine: sa.Engine
) -> None:
    order: list[int] = []
    most = 0

    async def one(number: int) -> None:
        nonlocal most
        await sender.execute(ECHO, [b"x"])
        order.append(number)
        most = max(most, LIMIT - sender._free)

    async def body() -> None:
        with _locked(engine):
            held = [asyncio.ensure_future(sender.execute(WAIT, [KEY])) for _ in range(LIMIT - 1)]
            await _until_waiting(engine, LIMIT - 1)
            # One connection for all of these, and those who come later do not overtake.
            first = [asyncio.ensure_future(one(number)) for number in range(20)]
            await first[0]
            later = [asyncio.ensure_future(one(number)) for number in range(20, 40)]
            await asyncio.gather(*first, *later)
        await asyncio.gather(*held)

    asyncio.run(body())
    assert order == list(range(40))
    assert most == LIMIT
    until(lambda: _sessions(engine) <= LIMIT)
    assert _is_at_rest(sender)


def test_a_turn_that_came_to_one_who_is_cancelled_is_the_next_ones(
    sender: Sender,
) -> None:
    async def body() -> None:
        await asyncio.gather(*(sender._enter() for _ in range(LIMIT)))
        waiting = [asyncio.ensure_future(sender._enter()) for _ in range(4)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        # It is called, and cancelled before it hears of it.
        sender._leave()
        waiting[0].cancel()
        await asyncio.wait_for(asyncio.shield(waiting[2]), 60)
        # It heard of it, and is cancelled before it goes on.
        sender._leave()
        asyncio.get_running_loop().call_soon(waiting[3].cancel)
        await asyncio.wait([waiting[3]])
        for _ in range(LIMIT - 1):
            sender._leave()

    asyncio.run(body())
    assert _is_at_rest(sender)


def test_many_threads_with_a_loop_each(sender: Sender, engine: sa.Engine) -> None:
    failures: list[BaseException] = []

    async def body(name: str) -> None:
        for number in range(20):
            text = f"{name} {number}"
            assert await sender.execute(ECHO, [text.encode()]) == (text,)

    def work(name: str) -> None:
        try:
            asyncio.run(body(name))
        except BaseException as error:  # noqa: BLE001  # the test's own thread raises it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"thread {n}",)) for n in range(2 * LIMIT)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert _sessions(engine) <= LIMIT
    assert _is_at_rest(sender)


# The garbage collector may come to a connection before it comes to the task that would close it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_closes_takes_nothing_with_it(sender: Sender, engine: sa.Engine) -> None:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # Tasks are destroyed that were pending.
    tasks = [loop.create_task(sender.execute(SLEEP, [b"60"])) for _ in range(LIMIT + 2)]
    while len(sender._waiting) < 2 or _sessions(engine, "active") < LIMIT:
        loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()

    async def after() -> None:
        # Beside it waits one that the closed loop's statements hold up until they are gone.
        assert await asyncio.wait_for(sender.execute(ECHO, [b"1"]), 60) == ("1",)

    other = threading.Thread(target=asyncio.run, args=(after(),))
    other.start()
    until(lambda: len(sender._waiting) == 3)
    del tasks, loop
    gc.collect()
    other.join(60)
    assert not other.is_alive()
    assert _is_at_rest(sender)
    assert len(sender._idle) == 1


def test_it_ends_with_its_engine(sender: Sender, engine: sa.Engine) -> None:
    async def body() -> None:
        with _locked(engine):
            task = asyncio.ensure_future(sender.execute(WAIT, [KEY]))
            await _until_waiting(engine, 1)
            engine.dispose()
        assert await task == ("",)
        assert sender._idle == []
        assert sender_of(engine) is not sender

    asyncio.run(body())
    assert sending.sender_of(engine)._idle == []
    assert _is_at_rest(sender)
    until(lambda: _sessions(engine) == 0)
