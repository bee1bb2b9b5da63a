"""Connects MCP servers when a run first needs one, and shares the connections among runs.

A server that its owner connected is used as it is and never closed here. One that nobody
connected is connected here, once however many runs use it, and closed a while after the last
of them has ended, or with its event loop. A connection belongs to the task that made it (the
transports demand that) and to that task's loop: runs on another loop have their work done there.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from mcp.types import CONNECTION_CLOSED

from timestep.runtime import logs, process_state
from timestep.runtime.process_state import PerProcess
from timestep.serialization import exceptions

T = TypeVar("T")
Work = Callable[[], Coroutine[Any, Any, T]]
Loop = asyncio.AbstractEventLoop

LINGER = 30.0
"""Seconds for which a connection is kept after the last run that used it."""

_log = logs.logger()


async def use(server: Any, user: uuid.UUID, work: Work[T], *, may_repeat: bool = False) -> T:
    """What `work` gives, done while the server is connected.

    Args:
        server: The user's server.
        user: The run, with everything inside it, that the connection is kept for.
        work: Asks the server.
        may_repeat: Whether work that found the connection broken may be done once more over a
            new one. In any case the next work has a new one.

    Raises:
        Exception: What connecting, or the work, raised.
    """
    connection = process_state.of(SharedConnections).enter(server, user)
    if connection is None:
        return await _on(_loop_of(server), work)
    return await _on(connection.loop, lambda: connection.use(work, may_repeat))


def leave(user: uuid.UUID) -> None:
    """The run has ended: what it alone used may be closed."""
    process_state.of(SharedConnections).leave(user)


class _Connection:
    """What runs share of a server that nobody else connected. Its methods run on its loop."""

    def __init__(self, server: Any, loop: Loop) -> None:
        self.server = server
        self.loop = loop
        self.users: set[uuid.UUID] = set()
        self._opening = asyncio.Lock()
        self._holder: asyncio.Task[None] | None = None
        self._connected: asyncio.Future[None] = loop.create_future()
        self._closing = asyncio.Event()

    async def use(self, work: Work[T], may_repeat: bool) -> T:
        await self._open()
        closing = self._closing
        try:
            return await work()
        except Exception as error:
            if not _is_lost(error):
                raise
            closing.set()
            if not may_repeat:
                raise
        await self._open()
        return await work()

    def linger(self, shared: SharedConnections) -> None:
        """Close it after a while, if no run uses it then."""
        self.loop.call_later(LINGER, self._close_unused, shared)

    def _close_unused(self, shared: SharedConnections) -> None:
        if shared.forget_unused(self):
            self.close()

    def close(self) -> None:
        self._closing.set()

    async def _open(self) -> None:
        async with self._opening:
            if self._holder is not None and self._closing.is_set():
                # The server is not connected again before it is cleaned up.
                await asyncio.wait([self._holder])
            if self._holder is None or self._holder.done():
                self._closing = asyncio.Event()
                self._connected = self.loop.create_future()
                # The connection outlives the run that needs it first: nothing of its context.
                self._holder = self.loop.create_task(self._hold(), context=contextvars.Context())
            await asyncio.shield(self._connected)

    async def _hold(self) -> None:
        """Connect and clean up in one task."""
        try:
            await self.server.connect()
        except Exception as error:  # noqa: BLE001  # whoever waits for the connection raises it
            self._connected.set_exception(error)
            return
        try:
            self._connected.set_result(None)
            await self._closing.wait()
        finally:
            try:
                await self.server.cleanup()
            except Exception as error:  # noqa: BLE001  # nobody waits for it
                reason = exceptions.one_line(error)
                _log.warning("an MCP server's connection did not close cleanly: %s", reason)


class SharedConnections(PerProcess):
    """The runs of a process share one connection to each server that nobody else connected."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: dict[int, _Connection] = {}
        """By the `id()` of the server, which its connection keeps alive."""

    def __contains__(self, server: object) -> bool:
        return id(server) in self._connections

    def enter(self, server: Any, user: uuid.UUID) -> _Connection | None:
        """The connection that is kept here; None for a server that its owner connects.

        Only the SDK's own kinds of servers tell by their `session` whether they are connected.
        """
        with self._lock:
            found = self._connections.get(id(server))
            if found is None and getattr(server, "session", server) is not None:
                return None
            if found is None or not found.loop.is_running():
                for ended in [c for c in self._connections.values() if c.loop.is_closed()]:
                    del self._connections[id(ended.server)]
                found = _Connection(server, asyncio.get_running_loop())
                self._connections[id(server)] = found
            found.users.add(user)
            return found

    def leave(self, user: uuid.UUID) -> None:
        with self._lock:
            used = [found for found in self._connections.values() if user in found.users]
            for connection in used:
                connection.users.discard(user)
        for connection in used:
            if connection.loop.is_running():
                connection.loop.call_soon_threadsafe(connection.linger, self)

    def forget_unused(self, connection: _Connection) -> bool:
        """Forget a connection, unless a run uses it; whether it was forgotten."""
        with self._lock:
            if connection.users or self._connections.get(id(connection.server)) is not connection:
                return False
            del self._connections[id(connection.server)]
            return True

    def close(self) -> None:
        """Have every connection closed by its own task; one whose loop has ended is closed."""
        with self._lock:
            connections = list(self._connections.values())
            self._connections.clear()
        for connection in connections:
            if connection.loop.is_running():
                connection.loop.call_soon_threadsafe(connection.close)


def _loop_of(server: Any) -> Loop:
    """The loop that its owner connected a server on, where that can be told."""
    group = getattr(getattr(server, "session", None), "_task_group", None)
    task = getattr(getattr(group, "cancel_scope", None), "_host_task", None)
    return task.get_loop() if isinstance(task, asyncio.Task) else asyncio.get_running_loop()


async def _on(loop: Loop, work: Work[T]) -> T:
    if loop is asyncio.get_running_loop():
        return await work()
    if not loop.is_running():
        raise ConnectionError(
            "an MCP server is connected on an event loop that does not run any more: clean it up "
            "where it was connected, or leave connecting it to Timestep"
        )
    there = asyncio.run_coroutine_threadsafe(work(), loop)
    try:
        return await asyncio.wrap_future(there)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectionError("the event loop that held an MCP server's connection ended") from None


def _is_lost(error: BaseException | None) -> bool:
    """Whether the connection is gone, which every transport tells in the same way."""
    while error is not None:
        told = getattr(error, "error", error)
        if getattr(told, "code", None) == CONNECTION_CLOSED:
            return True
        error = error.__cause__
    return False
