"""Bounds what one connection may take, and how many there may be; makes the HTTP server.

uvicorn has no timeout for a request's head and none for a client that does not take its answer;
its own limit of connections turns health checks away, too.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
from collections.abc import Callable

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from timestep.config import Settings
from timestep.runtime import logs
from timestep.web.headers import HEADERS

_log = logs.logger()

_RESERVE = 16
"""Connections beyond the limit, for health checks while all others have a request under way."""


_AT_ONCE = 1 << 14
"""Bytes that are read of one connection before another one has its turn: many short headers, or
chunks, are read at once and taken apart for long."""
_OTHER_FILES = 200
"""Files that are open besides: the log, the database's connections, what tools open."""
_TAKES_END = 1.0
"""Seconds that those who follow runs have to take what is left, when the host stops."""
_HEAD_LIMIT = 1 << 14
"""Bytes of a request's head."""
_TAKEN_UNREAD = 1 << 20
"""Bytes that a client may still send of what was refused: it takes the answer only once it has, as
to end the connection before would be to tell it nothing."""
_LOOKED_THROUGH = 1 << 16
"""Bytes of chunks, after an answer, that are looked through for the next request."""


class Connection(H11Protocol, asyncio.BufferedProtocol):
    """A connection that ends where its client is too slow, or where it is one too many.

    Its client has `TIMESTEP_CLIENT_TIMEOUT` seconds for the head of each request, to send the
    rest of a request that was answered before its end, and to take some of an answer.
    """

    settings: Settings
    """Of the server; see `server_of`."""

    _timer: asyncio.TimerHandle | None = None
    _waits_for: object = None
    _since = 0.0
    _unsent = 0
    _unread = 0
    _is_refused = False
    """It is answered what it sent is no HTTP, or too long, and nothing more is read of it."""
    _is_over = False
    """Its end was told to the event loop, which does it after all that it has begun."""

    def is_spare(self) -> bool:
        """Whether no request of it is unanswered, as far as its head has come."""
        return (
            self.conn.their_state is h11.IDLE
            or self._is_answered()
            or self._is_refused
            or self.transport.is_closing()
        )

    def is_reader(self) -> bool:
        """Whether its client follows runs: those have a limit of their own."""
        if self.cycle is None or self._is_answered():
            return False
        return bool(self.cycle.scope.get("state", {}).get("is_reader"))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._buffer = bytearray(_AT_ONCE)
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch()
        held = [
            one
            for one in self.connections
            if isinstance(one, Connection) and not one._is_over and not one.is_reader()
        ]
        if len(held) > self.settings.connection_limit + _RESERVE:
            # The one that has waited longest; a new client sends its request at once.
            spare = [one for one in held if one.is_spare()]
            min(spare, key=lambda one: one._since)._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            self._unread += len(data)
            if self._unread > _TAKEN_UNREAD:
                self._end()
            return
        if self._is_answered() and self.conn.their_state is h11.SEND_BODY:
            self._unread += len(data)
            if self._unread > _LOOKED_THROUGH and _is_chunked(self.headers):
                return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or too long, with a problem document, if that can be sent."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self._end()
            return
        if self.cycle is not None:
            # The application may be about to answer the head of what went on as nonsense.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        status, kind, title = 400, "bad-request", "Bad Request"
        error = sys.exc_info()[1]
        if isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431:
            status, kind, title = 431, "head-too-large", "Request Header Fields Too Large"
            msg = (
                f"the address and the headers of a request may have {_HEAD_LIMIT:,} bytes: send "
                "fewer, or shorter ones, of cookies, too"
            )
        body = {"type": f"urn:timestep:{kind}", "title": title, "status": status, "detail": msg}
        content = json.dumps(body).encode()
        headers = [
            ("content-type", "application/problem+json"),
            ("content-length", str(len(content))),
            *HEADERS.items(),
            ("connection", "close"),
        ]
        for event in (
            h11.Response(status_code=status, headers=headers, reason=title.encode()),
            h11.Data(data=content),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write_eof()
        self._is_refused = True
        self._watch()

    def _is_answered(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete

    def _watch(self) -> None:
        """Give the client time anew where it is waited for something else than before."""
        waits_for: object = None
        if self.flow.write_paused or self._is_refused or self.transport.is_closing():
            waits_for = "to take its answer"
        elif self.conn.their_state is h11.IDLE or self._is_answered():
            waits_for = (self.conn.their_state, self.cycle)
        if waits_for != self._waits_for:
            self._waits_for = waits_for
            self._unread = 0
            self._since = self.loop.time()
            self._stop_timer()
            if waits_for is not None:
                self._start_timer()

    def _start_timer(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(self.settings.client_timeout, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        if 0 < self.transport.get_write_buffer_size() < self._unsent:
            self._start_timer()  # It takes its answer, if slowly.
        else:
            self._end()

    def _end(self) -> None:
        self._is_over = True
        self.transport.abort()


def _is_chunked(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" for name, _ in headers)


def allow_files(settings: Settings) -> None:
    """Let the process have as many connections open as its settings say, if the system does."""
    needed = settings.connection_limit + settings.reader_limit + _RESERVE + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        _log.warning(
            "the system lets this process open %d files, and it may need %d: raise its limit "
            "(ulimit -n), or lower TIMESTEP_CONNECTION_LIMIT or TIMESTEP_READER_LIMIT",
            allowed,
            needed,
        )


class _Server(uvicorn.Server):
    """Stops without waiting for those who follow runs."""

    end_streams: Callable[[], None]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.end_streams()
        stopping = asyncio.create_task(super().shutdown(sockets))
        await asyncio.wait([stopping], timeout=_TAKES_END)
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection) and connection.is_reader():
                connection._end()
        await stopping


def server_of(app: ASGIApp, settings: Settings, end_streams: Callable[[], None]) -> uvicorn.Server:
    """The HTTP server of an application, which runs until it is told to stop.

    Args:
        app: What answers.
        settings: Its limits.
        end_streams: Ends the answers that would go on; called when it stops.
    """
    protocol = type("Connection", (Connection,), {"settings": settings})
    server = _Server(
        uvicorn.Config(
            app,
            http=protocol,
            h11_max_incomplete_event_size=_HEAD_LIMIT,
            # An upgrade would take a connection out of these limits.
            ws="none",
            # What a client writes into X-Forwarded-… is not believed, only what these do.
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            # A stranger's nonsense is no line of the log.
            log_level="error",
            # With the others' handlers, times and levels.
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=max(1, round(settings.grace)),
        )
    )
    server.end_streams = end_streams
    return server
