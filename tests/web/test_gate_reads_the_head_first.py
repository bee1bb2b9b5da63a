"""What a request has to be before the application, or its body, is read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.support.no_tokens import no_tokens_made
from tests.support.problems import problem
from timestep import config
from timestep.config import Settings
from timestep.errors import DatabaseError, DatabaseUnreachableError
from timestep.operations.access import tokens as access_tokens
from timestep.web import app as web_app
from timestep.web.app import create_app
from timestep.web.callers import Callers
from timestep.web.gate import Gate

__all__ = ["no_tokens_made"]

ASK_THE_DATABASE = access_tokens.known
TOKENS = "vera:viewer:see,olga:operator:d\N{LATIN SMALL LETTER O WITH STROKE}"
START = "/api/workflows/nope/runs"


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BODY_LIMIT": "1000", "CONNECTION_LIMIT": "2"}.items():
        monkeypatch.setenv(f"TIMESTEP_{name}", value)
    monkeypatch.setenv("TIMESTEP_CLIENT_TIMEOUT", "600")


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", TOKENS)


@pytest.fixture(autouse=True)
def no_database(monkeypatch: pytest.MonkeyPatch, no_tokens_made: None) -> None:
    """No database is there, but it has said before that no tokens are in it."""
    monkeypatch.setenv("TIMESTEP_DB_URL", "postgresql://secret_user@127.0.0.1:1/secret_name")


def answers(
    work: Callable[[httpx.AsyncClient], Awaitable[None]], app: ASGIApp | None = None
) -> None:
    """Do `work` with a client of the application."""

    async def run() -> None:
        transport = httpx.ASGITransport(app or create_app(config.read(), {}))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            await work(client)

    asyncio.run(run())


class Unread:
    """An application that notes what reaches it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.goes_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append((await receive())["body"])
        if scope["path"] == "/slow":
            await self.goes_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def passed(
    settings: Settings, *messages: Message, path: str = "/api/runs", **headers: str | None
) -> tuple[list[Message], int, Unread]:
    """What the gate answers to messages of a server, and how many of them it took."""
    app, sent, taken = Unread(), [], 0

    async def receive() -> Message:
        nonlocal taken
        if taken == len(messages):
            await asyncio.Event().wait()
        taken += 1
        return messages[taken - 1]

    async def send(message: Message) -> None:
        sent.append(message)

    given = {"host": "127.0.0.1", **headers}
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(name.encode(), text.encode()) for name, text in given.items() if text],
    }
    await Gate(app, settings, Callers(settings))(scope, receive, send)
    return sent, taken, app


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_the_token_comes_before_the_body(tokens: None) -> None:
    sent, taken, app = asyncio.run(passed(config.read(), part(b"x")))
    assert (sent[0]["status"], taken, app.bodies) == (401, 0, [])
    sent, taken, app = asyncio.run(
        passed(config.read(), part(b"x"), part(b"y", more=False), authorization="Bearer see")
    )
    assert (sent[0]["status"], taken, app.bodies) == (200, 2, [b"xy"])


@pytest.mark.parametrize("path", ["/api/runs", "/healthz", "/readyz", "/nope"])
def test_a_body_has_a_limit(path: str) -> None:
    settings, whole = config.read(), part(b"x" * 1000, more=False)
    sent, taken, app = asyncio.run(passed(settings, whole, path=path))
    assert (sent[0]["status"], [len(body) for body in app.bodies]) == (200, [1000])
    length = {"content-length": "1001"}
    sent, taken, app = asyncio.run(passed(settings, part(b""), path=path, **length))
    assert (sent[0]["status"], taken, app.bodies) == (413, 0, [])
    parts = [part(b"x" * 400) for _ in range(5)]
    sent, taken, app = asyncio.run(passed(settings, *parts, path=path))
    assert (sent[0]["status"], taken, app.bodies) == (413, 3, [])


def test_a_body_has_a_timeout_however_it_trickles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_CLIENT_TIMEOUT", "0.02")
    sent, _, app = asyncio.run(passed(config.read(), part(b"x")))
    assert (sent[0]["status"], app.bodies) == (408, [])


def test_nothing_is_answered_to_a_caller_who_has_gone() -> None:
    gone: Message = {"type": "http.disconnect"}
    assert asyncio.run(passed(config.read(), part(b"x"), gone))[0] == []


