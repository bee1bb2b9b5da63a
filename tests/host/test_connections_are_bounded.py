"""Clients that are slow, many, or send nonsense, over sockets to the server that hosts run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from tests.support.no_tokens import no_tokens_made
from tests.support.passing_time import time_passed
from timestep import config
from timestep.host.connections import Connection, allow_files, server_of
from timestep.web.callers import Callers
from timestep.web.gate import Gate, address_of
from timestep.web.headers import HEADERS

PATIENCE = 600
"""Seconds that a client has."""

T = TypeVar("T")

HEAD = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /api/runs HTTP/1.1\r\nHost: 127.0.0.1\r\n"


__all__ = ["no_tokens_made"]


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch, no_tokens_made: None) -> None:
    for name, value in {
        "BODY_LIMIT": "100000",
        "CONNECTION_LIMIT": "3",
        "CLIENT_TIMEOUT": str(PATIENCE),
        "GRACE": "0",
    }.items():
        monkeypatch.setenv(f"TIMESTEP_{name}", value)


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "vera:viewer:see")


class Served:
    """A server, its application, and clients of it."""

    def __init__(self) -> None:
        self.bodies: list[int] = []
        """The lengths of the bodies that reached the application."""
        self.scopes: list[Scope] = []
        self.goes_on = asyncio.Event()
        self.server: uvicorn.Server
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers at once, or `/slow` when it may, or `/large` with megabytes."""
        self.bodies.append(len((await receive())["body"]))
        self.scopes.append(scope)
        if scope["path"] == "/slow":
            await self.goes_on.wait()
        answer = b"x" * (30_000_000 if scope["path"] == "/large" else 2)
        length = (b"content-length", str(len(answer)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": answer})

    @property
    def connections(self) -> list[Connection]:
        return [one for one in self.server.server_state.connections if isinstance(one, Connection)]

    async def connected(self, sent: bytes = b"", **options: Any) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, **options)
        self._writers.append(writer)
        writer.write(sent)
        return Client(reader, writer)

    async def status(self, sent: bytes = HEAD) -> int:
        """The status that a new client is answered."""
        return (await (await self.connected(sent)).answer())[0]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110  # It is not this code that makes it hold.
                await asyncio.sleep(0.002)

    def close(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


class Client:
    """One connection's other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: its status, its headers, its body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        length = headers.get("content-length")
        body = await (
            self.reader.read() if length is None else self.reader.readexactly(int(length))
        )
        return int(head[0].split()[1]), headers, body

    async def ended(self) -> bytes:
        """What comes until the server ends the connection."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


async def as_time_passes(what: Coroutine[Any, Any, T]) -> T:
    """What is answered while a client's time is over again and again."""
    answer = asyncio.ensure_future(what)
    while not answer.done():
        await time_passed(PATIENCE)
    return answer.result()


def serving(work: Callable[[Served], Awaitable[None]]) -> None:
    """Do `work` with a server in this process."""

    async def run() -> None:
        async with served() as it:
            await work(it)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[Served]:
    it, settings = Served(), config.read()
    gate = Gate(it.app, settings, Callers(settings))
    it.server = server_of(gate, settings, end_streams=lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        it.port = listener.getsockname()[1]
        # Not `serve`, which would take this process's signals; and it has no connection to end.
        running = asyncio.create_task(it.server._serve([listener]))
        await it.until(lambda: it.server.started)
        try:
            yield it
        finally:
            it.close()
            await it.until(lambda: not it.connections)
            running.cancel()
            for listening in it.server.servers:
                listening.close()


def test_the_token_is_asked_for_before_a_body_is_read(tokens: None) -> None:
    async def work(it: Served) -> None:
        for length in (b"Content-Length: 500000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
            client = await it.connected(POST + length)
            status, headers, body = await client.answer()
            assert (status, headers["content-type"]) == (401, "application/problem+json")
            assert "no bearer token" in json.loads(body)["detail"]
        # What is sent nevertheless is dropped, for a while.
        client.writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert await as_time_passes(client.ended()) == b""
        assert it.bodies == []

    serving(work)


def test_a_body_whose_length_is_said_twice_is_no_way_for_another_request() -> None:
    """A proxy before the host may go by the other length, and take the rest for another's."""

    async def work(it: Served) -> None:
        both = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        for sent in (POST + both, POST.replace(b"/api/runs", b"/healthz") + both):
            client = await it.connected(sent + b"0\r\n\r\n" + HEAD)
            status, headers, body = await client.answer()
            assert (status, headers["connection"]) == (400, "close")
            assert "both say how long the body is" in json.loads(body)["detail"]
            assert await as_time_passes(client.ended()) == b""
        assert it.bodies == []
        assert await it.status() == 200

    serving(work)


def test_a_refused_body_is_not_kept(tokens: None) -> None:
    async def work(it: Served) -> None:
        client = await it.connected(POST + b"Content-Length: 3000000\r\n\r\n")
        assert (await client.answer())[0] == 401
        (connection,) = it.connections
        for _ in range(30):
            client.writer.write(b"x" * 100_000)
            await client.writer.drain()
            assert len(connection.cycle.body) + len(connection.conn.trailing_data[0]) <= 1 << 18
        # The connection serves on, once the refused body is over.
        client.writer.write(HEAD)
        assert (await client.answer())[0] == 200
        assert it.bodies == [0]

    serving(work)


def test_refused_chunks_are_not_looked_through_for_long(tokens: None) -> None:
    async def work(it: Served) -> None:
        for chunks, goes_on in ((100, True), (100_000, False)):
            client = await it.connected(POST + b"Transfer-Encoding: chunked\r\n\r\n")
            assert (await client.answer())[0] == 401
            (connection,) = it.connections
            sent = b"1\r\nx\r\n" * chunks + b"0\r\n\r\n" + HEAD
            client.writer.write(sent)
            if goes_on:
                assert (await client.answer())[0] == 200
            else:
                await it.until(lambda: connection._unread == len(sent))  # noqa: B023
            assert await as_time_passes(client.ended()) == b""
            await it.until(lambda: not it.connections)

    serving(work)


def test_no_connection_has_a_long_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    take = Connection.data_received

    def noting(self: Connection, data: bytes) -> None:
        taken.append(len(data))
        take(self, data)

    monkeypatch.setattr(Connection, "data_received", noting)

    async def work(it: Served) -> None:
        assert await it.status(POST + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000) == 200
        many = b"a:b\r\n" * 50_000
        assert await it.status(HEAD[:-2] + many) == 431

    serving(work)
    assert max(taken) <= 1 << 14


def test_a_client_that_asks_first_does_not_send(tokens: None) -> None:
    async def work(it: Served) -> None:
        ask = b"Content-Length: 500000000\r\nExpect: 100-continue\r\n"
        assert await it.status(POST + ask + b"\r\n") == 401
        known = b"Authorization: Bearer see\r\n\r\n"
        assert await it.status(POST + ask + known) == 413
        client = await it.connected(POST + ask.replace(b"500000000", b"5") + known)
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        client.writer.write(b"hello")
        assert (await client.answer())[0] == 200
        assert it.bodies == [5]

    serving(work)


@pytest.mark.parametrize("token", [b"", b"Authorization: Bearer see\r\n"])
def test_bodies_have_a_limit(token: bytes, request: pytest.FixtureRequest) -> None:
    if token:
        request.getfixturevalue("tokens")

    async def work(it: Served) -> None:
        for length, status in ((100_000, 200), (100_001, 413)):
            sized = POST + token + b"Content-Length: %d\r\n\r\n" % length
            assert await it.status(sized + b"x" * length) == status
            chunked = POST + token + b"Transfer-Encoding: chunked\r\n\r\n"
            chunks = (
                b"1\r\nx\r\n" + b"%x\r\n" % (length - 1) + b"x" * (length - 1) + b"\r\n0\r\n\r\n"
            )
            assert await it.status(chunked + chunks) == status
        assert it.bodies == [100_000, 100_000]

    serving(work)


def test_a_head_that_does_not_come_ends_the_connection() -> None:
    async def work(it: Served) -> None:
        for sent in (b"", b"G", HEAD[:-2]):
            assert await as_time_passes((await it.connected(sent)).ended()) == b""
        client = await it.connected(HEAD[:-1])
        with contextlib.suppress(ConnectionError):
            while not client.reader.at_eof():  # It trickles on, and that is no help.
                client.writer.write(b"X: y\r\n")
                await client.writer.drain()
                await time_passed(PATIENCE / 10)
        kept = await it.connected(HEAD)
        assert (await kept.answer())[0] == 200
        kept.writer.write(HEAD[:5])
        assert await as_time_passes(kept.ended()) == b""
        await it.until(lambda: not it.connections)

    serving(work)


def test_a_body_that_does_not_come_is_told() -> None:
    async def work(it: Served) -> None:
        client = await it.connected(POST + b"Content-Length: 10\r\n\r\nhello")
        status, headers, body = await as_time_passes(client.answer())
        assert (status, headers["content-type"]) == (408, "application/problem+json")
        assert json.loads(body)["detail"] == f"the body was not sent within {PATIENCE} seconds"
        assert await as_time_passes(client.ended()) == b""
        assert it.bodies == []

    serving(work)


def test_an_answer_that_nobody_takes_ends_the_connection() -> None:
    async def work(it: Served) -> None:
        client = await it.connected(HEAD.replace(b"/healthz", b"/large"), limit=1000)
        await it.until(lambda: it.bodies == [0])
        while it.connections:
            await time_passed(PATIENCE)
        assert len(await client.ended()) < 30_000_000

    serving(work)


def test_an_answer_that_is_taken_slowly_is_given() -> None:
    async def work(it: Served) -> None:
        client = await it.connected(HEAD.replace(b"/healthz", b"/large"), limit=1000)
        taken = 0
        while taken < 30_000_000:
            read = len(await client.reader.read(400_000))
            assert read > 0, "the connection was ended"
            taken += read
            # Eight megabytes take as long as the whole answer may of which nothing is taken.
            await time_passed(PATIENCE * read / 8_000_000)

    serving(work)


def test_of_too_many_connections_those_that_ask_for_nothing_are_ended() -> None:
    async def work(it: Served) -> None:
        with contextlib.ExitStack() as stack:
            # All at once: the server accepts them in one pass of its loop.
            for _ in range(60):
                half_open = stack.enter_context(socket.create_connection(("127.0.0.1", it.port)))
                half_open.send(HEAD[:-2])
            assert await it.status() == 200
            await it.until(lambda: len(it.connections) == 19)
            for _ in range(40):
                assert await it.status() == 200
            await it.until(lambda: len(it.connections) == 19)

    serving(work)


def test_of_too_many_requests_all_but_health_checks_are_refused() -> None:
    async def work(it: Served) -> None:
        slow = [await it.connected(HEAD.replace(b"/healthz", b"/slow")) for _ in range(3)]
        await it.until(lambda: len(it.bodies) == 3)
        half_open = [await it.connected(b"G") for _ in range(30)]
        for _ in range(30):
            assert await it.status(POST + b"\r\n") == 503
            assert await it.status() == 200
        it.goes_on.set()
        for client in slow:
            assert (await client.answer())[0] == 200
        assert await it.status(POST + b"\r\n") == 200
        assert len(half_open) == 30

    serving(work)


NONSENSE = (
    b"nonsense\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.com\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: evil.com@127.0.0.1\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 100_000,
    b"GET http://evil.com/healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
    POST + b"Transfer-Encoding: gzip\r\n\r\n",
    # Of two minds: the application refuses the head, while its body is no HTTP.
    POST.replace(b"127", b"evil") + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
)


def test_nonsense_is_told_in_no_line_of_the_log(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async def work(it: Served) -> None:
        for sent in NONSENSE:
            status, headers, body = await (await it.connected(sent)).answer()
            assert status in (400, 431, 501), sent
            assert headers["content-type"] == "application/problem+json"
            assert json.loads(body)["status"] == status
            assert "server" not in headers
        upgrade = b"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n"
        assert await it.status(HEAD[:-2] + upgrade) == 200

    serving(work)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capfd.readouterr().err == ""


def test_the_answer_to_nonsense_has_the_headers_of_every_answer() -> None:
    async def work(it: Served) -> None:
        status, headers, _ = await (await it.connected(b"nonsense\r\n\r\n")).answer()
        assert status == 400
        for name, value in HEADERS.items():
            assert headers[name.lower()] == value.lower()

    serving(work)


@pytest.mark.parametrize(("size", "closes"), [(40_000, True), (60_000, False), (900_000, True)])
def test_a_head_that_is_too_long_is_told(size: int, closes: bool) -> None:
    """However much of it is still to come, its client is told before the connection ends."""

    async def work(it: Served) -> None:
        client = await it.connected(HEAD[:-2] + b"Cookie: a=" + b"x" * size + b"\r\n\r\n" + HEAD)
        status, headers, body = await client.answer()
        told = json.loads(body)
        assert (status, headers["connection"]) == (431, "close")
        assert (told["status"], told["type"]) == (431, "urn:timestep:head-too-large")
        assert "16,384 bytes" in told["detail"]
        assert await client.ended() == b""
        # It has to close its own end, too, and is waited for no longer than others.
        (held,) = it.connections
        assert held.is_spare()
        if closes:
            client.writer.close()
            await it.until(lambda: not it.connections)
        else:
            await as_time_passes(held_no_more(it))

    serving(work)


async def held_no_more(it: Served) -> None:
    while it.connections:  # noqa: ASYNC110  # As `until`, whose own time would be over, too.
        await asyncio.sleep(0)


def test_what_goes_on_after_a_refusal_ends_the_connection() -> None:
    async def work(it: Served) -> None:
        client = await it.connected(b"nonsense\r\n\r\n")
        assert (await client.answer())[0] == 400
        client.writer.write(b"x" * 3_000_000)
        await it.until(lambda: not it.connections)

    serving(work)


def test_nonsense_after_an_answer_ends_the_connection(
    tokens: None, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(it: Served) -> None:
        client = await it.connected(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert (await client.answer())[0] == 401
        client.writer.write(b"nonsense\r\n")
        assert await client.ended() == b""

    serving(work)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_what_x_forwarded_says_is_not_believed() -> None:
    async def work(it: Served) -> None:
        forwarded = b"X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\r\n"
        assert await it.status(HEAD[:-2] + forwarded) == 200
        assert [(scope["client"][0], scope["scheme"]) for scope in it.scopes] == [
            ("127.0.0.1", "http")
        ]

    serving(work)


@pytest.mark.parametrize(
    ("trusted", "said", "believed"),
    [
        ("127.0.0.0/8", b"203.0.113.7", ("203.0.113.7", "https")),
        # Who is before the proxy may say what it likes; the proxy adds whom it has seen.
        ("127.0.0.1,10.0.0.0/8", b"198.51.100.1, 203.0.113.7, 10.1.1.1", ("203.0.113.7", "https")),
        ("10.0.0.0/8", b"203.0.113.7", ("127.0.0.1", "http")),
    ],
)
def test_what_a_trusted_proxy_says_is(
    trusted: str, said: bytes, believed: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_TRUSTED_PROXIES", trusted)

    async def work(it: Served) -> None:
        forwarded = b"X-Forwarded-For: " + said + b"\r\nX-Forwarded-Proto: https\r\n\r\n"
        assert await it.status(HEAD[:-2] + forwarded) == 200
        assert [(address_of(scope), scope["scheme"]) for scope in it.scopes] == [believed]

    serving(work)


def test_what_is_no_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_TRUSTED_PROXIES", "127.0.0.1")

    async def work(it: Served) -> None:
        assert await it.status(HEAD[:-2] + b"X-Forwarded-For: <b>\xff\r\n\r\n") == 200
        assert [address_of(scope) for scope in it.scopes] == [None]

    serving(work)


def test_the_process_may_have_as_many_connections_open_as_it_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setenv("TIMESTEP_CONNECTION_LIMIT", "500")
    settings = config.read()
    for given, wanted in (((1024, 4096), 1716), ((1024, -1), 1716), ((1024, 1500), 1500)):
        monkeypatch.setattr(resource, "getrlimit", lambda kind, given=given: given)
        monkeypatch.setattr(resource, "setrlimit", lambda kind, limit: limits.append(limit))
        allow_files(settings)
        assert limits.pop() == (wanted, given[1])
    assert "open 1500 files, and it may need 1716" in caplog.messages[-1]
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (-1, -1))
    allow_files(settings)
    assert (limits, len(caplog.messages)) == ([], 1)
