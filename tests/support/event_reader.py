"""Reads server-sent events, as a browser's EventSource does."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.conditions import until


@dataclass(frozen=True)
class Event:
    id: str
    """The last id that was said with it, or before it."""
    event: str
    data: Any


class EventReader:
    """Reads a stream in a thread, until it ends or is cut off.

    Args:
        url: Of the stream.
        last: The id of the last event that was seen.
        headers: Further ones.
    """

    def __init__(self, url: str, last: str | None = None, **headers: str) -> None:
        self.url = url
        self.last = last
        self.headers = headers
        self.events: list[Event] = []
        self.comments = 0
        self.status: int | None = None
        self.answer: httpx.Response | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def until(self, *types: str) -> EventReader:
        """Wait until events of these types, of the last one of which nothing is said yet, came."""
        until(lambda: set(types) <= {type_of(one) for one in self.events} or self.is_over)
        assert set(types) <= {type_of(one) for one in self.events}, self.events
        return self

    def begun(self) -> EventReader:
        """Wait until it was answered."""
        until(lambda: self.status is not None or self.is_over)
        return self

    def ended(self) -> list[Event]:
        """All events, once the stream is over."""
        until(lambda: self.is_over)
        return self.events

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def close(self) -> None:
        """Hang up."""
        if self.answer is not None:
            stream: Any = self.answer.extensions["network_stream"]
            with contextlib.suppress(OSError):
                stream.get_extra_info("socket").shutdown(2)
        self._thread.join(60)

    def _read(self) -> None:
        given = dict(self.headers) if self.last is None else {"Last-Event-ID": self.last}
        with (
            httpx.Client(verify=False, timeout=None) as client,
            contextlib.suppress(httpx.TransportError),
            client.stream("GET", self.url, headers={**self.headers, **given}) as answer,
        ):
            self.answer, self.status = answer, answer.status_code
            if answer.status_code == 200:
                for event in self._parsed(answer.iter_lines()):
                    self.events.append(event)
            else:
                answer.read()

    def _parsed(self, lines: Iterator[str]) -> Iterator[Event]:
        kind = "message"
        data: list[str] = []
        for line in lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not line:
                if data:
                    yield Event(self.last or "", kind, json.loads("\n".join(data)))
                kind, data = "message", []
            elif not name:
                self.comments += 1
            elif name == "id":
                self.last = value
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)


def type_of(event: Event) -> str:
    """What an event is about: its type, or its name where it has none."""
    return str(event.data.get("type", event.event))
