"""Sends prepared statements from an event loop, over connections of its own.

A thread for each would cost more than the statement: two switches, and the interpreter's lock.
So the loop watches the socket of libpq, and many statements are on their way at once.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections import deque
from collections.abc import Sequence

import psycopg
import sqlalchemy as sa
from psycopg import errors, pq

from timestep.database import not_now
from timestep.database.error_translation import shorten
from timestep.runtime import process_state
from timestep.runtime.cancellation import Steadfast
from timestep.runtime.process_state import PerProcess

LIMIT = 16
"""Statements of one sender that are on their way at once, each over a connection of its own."""

Values = tuple[str | None, ...]

_GOOD = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)

_SETTINGS = (
    # A statement has many parts and no choice of plans: one plan serves all its values.
    "SET plan_cache_mode = force_generic_plan",
    # It is about a few rows, known by their ids, however small the table is when it is planned.
    "SET enable_seqscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    # However many rows are expected, a few come: compiling would cost more than it saves.
    "SET jit = off",
    # Whatever the database's own encoding is.
    "SET client_encoding = 'UTF8'",
)


class Answered(asyncio.CancelledError):
    """The caller was cancelled, and the statement was executed."""


class _Connection:
    """A connection with the statements it has prepared; one statement at a time."""

    def __init__(self, connection: psycopg.Connection[object], age: int) -> None:
        self._connection = connection
        self._pg = connection.pgconn
        self._pg.nonblocking = 1
        # Of its own: libpq closes its socket as soon as the connection is lost, and a new one may
        # have that number before the loop has let go of it. Then nobody would read from that.
        self._socket = os.dup(self._pg.socket)
        self._prepared: dict[str, bytes] = {}
        self._names = (f"timestep_{number}".encode() for number in itertools.count())
        self._received: list[pq.abc.PGresult] = []
        self.age = age
        self.is_settled = True
        """Whether everything that was asked is answered, and the answer is read."""

    @property
    def is_lost(self) -> bool:
        return self._pg.status != pq.ConnStatus.OK

    def close(self) -> None:
        socket, self._socket = self._socket, -1
        if socket >= 0:
            os.close(socket)
        self._connection.close()

    async def execute(self, sql: str, parameters: Sequence[bytes | None]) -> Values | None:
        name = self._prepared.get(sql)
        if name is None:
            name = next(self._names)
            self.is_settled = False
            self._pg.send_prepare(name, sql.encode())
            _good(await self._results())
            self._prepared[sql] = name
        self.is_settled = False
        self._pg.send_query_prepared(name, parameters)
        try:
            result = _good(await self._results())
        except asyncio.CancelledError:
            if self.is_settled and all(result.status in _GOOD for result in self._received):
                raise Answered from None
            raise
        if result.ntuples == 0:
            return None
        values = [result.get_value(0, column) for column in range(result.nfields)]
        return tuple(value if value is None else value.decode() for value in values)

    async def _results(self) -> list[pq.abc.PGresult]:
        """What the server answers; a cancelled caller hears of that when the answer is there."""
        loop = asyncio.get_running_loop()
        done: Steadfast[None] = Steadfast(loop=loop)
        socket = self._socket
        self._received = []
        loop.add_reader(socket, self._read, done)
        writes = False
        try:
            if self._pg.flush():
                writes = True
                loop.add_writer(socket, self._write, loop, done)
            await done
        except asyncio.CancelledError:
            done.exception()
            raise
        finally:
            if not loop.is_closed():
                loop.remove_reader(socket)
                if writes:
                    loop.remove_writer(socket)
        return self._received

    def _write(self, loop: asyncio.AbstractEventLoop, done: asyncio.Future[None]) -> None:
        try:
            if not self._pg.flush():
                loop.remove_writer(self._socket)
        except psycopg.Error as error:
            _end(done, error)

    def _read(self, done: asyncio.Future[None]) -> None:
        try:
            self._pg.consume_input()
            while not self._pg.is_busy():
                result = self._pg.get_result()
                if result is None:
                    self.is_settled = True
                    _end(done)
                    return
                self._received.append(result)
        except psycopg.Error as error:
            _end(done, error)


def _good(results: list[pq.abc.PGresult]) -> pq.abc.PGresult:
    for result in results:
        if result.status not in _GOOD:
            raise errors.error_from_result(result, encoding="utf-8")
    return results[-1]


class _Turn:
    """A statement that waits until there are fewer on their way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.come: asyncio.Future[None] = loop.create_future()
        self.is_over = False
        """Whether nobody waits for it any more."""


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
        # Re-entrant: a coroutine whose loop is gone leaves whenever garbage is collected.
        self._lock = threading.RLock()
        self._idle: list[_Connection] = []
        self._free = LIMIT
        """How many more statements may be on their way. If any may, nobody waits."""
        self._waiting: deque[_Turn] = deque()
        self._age = 0
        """How often its connections were given up."""

    async def execute(self, sql: str, parameters: Sequence[bytes | None]) -> Values | None:
        """Execute a statement, in a transaction of its own; the first row that it answers.

        Args:
            sql: With `$1` and so on. It is prepared, once a connection.
            parameters: As text.

        Raises:
            Answered: The caller was cancelled meanwhile; the statement was executed.
            asyncio.CancelledError: It was cancelled, and the statement was not sent, or refused,
                or the connection is lost.
            psycopg.Error: The server refused, or the connection is lost: whether the statement
                was executed is not known then.
            sqlalchemy.exc.SQLAlchemyError: There is no connection to be had.
        """
        await self._enter()
        try:
            while (connection := self._take()) is None:
                await asyncio.to_thread(self._connect)
            try:
                return await connection.execute(sql, parameters)
            except psycopg.Error as error:
                shorten(error)
                said = not_now.answer(error)
                if said is not None and said.wants_new_connection:
                    self.close()
                raise
            finally:
                self._put(connection)
        finally:
            self._leave()

    @property
    def is_busy(self) -> bool:
        """Whether statements are on their way."""
        return self._free < LIMIT

    async def _enter(self) -> None:
        """Wait for a turn, in the order of those who ask, whatever loop they are on."""
        turn = _Turn(asyncio.get_running_loop())
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return
            self._waiting.append(turn)
        try:
            await turn.come
        except BaseException:
            self._forgo(turn)
            raise

    def _leave(self) -> None:
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            turn = self._waiting.popleft()
        try:
            turn.loop.call_soon_threadsafe(_end, turn.come)
        except RuntimeError:
            # Its loop is closed: nobody waits there any more.
            self._forgo(turn)

    def _forgo(self, turn: _Turn) -> None:
        with self._lock:
            if turn.is_over:
                return
            turn.is_over = True
            if turn in self._waiting:
                self._waiting.remove(turn)
                return
        # It had come: it is the next one's.
        self._leave()

    def _take(self) -> _Connection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _put(self, connection: _Connection) -> None:
        if connection.is_lost:
            # What is idle was most likely lost with it.
            self.close()
        with self._lock:
            is_kept = (
                connection.is_settled and connection.age == self._age and len(self._idle) < LIMIT
            )
            if is_kept:
                self._idle.append(connection)
        if not is_kept:
            # Given up, or somebody was cancelled and its answer is still to come.
            connection.close()

    def _connect(self) -> None:
        """Open one more connection, idle at first: a caller who is cancelled leaves none behind."""
        age = self._age
        pooled = self._engine.raw_connection()
        driver = pooled.driver_connection
        pooled.detach()
        if not isinstance(driver, psycopg.Connection):
            raise TypeError(f"{type(driver)} is not a connection of psycopg")
        try:
            driver.execute("; ".join(_SETTINGS))
            made = _Connection(driver, age)
        except OSError as error:
            # As where libpq itself finds no file to open: it is waited for.
            driver.close()
            raise psycopg.OperationalError(str(error)) from error
        except BaseException:
            driver.close()
            raise
        self._put(made)

    def close(self) -> None:
        """Close the connections: those that are in use, when they are no more."""
        with self._lock:
            self._age += 1
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


class Senders(PerProcess):
    """A process sends through one sender for each engine, until the engine is disposed of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._senders: dict[sa.Engine, Sender] = {}

    def of(self, engine: sa.Engine) -> Sender:
        with self._lock:
            found = self._senders.get(engine)
            if found is None:
                found = self._senders[engine] = Sender(engine)
                sa.event.listen(engine, "engine_disposed", self._end)
            return found

    def close(self) -> None:
        for engine in list(self._senders):
            self._end(engine)

    def _end(self, engine: sa.Engine) -> None:
        with self._lock:
            found = self._senders.pop(engine, None)
        if found is not None:
            found.close()


def sender_of(engine: sa.Engine) -> Sender:
    """The sender of the engine's database, the same one each time; it ends with the engine."""
    return process_state.of(Senders).of(engine)
