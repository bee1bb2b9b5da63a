"""Sends what becomes visible of runs as server-sent events (HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from timestep.errors import InvalidQueryError
from timestep.operations.queries.follow import ALL, Place, Target, check_drawn, place_of
from timestep.operations.queries.live import Page, Reader, Readers
from timestep.operations.queries.records import RunEvent
from timestep.serialization.json_output import dumps
from timestep.web.dependencies import may_still_read
from timestep.web.problems import problem

HEARTBEAT = 15.0
"""Seconds without an event until a comment is sent, so that nobody on the way hangs up."""

_RETRY = 2000
"""Milliseconds until a browser that lost the connection comes back."""

_END = ".end"
"""What the cursor of an end has after that of the last event: who has it was told the end."""

_BLANK = b"\n\n"
_HEADERS = {
    "cache-control": "no-store",
    # Proxies hand on each event as it comes.
    "x-accel-buffering": "no",
}

After = Annotated[
    str | None,
    Query(description="The id of the last event seen, where no Last-Event-ID says it."),
]

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events, until the run is over: docs/streaming.md.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    204: {"description": "It is over, and the caller was told so."},
}

MayRead = Callable[[], Awaitable[bool]]
"""Whether who reads still may; asked before each page, and with each heartbeat."""


def encoded(event: RunEvent) -> bytes:
    """An event of a run as it is sent; `dumps` leaves no line's end in its text."""
    return f"id: {event.cursor}\nevent: {event.kind}\ndata: {dumps(event)}".encode() + _BLANK


def cursor_of(request: Request, after: str | None) -> str | None:
    """The last event that a caller has seen: a browser that comes back says it in a header.

    Raises:
        InvalidQueryError: It is not a cursor.
    """
    given = request.headers.get("last-event-id") or after
    if given is not None:
        try:
            place_of(given)
        except InvalidQueryError as error:
            name = "the header Last-Event-ID" if given != after else "after"
            raise InvalidQueryError(f"{name}: {error.message}: send the id of an event") from error
    return given


async def stream_of(request: Request, target: Target, cursor: str | None) -> EventStream:
    """The answer to a request to read, by who may.

    Raises:
        InvalidQueryError: The cursor is one of another database.
    """
    await asyncio.to_thread(check_drawn, target, cursor)
    may_read = functools.partial(may_still_read, request)
    return EventStream(request.app.state.event_streams, target, cursor, may_read)


def has_seen_end(cursor: str | None) -> bool:
    """Whether a caller was told that the run is over."""
    return cursor is not None and cursor.endswith(_END)


class EventStreams:
    """The readers of one application, which may be as many as its settings say.

    Args:
        limit: How many.
    """

    def __init__(self, limit: int) -> None:
        self.readers = Readers(encoded)
        self.limit = limit

    def close(self) -> None:
        """End all streams, as the process stops; who reads comes back, here or elsewhere."""
        self.readers.close()


class EventStream(Response):
    """The answer to one who reads: events until there are no more, or it leaves.

    Args:
        streams: The application's.
        target: What is read.
        cursor: The last event that the reader has seen.
        may_read: See there.
    """

    media_type = "text/event-stream"

    def __init__(
        self, streams: EventStreams, target: Target, cursor: str | None, may_read: MayRead
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._streams = streams
        self._target = target
        self._may_read = may_read
        self._cursor = cursor
        self._begin: Place | None = place_of(cursor)
        if cursor is None and target == ALL:
            self._begin = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = self._streams
        if len(streams.readers) >= streams.limit:
            text = f"{streams.limit} readers follow runs here: come again later"
            busy = problem(503, text, kind="busy", headers={"Retry-After": "5"})
            await busy(scope, receive, send)
            return
        # It is no request under way that others wait for.
        scope["state"]["is_reader"] = True
        scope["state"]["leave_gate"]()
        with streams.readers.reading(self._target, self._begin) as reader, _heard(receive, reader):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _send(send, f"retry: {_RETRY}".encode() + _BLANK)
            await self._told(reader, send)
            if not reader.is_gone:
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _told(self, reader: Reader, send: Send) -> None:
        """Send all that comes, and the end."""
        is_begun = self._begin is not None
        while not reader.is_gone:
            page = await reader.next(HEARTBEAT)
            if not await self._may_read():
                await _send(send, _told_end("forbidden"))
                return
            if page is None:
                await _send(send, b":" + _BLANK)
                continue
            if not is_begun and page.place is not None:
                # Who is cut off before the first event goes on from here.
                is_begun = True
                await _send(send, f"id: {page.place[0] - 1}.0".encode() + _BLANK)
            if page.entries:
                self._cursor = _cursor(page)
                await _send(send, b"".join(one.sent for one in page.entries))
            if page.end == "stopping":
                await _send(send, b"event: stopping\ndata: {}" + _BLANK)
                return
            if page.end == "over":
                last = f"id: {(self._cursor or _FIRST).removesuffix(_END)}{_END}\n".encode()
                await _send(send, last + _told_end("over", page.status))
                return
            if page.end is not None:
                await _send(send, _told_end(page.end))
                return


_FIRST = "0.0"
"""The cursor of nothing."""


def _cursor(page: Page) -> str:
    sequence, index = page.entries[-1].place
    return f"{sequence}.{index}"


def _told_end(reason: str, status: str | None = None) -> bytes:
    data = dumps({"reason": reason, "status": status})
    return f"event: end\ndata: {data}".encode() + _BLANK


async def _send(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


@contextlib.contextmanager
def _heard(receive: Receive, reader: Reader) -> Iterator[None]:
    """Have a reader leave whose client does."""

    async def hear() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        reader.leave()

    hearing = asyncio.create_task(hear())
    try:
        yield
    finally:
        hearing.cancel()