def test_what_is_refused_is_a_problem(tokens: None) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 500

        see = {"authorization": "Bearer see"}
        assert "no bearer token" in problem(await client.post(START, content=body()), 401)
        assert "1000" in problem(await client.post(START, content=body(), headers=see), 413)
        assert "1000" in problem(await client.post(START, content=b"x" * 1001, headers=see), 413)

    answers(work)


def test_requests_under_way_have_a_limit_and_health_has_none() -> None:
    async def work() -> None:
        app = Unread()
        transport = httpx.ASGITransport(Gate(app, config.read(), Callers(config.read())))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            slow = [asyncio.create_task(client.get("/slow")) for _ in range(2)]
            while len(app.bodies) < 2:  # noqa: ASYNC110  # Two events are no simpler.
                await asyncio.sleep(0)
            busy = await client.get("/api/runs")
            assert "2 requests are under way" in problem(busy, 503)
            assert busy.headers["retry-after"] == "1"
            assert (await client.get("/healthz")).status_code == 200
            app.goes_on.set()
            assert [answer.status_code for answer in await asyncio.gather(*slow)] == [200, 200]
            assert (await client.get("/api/runs")).status_code == 200

    asyncio.run(work())


def test_only_health_is_for_everybody(tokens: None) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        for path in ("/openapi.json", "/docs", "/redoc", "/", "/api", "/api/runs/", "/healthz/"):
            assert "no bearer token" in problem(await client.get(path), 401)
        for sent in ("see", "Basic see", "Bearer", "Bearer ", "bearer  see", "Bearer see see"):
            answer = await client.get("/openapi.json", headers={"authorization": sent})
            assert (answer.status_code == 200) == (sent == "bearer  see"), sent
        twice = [("authorization", "Bearer see"), ("authorization", "Bearer see")]
        assert problem(await client.get("/openapi.json", headers=twice), 401)
        token = TOKENS.rpartition(":")[2].encode()
        known = [(b"authorization", b"Bearer " + token)]
        described = await client.get("/openapi.json", headers=known)
        assert described.json()["components"]["securitySchemes"]["bearer"]
        assert "there is nothing" in problem(await client.get("/docs", headers=known), 404)

    answers(work)


