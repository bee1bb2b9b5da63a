"""A client refuses addresses and tokens that cannot be used, and tells no token."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from timestep.client.client import Client
from timestep.errors import ConfigurationError, HostUnreachableError, InvalidInputError, RemoteError

SECRET = "ts_0123456789012345678901234567890123456789abc"


@pytest.mark.parametrize(
    ("url", "token", "told"),
    [
        ("", None, "is not a URL"),
        ("runs.example.com", None, "is not a URL"),
        ("ftp://runs.example.com", None, "is not a URL"),
        ("https://runs.example.com?a=b", None, "is not a URL"),
        ("https://runs.example.com:port", None, "is not a URL"),
        (f"https://ann:{SECRET}@runs.example.com", None, "has a user or a password"),
        ("https://runs.example.com", f"{SECRET}\n", "characters that no token has"),
        ("https://runs.example.com", f"{SECRET}\u00e9", "characters that no token has"),
        ("https://runs.example.com", "", "characters that no token has"),
        ("http://runs.example.com", SECRET, "TIMESTEP_PLAIN_HTTP=true"),
        ("http://127.0.0.1.example.com", SECRET, "TIMESTEP_PLAIN_HTTP=true"),
        ("http://10.0.0.1:8000", SECRET, "TIMESTEP_PLAIN_HTTP=true"),
    ],
)
def test_what_cannot_be_used_is_refused_at_once(url: str, token: str | None, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as refused:
        Client(url, token)
    assert SECRET not in str(refused.value)


def test_plain_http_is_for_this_machine_or_who_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://localhost:1", "http://127.0.0.1", "http://[::1]:1", "http://127.9.9.9"):
        Client(url, SECRET)
    Client("http://runs.example.com")
    Client("http://runs.example.com", SECRET, plain_http=True)
    monkeypatch.setenv("TIMESTEP_PLAIN_HTTP", "true")
    Client("http://runs.example.com", SECRET)
    with pytest.raises(ConfigurationError):
        Client("http://runs.example.com", SECRET, plain_http=False)


def test_the_environment_names_host_and_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="set TIMESTEP_URL"):
        Client()
    monkeypatch.setenv("TIMESTEP_URL", "https://runs.example.com/below/")
    monkeypatch.setenv("TIMESTEP_TOKEN", SECRET)
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"items": [], "next_cursor": None})

    async def work() -> None:
        async with Client(transport=httpx.MockTransport(answer)) as client:
            assert repr(client) == "Client('https://runs.example.com/below')"
            assert await client.agents() == []

    asyncio.run(work())
    (request,) = seen
    assert str(request.url) == "https://runs.example.com/below/api/agents?limit=200"
    assert request.headers["authorization"] == f"Bearer {SECRET}"


def test_no_error_has_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused() -> None:
        async with Client("http://127.0.0.1:9", SECRET) as client:
            with pytest.raises(HostUnreachableError, match=r"http://127\.0\.0\.1:9 cannot") as away:
                await client.get_run("a")
            assert SECRET not in repr(away.value)
            with pytest.raises(InvalidInputError, match="JSON's types"):
                await client.start("greet", {"name": object()})
            with pytest.raises(InvalidInputError, match="JSON's types"):
                await client.start("greet", {"name": float("nan")})
            with pytest.raises(InvalidInputError, match="is empty: give one"):
                await client.get_run("")

    monkeypatch.setattr("timestep.client.connection._PAUSES", (0.0,))
    asyncio.run(refused())


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (httpx.Response(200, text="<html>"), "is not JSON: is it a host"),
        (httpx.Response(200, json=[]), "is no list"),
        (httpx.Response(200, json={"items": [{}], "next_cursor": None}), "answers oddly"),
        (httpx.Response(302, headers={"location": "https://evil.example"}), "302 Found"),
        (httpx.Response(502, text="<html>"), "502 Bad Gateway"),
        (httpx.Response(299, json=3), "is no list"),
        (httpx.Response(599), "599"),
    ],
)
def test_what_answers_and_is_no_host_is_told(answer: httpx.Response, told: str) -> None:
    async def work() -> None:
        transport = httpx.MockTransport(lambda request: answer)
        async with Client("https://runs.example.com", SECRET, transport=transport) as client:
            with pytest.raises(RemoteError, match=told) as refused:
                await client.agents()
            assert SECRET not in repr(refused.value)

    asyncio.run(work())


@pytest.mark.parametrize("answer", [[], {}, "w", {"id": "w"}])
def test_what_answers_without_what_was_asked_for_is_told(answer: object) -> None:
    async def work() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answer))
        async with Client("https://runs.example.com", transport=transport) as client:
            for asked in (
                client.start("greet"),
                client.fork("r", turn=1),
                client.create_token("ann", role="viewer"),
                client.graph("greet"),
                client.traceback("r"),
            ):
                with pytest.raises(RemoteError, match="answers oddly"):
                    await asked

    asyncio.run(work())
