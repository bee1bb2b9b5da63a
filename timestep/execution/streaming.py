"""Drives the loop of a streamed run, and lets its reader stop it."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from agents import Usage

Drive = Callable[..., Awaitable[None]]
"""Called with the SDK's own loop and what the SDK gives it."""


class Streaming:
    """Keeps what drives a streamed run; nothing of it is set where the run is not streamed."""

    def __init__(self) -> None:
        self._drive: Drive | None = None
        self._stop: Callable[[], None] | None = None
        self.answer_usage: Usage | None = None
        """What the newest answer used, its failed attempts included."""

    def begin(self, drive: Drive) -> None:
        """Have the SDK's streamed loop driven by `drive`."""
        self._drive = drive

    async def drive(self, original: Any, *args: Any, **kwargs: Any) -> None:
        """Go on as the SDK's streamed loop does, around which the run is recorded."""
        assert self._drive is not None  # The SDK streams what was begun as a stream.
        await self._drive(original, *args, **kwargs)

    @contextlib.contextmanager
    def driven_by(self, drive: Drive) -> Iterator[None]:
        """Have a loop that is started meanwhile driven by `drive`."""
        before, self._drive = self._drive, drive
        try:
            yield
        finally:
            self._drive = before

    def stop_with(self, stop: Callable[[], None]) -> None:
        """Say how the stream is ended for its reader, as its reader may end it."""
        self._stop = stop

    def stop(self) -> bool:
        """End the stream for its reader; False where the run has none."""
        if self._stop is None:
            return False
        self._stop()
        return True

    def answered(self, usage: Usage | None) -> None:
        """Note what the newest answer used."""
        self.answer_usage = usage

    def close(self) -> None:
        """Let go of the loop and of the reader, which refer to the run."""
        self._drive = self._stop = None
