"""Between a contender and its server, to count: a round trip is a request and its answer.

What the server says is counted, not what a client library means to do, so every statement is
seen, whoever sends it: BEGIN, COMMIT and PREPARE, too. It costs time, so what is counted
through it is not timed.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_READY = ord("Z")
_CHUNK = 1 << 16


@dataclass
class Traffic:
    """What went through until now."""

    round_trips: int = 0
    """How often a client spoke after the server had answered, and was answered."""
    transactions: int = 0
    """How often a session was outside a transaction after a request."""


class _Answers:
    """Reads the messages of a server: a letter, a length, and what is counted by the letter."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._buffer = bytearray()
        self.is_awaited = False

    def feed(self, data: bytes) -> None:
        self._buffer += data
        position = 0
        while len(self._buffer) - position >= 5:
            length = int.from_bytes(self._buffer[position + 1 : position + 5])
            end = position + 1 + length
            if len(self._buffer) < end:
                break
            if self._buffer[position] == _READY:
                self._traffic.transactions += self._buffer[end - 1] == ord("I")
                if self.is_awaited:
                    self._traffic.round_trips += 1
                    self.is_awaited = False
            position = end
        del self._buffer[:position]


class Proxy:
    """Listens in a directory as the server does in its own."""

    def __init__(self, directory: Path, target: Path) -> None:
        self.directory = directory
        self.traffic = Traffic()
        self._target = target
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, listens: Future[Callable[[], object]]) -> None:
        """Serve until what `listens` is told is called, from any thread."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        listening = await asyncio.start_unix_server(
            self._accept, str(self.directory / self._target.name)
        )
        listens.set_result(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        listening.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connected(client, to_client))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _connected(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        server, to_server = await asyncio.open_unix_connection(str(self._target))
        answers = _Answers(self.traffic)

        async def requests() -> None:
            while data := await client.read(_CHUNK):
                answers.is_awaited = True
                to_server.write(data)
            to_server.close()

        async def replies() -> None:
            while data := await server.read(_CHUNK):
                answers.feed(data)
                to_client.write(data)

        try:
            await asyncio.gather(requests(), replies(), return_exceptions=True)
        finally:
            for writer in (to_server, to_client):
                writer.close()
            await asyncio.gather(
                to_server.wait_closed(), to_client.wait_closed(), return_exceptions=True
            )


@contextmanager
def running(target: Path) -> Iterator[Proxy]:
    """A proxy of the server's socket `target` for as long as this lasts."""
    with tempfile.TemporaryDirectory(prefix="proxy-") as directory:
        proxy = Proxy(Path(directory), target)
        listens = Future[Callable[[], object]]()
        thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(listens)), daemon=True)
        thread.start()
        stop = listens.result(timeout=10)
        try:
            yield proxy
        finally:
            stop()
            thread.join()
