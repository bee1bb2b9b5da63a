"""What is lost on the way is asked for again where that does nothing twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from timestep.client.client import Client
from timestep.errors import (
    DatabaseUnreachableError,
    HostUnreachableError,
    InvalidQueryError,
    RemoteError,
    UnknownRunError,
    UnreadableValueError,
)
from timestep.operations.queries.records import RunEvent

Answers = Iterator[httpx.Response | Exception]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timestep.client.connection._PAUSES", (0.0, 0.0))
    monkeypatch.setattr("timestep.client.events._FIRST_PAUSE", 0.0)


class Network(httpx.AsyncBaseTransport):
    """Answers each request with the next of some answers, or fails."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = iter(answers)
        self.requests: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Cut(httpx.AsyncByteStream):
    """A body that is cut off."""

    def __init__(self, *parts: str, error: Exception | None = None) -> None:
        self._parts = parts
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part.encode()
        if self._error is not None:
            raise self._error


def asking(network: Network, work: Callable[[Client], Any]) -> None:
    async def run() -> None:
        async with Client("http://127.0.0.1", transport=network) as client:
            await work(client)

    asyncio.run(run())


LOST = httpx.ReadError("lost")
REFUSED = httpx.ConnectError("refused")
STARTED = httpx.Response(202, json={"workflow_id": "w"})


def test_a_start_is_sent_again_with_the_same_id() -> None:
    network = Network(LOST, REFUSED, STARTED)

    async def work(client: Client) -> None:
        assert await client.start("greet", {"name": "Ann"}) == "w"

    asking(network, work)
    assert len({request.content for request in network.requests}) == 1
    assert json.loads(network.requests[0].content)["workflow_id"]


def test_what_would_be_done_twice_is_sent_again_only_if_it_cannot_have_come() -> None:
    async def work(client: Client) -> None:
        assert await client.fork("r", turn=1) == "w"
        for again in (
            client.fork("r", turn=1),
            client.resume("w", from_checkpoint=True),
            client.resume("w", again=True),
            client.create_token("a", role="viewer"),
        ):
            with pytest.raises(HostUnreachableError, match="lost"):
                await again

    network = Network(REFUSED, STARTED, *[LOST] * 4)
    asking(network, work)
    assert len(network.requests) == 6


def test_it_is_given_up_in_the_end() -> None:
    async def work(client: Client) -> None:
        with pytest.raises(HostUnreachableError, match="lost"):
            await client.get_run("r")

    network = Network(LOST, LOST, LOST)
    asking(network, work)
    assert len(network.requests) == 3


def event(number: int, **more: Any) -> str:
    data = {
        "cursor": f"{number}.0", "kind": "item", "type": "t", "run_id": "r", "turn": 1,
        "position": number, "attempt": None, "response_id": None, "data": {"text": "ä\u2028"},
        "created_at": "2026-01-31T12:00:00+00:00", **more,
    }  # fmt: skip
    return f"id: {number}.0\nevent: item\ndata: {json.dumps(data)}\n\n"


END = 'id: 4.0.end\nevent: end\ndata: {"reason": "over", "status": "completed"}\n\n'


def stream(*parts: str, error: Exception | None = None) -> httpx.Response:
    return httpx.Response(
        200, headers={"content-type": "text/event-stream"}, stream=Cut(*parts, error=error)
    )


def problem(status: int, kind: str) -> httpx.Response:
    return httpx.Response(status, json={"type": f"urn:timestep:{kind}", "detail": "it is away"})


def numbers(found: list[RunEvent]) -> list[int]:
    return [one.position for one in found]


def test_events_go_on_after_the_last_one_that_came_as_a_whole() -> None:
    half = event(3)[:-1]
    network = Network(
        stream("retry: 1\n\n", ": beat\n\n", "id: 0.0\n\n", event(1), event(2), half, error=LOST),
        REFUSED,
        problem(503, "database-unreachable"),
        problem(503, "busy"),
        httpx.Response(502, text="<html>"),
        stream("retry: 1\n\n", event(3)[:20], event(3)[20:], "event: stopping\ndata: {}\n\n"),
        stream(),
        stream(event(4), END, event(5)),
    )

    async def work(client: Client) -> None:
        assert numbers([one async for one in client.events("a/b")]) == [1, 2, 3, 4]

    asking(network, work)
    last = [request.headers.get("last-event-id") for request in network.requests]
    assert last == [None, *["2.0"] * 5, "3.0", "3.0"]
    assert {request.url.raw_path for request in network.requests} == {b"/api/runs/a%2Fb/events"}


def test_events_begin_where_the_caller_says_and_end_with_what_was_seen() -> None:
    network = Network(httpx.Response(204))

    async def work(client: Client) -> None:
        assert [one async for one in client.events("w", after="4.0.end")] == []

    asking(network, work)
    assert network.requests[0].headers["last-event-id"] == "4.0.end"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (stream('event: end\ndata: {"reason": "deleted"}\n\n'), UnknownRunError),
        (stream('event: end\ndata: {"reason": "unreadable"}\n\n'), UnreadableValueError),
        (stream('event: end\ndata: {"reason": "forbidden"}\n\n'), RemoteError),
        (problem(404, "unknown-run"), UnknownRunError),
        (problem(422, "invalid-query"), InvalidQueryError),
        (httpx.Response(401, json={}), RemoteError),
        (REFUSED, HostUnreachableError),
        (problem(503, "database-unreachable"), DatabaseUnreachableError),
        (problem(503, "busy"), RemoteError),
        # A page to log in, of a proxy before the host, is asked for no second time.
        (httpx.Response(200, html="<html>"), RemoteError),
        (stream("data: <html>\n\n"), RemoteError),
        (stream("data: []\n\n"), RemoteError),
        (stream("event: end\ndata: []\n\n"), RemoteError),
    ],
)
def test_what_ends_a_stream_is_raised(
    answer: httpx.Response | Exception, expected: type[Exception]
) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(expected):
            [one async for one in client.events("w", patience=0)]

    network = Network(answer)
    asking(network, work)
    assert len(network.requests) == 1