@pytest.mark.parametrize("has_tokens", [False, True])
def test_who_has_no_token_is_not_told_of_the_database(
    has_tokens: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", TOKENS if has_tokens else "")
    monkeypatch.setattr(access_tokens, "known", ASK_THE_DATABASE)

    async def work(client: httpx.AsyncClient) -> None:
        for path in ("/readyz", "/readyz", "/api/runs", "/api/interruptions"):
            answer = await client.get(path)
            assert problem(answer, 401 if has_tokens and "api" in path else 503)
            whole = answer.text + str(answer.headers)
            assert not any(name in whole for name in ("secret", "127.0.0.1", "postgres"))
        assert "cannot be reached" in answer.text or has_tokens
        if has_tokens:
            for path in ("/readyz", "/api/runs"):
                told = await client.get(path, headers={"authorization": "Bearer see"})
                assert "postgresql://secret_user@127.0.0.1:1/secret_name" in problem(told, 503)

    answers(work)
    logged = [record.message for record in caplog.records if "secret_name" in record.message]
    assert len(logged) == 1


def test_a_refusal_of_the_database_is_not_told_either(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str | None:
        raise DatabaseError("postgresql://secret_user@db/secret_name: no")

    monkeypatch.setattr(web_app, "_missing", refuse)

    async def work(client: httpx.AsyncClient) -> None:
        detail = problem(await client.get("/readyz"), 503)
        assert detail == "The database refused. The host's log tells more."

    answers(work)


def test_readiness_is_looked_at_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, goes_on = [], threading.Event()

    def look() -> str | None:
        looks.append(1)
        goes_on.wait()
        raise DatabaseUnreachableError

    monkeypatch.setattr(web_app, "_missing", look)
    monkeypatch.setenv("TIMESTEP_CONNECTION_LIMIT", "100")

    async def work(client: httpx.AsyncClient) -> None:
        asked = [asyncio.create_task(client.get("/readyz")) for _ in range(20)]
        while not looks:  # noqa: ASYNC110  # It is set in another thread.
            await asyncio.sleep(0)
        goes_on.set()
        assert {(await one).status_code for one in asked} == {503}
        assert len(looks) == 1
        assert (await client.get("/readyz")).status_code == 503
        assert len(looks) == 2

    answers(work)


OURS = ("127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]", "[::1]:80", "127.9.9.9")
OTHERS = (
    "evil.example",
    "localhost.evil.example",
    "localhost.",
    "127.0.0.1.",
    "127.0.0.1.nip.io",
    "127.1",
    "0x7f.0.0.1",
    "2130706433",
    "0.0.0.0",
    "0",
    "[::]",
    "[::ffff:8.8.8.8]",
    "10.0.0.1",
)
NO_HOSTS = (
    "",
    "evil.com@127.0.0.1",
    "127.0.0.1@evil.com",
    "user:pass@localhost:80",
    "127.0.0.1:port",
    "127.0.0.1:80:80",
    "127.0.0.1:",
    "127.0.0.1/x",
    "127.0.0.1?x",
    "127.0.0.1#x",
    "127.0.0.1\\x",
    "127.0.0.1, evil.com",
    "127.0.0.1 evil.com",
    "http://127.0.0.1",
    "::1",
    "[::1",
    "[::1%25lo]",
    "[::1%lo]",
    "[",
    "[]",
    "%31%32%37.0.0.1",
    "localhost%00.evil.com",
    "\u0661\u0662\u0667.0.0.1",
    "\uff11\uff12\uff17.0.0.1",
)


def test_only_this_machine_is_this_machine() -> None:
    async def work(client: httpx.AsyncClient) -> None:
        async def named(*hosts: str) -> httpx.Response:
            headers = [(b"host", host.encode("utf-8")) for host in hosts]
            return await client.get("/healthz", headers=headers)

        for host in OURS:
            assert (await named(host)).status_code == 200, host
        for host in OTHERS:
            assert "is not this machine" in problem(await named(host), 403), host
        for host in NO_HOSTS:
            assert "it names one host" in problem(await named(host), 400), host
        assert problem(await named("127.0.0.1", "127.0.0.1"), 400)
        assert problem(await named("127.0.0.1", "evil.com"), 400)
        forwarded = {
            "host": "evil.example",
            "x-forwarded-host": "127.0.0.1",
            "forwarded": "host=::1",
        }
        assert problem(await client.get("/healthz", headers=forwarded), 403)

    answers(work)


def test_a_request_of_http_1_0_need_not_say_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = part(b"", more=False)
    assert (
        asyncio.run(passed(config.read(), whole, path="/healthz", host=None))[0][0]["status"] == 403
    )
    monkeypatch.setenv("TIMESTEP_API_TOKENS", TOKENS)
    assert (
        asyncio.run(passed(config.read(), whole, path="/healthz", host=None))[0][0]["status"] == 200
    )


def test_with_tokens_any_host_is_this_one_if_it_is_a_host(tokens: None) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        for host in (*OURS, *OTHERS):
            assert (await client.get("/healthz", headers={"host": host})).status_code == 200
        for host in NO_HOSTS:
            named = [(b"host", host.encode())]
            assert problem(await client.get("/healthz", headers=named), 400)

    answers(work)


def test_only_own_pages_may_change_anything() -> None:
    async def work(client: httpx.AsyncClient) -> None:
        async def asked(method: str, *origins: str, host: str = "127.0.0.1:8000") -> httpx.Response:
            headers = [("host", host), *(("origin", origin) for origin in origins)]
            return await client.request(method, "/nope", headers=headers)

        own = "http://127.0.0.1:8000"
        for origins in ([], [own], ["https://127.0.0.1:8000"]):
            assert problem(await asked("POST", *origins), 404)
        for origins in (
            ["null"],
            [""],
            ["http://127.0.0.1"],
            ["http://127.0.0.1:3000"],
            ["http://localhost:8000"],
            ["http://evil.com@127.0.0.1:8000"],
            ["http://["],
            ["file://127.0.0.1:8000"],
            [own, "http://evil.example"],
        ):
            for method in ("POST", "PUT", "DELETE", "PATCH", "ODD"):
                assert "only this host's own" in problem(await asked(method, *origins), 403)
            assert problem(await asked("GET", *origins), 404)

    answers(work)


def test_a_path_is_a_path() -> None:
    for path in ("http://evil.example/healthz", "*", "evil.example:80", ""):
        sent, _, app = asyncio.run(passed(config.read(), part(b"", more=False), path=path))
        assert (sent[0]["status"], app.bodies) == (400, [])
