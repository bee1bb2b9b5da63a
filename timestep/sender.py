"""Sends statements from an event loop itself.

A thread for each would cost more than the statement: two switches, and the interpreter's lock.
So the loop watches the socket of libpq, and many statements are on their way at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence

import psycopg
import sqlalchemy as sa
from psycopg import errors, pq

LIMIT = 16
"""Connections of one sender."""

_SETTINGS = (
    # A statement has many parts and no choice of plans: one plan serves all its values.
    "SET plan_cache_mode = force_generic_plan",
    # It is about a few rows, known by their ids, however small the table is when it is planned.
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
)

Values = tuple[str | None, ...]

_GOOD = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


class _Connection:
    """A connection with the statements it has prepared; one statement at a time."""

    def __init__(self, connection: psycopg.Connection[object], age: int) -> None:
        self._connection = connection
        self._pg = connection.pgconn
        self._pg.nonblocking = 1
        self._prepared: dict[str, bytes] = {}
        self._results: list[pq.abc.PGresult] = []
        self.age = age

    @property
    def is_lost(self) -> bool:
        return self._pg.status != pq.ConnStatus.OK

    def close(self) -> None:
        self._connection.close()

    async def execute(self, sql: str, parameters: Sequence[bytes | None]) -> Values | None:
        name = self._prepared.get(sql)
        if name is None:
            name = f"timestep_{len(self._prepared)}".encode()
            self._pg.send_prepare(name, sql.encode())
            await self._result()
            self._prepared[sql] = name
        self._pg.send_query_prepared(name, parameters)
        result = await self._result()
        if result.ntuples == 0:
            return None
        values = [result.get_value(0, column) for column in range(result.nfields)]
        return tuple(value if value is None else value.decode() for value in values)

    async def _result(self) -> pq.abc.PGresult:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        socket = self._pg.socket
        loop.add_reader(socket, self._read, done)
        try:
            if self._pg.flush():
                loop.add_writer(socket, self._write, loop, done)
            await done
        finally:
            loop.remove_reader(socket)
            loop.remove_writer(socket)
        results, self._results = self._results, []
        for result in results:
            if result.status not in _GOOD:
                raise errors.error_from_result(result, encoding="utf-8")
        return results[-1]

    def _write(self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
        try:
            if not self._pg.flush():
                loop.remove_writer(self._pg.socket)
        except psycopg.Error as error:
            _end(done, error)

    def _read(self, done: asyncio.Future[None]) -> None:
        try:
            self._pg.consume_input()
            while not self._pg.is_busy():
                result = self._pg.get_result()
                if result is None:
                    _end(done)
                    return
                self._results.append(result)
        except psycopg.Error as error:
            _end(done, error)


def _end(done: asyncio.Future[None], error: Exception | None = None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


class Sender:
    """Connections to one database, for statements from any event loop."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._count = 0
        self._age = 0
        """How often its connections were given up."""
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def execute(self, sql: str, parameters: Sequence[bytes | None]) -> Values | None:
        """Execute a statement, in a transaction of its own; the first row that it answers.

        Args:
            sql: With `$1` and so on. It is prepared, once a connection.
            parameters: As text.

        Raises:
            psycopg.Error: The server refused, or the connection is lost: whether the statement
                was executed is not known then.
        """
        connection = await self._take()
        try:
            return await connection.execute(sql, parameters)
        except psycopg.Error:
            if connection.is_lost:
                # What is idle was most likely lost with it.
                self.close()
            raise
        except BaseException:
            # Its answer is still to come.
            connection.close()
            raise
        finally:
            self._leave(connection)

    async def _take(self) -> _Connection:
        while True:
            with self._lock:
                if self._idle:
                    return self._idle.pop()
                is_made = self._count < LIMIT
                if is_made:
                    self._count += 1
                    age = self._age
                else:
                    loop = asyncio.get_running_loop()
                    turn: asyncio.Future[None] = loop.create_future()
                    self._waiting.append((loop, turn))
            if not is_made:
                await self._wait(turn)
                continue
            try:
                return _Connection(await asyncio.to_thread(self._connect), age)
            except BaseException:
                with self._lock:
                    self._count -= 1
                self._call_next()
                raise

    async def _wait(self, turn: asyncio.Future[None]) -> None:
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._call_next()
            raise

    def _connect(self) -> psycopg.Connection[object]:
        pooled = self._engine.raw_connection()
        connection = pooled.driver_connection
        pooled.detach()
        if not isinstance(connection, psycopg.Connection):
            raise TypeError(f"{type(connection)} is not a connection of psycopg")
        for setting in _SETTINGS:
            connection.execute(setting)
        return connection

    def _leave(self, connection: _Connection) -> None:
        with self._lock:
            is_kept = not connection.is_lost and connection.age == self._age
            if is_kept:
                self._idle.append(connection)
            else:
                self._count -= 1
        if not is_kept:
            connection.close()
        self._call_next()

    def _call_next(self) -> None:
        """Let the one that has waited longest have its turn; one whose loop ended has none."""
        while True:
            with self._lock:
                if not self._waiting:
                    return
                loop, turn = self._waiting.popleft()
            if turn.cancelled():
                continue
            try:
                loop.call_soon_threadsafe(_end, turn)
            except RuntimeError:
                # Its loop is closed: nobody waits there any more.
                continue
            return

    def close(self) -> None:
        """Close the connections: those that are in use, when they are no more."""
        with self._lock:
            self._age += 1
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        for connection in idle:
            connection.close()


_senders: dict[sa.Engine, Sender] = {}
_senders_lock = threading.Lock()


def sender_of(engine: sa.Engine) -> Sender:
    """The sender of the engine's database, the same one each time; it ends with the engine."""
    with _senders_lock:
        found = _senders.get(engine)
        if found is None:
            found = _senders[engine] = Sender(engine)
            sa.event.listen(engine, "engine_disposed", _close)
        return found


def _close(engine: sa.Engine) -> None:
    with _senders_lock:
        found = _senders.pop(engine, None)
    if found is not None:
        found.close()
