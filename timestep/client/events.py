"""Reads server-sent events (HTML standard, section 9.2), and goes on where it was cut off."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from timestep.client.connection import Connection
from timestep.client.documents import record
from timestep.errors import (
    DatabaseError,
    RemoteError,
    TimestepError,
    UnknownRunError,
    UnreadableValueError,
)
from timestep.operations.queries.records import RunEvent

_SILENCE = 45.0
"""Seconds without a word after which a connection is given up: a host says one all 15."""
_FIRST_PAUSE = 0.1
_PAUSE = 2.0
"""Seconds until it is asked again, at first and at most, where the host says nothing else."""
_NO_CONTENT = 204
_PASSING = (502, 503, 504)
"""What a proxy answers while its host is away, and a host that is busy."""


@dataclass
class _Place:
    """How far a stream was read, over all its connections."""

    last: str | None
    """The id of the last event."""
    pause: float = _PAUSE
    """Seconds after which the host wants to be asked again."""
    heard_at: float = field(default_factory=time.monotonic)
    """When there was a connection last."""


async def events(
    connection: Connection, path: str, *, after: str | None, patience: float
) -> AsyncIterator[RunEvent]:
    """Events of a stream, each once, until it ends; where it is cut off, it is asked for anew.

    Args:
        connection: To the host.
        path: Of the stream.
        after: The `cursor` of the last event that was seen.
        patience: Seconds without a connection after which that is an error.

    Raises:
        HostUnreachableError: There was none for so long.
        UnknownRunError: There is no such run, or it was deleted meanwhile.
        RemoteError: The caller may not, or may no longer, view; or what answers is no host.
    """
    place = _Place(after)
    pause = _FIRST_PAUSE
    while True:
        headers = {} if place.last is None else {"Last-Event-ID": place.last}
        failure: TimestepError | None = None
        try:
            async with connection.stream(path, headers, _SILENCE) as answer:
                if answer.status_code == _NO_CONTENT:
                    return
                if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                    raise connection.odd(f"{path} is no stream of events")
                pause = _FIRST_PAUSE
                async for kind, data in _messages(answer, place):
                    place.heard_at = time.monotonic()
                    if kind == "end":
                        _check_end(path, data)
                        return
                    if kind != "stopping":
                        yield record(RunEvent, data)
                place.heard_at = time.monotonic()
        except httpx.TransportError as error:
            failure = connection.unreachable(error)
        except (DatabaseError, RemoteError) as error:
            if isinstance(error, RemoteError) and error.status not in _PASSING:
                raise
            failure = error
        except ValueError as error:
            raise connection.odd(error) from error
        if failure is not None and time.monotonic() - place.heard_at >= patience:
            raise failure
        await asyncio.sleep(pause)
        pause = min(2 * pause, place.pause)


async def _messages(
    answer: httpx.Response, place: _Place
) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The name and the data of each event that came as a whole; `place` is after it."""
    kind, data, id_ = "message", list[str](), place.last
    async for line in answer.aiter_lines():
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            place.last = id_
            if data:
                yield kind, _object("\n".join(data))
            kind, data = "message", []
        elif name == "id":
            id_ = value
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "retry" and value.isdecimal():
            place.pause = int(value) / 1000


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"an event holds no object, but {found!r:.100}")
    return found


def _check_end(path: str, data: dict[str, Any]) -> None:
    """Raise unless a stream ended because nothing more comes."""
    reason = data.get("reason")
    if reason == "deleted":
        raise UnknownRunError(f"the run of {path} was deleted meanwhile")
    if reason == "unreadable":
        raise UnreadableValueError(f"the host cannot read what is recorded next of {path}")
    if reason == "forbidden":
        raise RemoteError(
            f"the token may not read {path} any more", status=403, detail="the stream was ended"
        )
