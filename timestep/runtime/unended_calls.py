"""Keeps the tool calls that go on in this process, though their execution may be over.

A thread cannot be stopped, and a coroutine may answer its cancellation. A workflow that is
cancelled, and resumed at once, comes again to a call that is still being made: it waits for what
that gives, and records it, and the call is not made a second time.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from timestep.runtime import logs, process_state
from timestep.runtime.process_state import PerProcess

_LOOK = 1.0
"""Seconds between two looks whether the loop still runs that a call goes on in."""

_KEPT = 600.0
"""Seconds for which an outcome that nobody could record is kept, after its end: an execution that
begins anew is at the call much sooner."""

_ROOM = 100
"""How many calls are kept before those are looked for that ended so long ago."""

_log = logs.logger()


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    result: Any
    error: Exception | None
    """What it raised, if it did."""
    context_change: dict[str, Any]
    """What it changed in the run's context, as its row has it."""
    attempts: dict[str, Any]
    """How often its tool's body was begun, and what became of that, as its row has it."""


@dataclass(eq=False)
class UnendedCall:
    """A call from its beginning until its outcome is recorded."""

    name: str
    """The call, for people."""
    loop: asyncio.AbstractEventLoop
    """What it goes on in."""
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    """When it ended, on `time.monotonic`."""
    _outcome: Future[Outcome | None] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # Who waits for it may be cancelled, and it goes on.
        self._outcome.set_running_or_notify_cancel()

    @property
    def has_ended(self) -> bool:
        """Whether somebody said how it ended."""
        return self._outcome.done()

    def end(self, outcome: Outcome | None) -> None:
        """Say how it ended: None where it was given up, or came to no outcome of its own."""
        self.ended = time.monotonic()
        self._outcome.set_result(outcome)

    async def wait(self) -> None:
        """Wait for the call's end, for as long as there may be one."""
        waiting = asyncio.wrap_future(self._outcome)
        while not waiting.done() and self.loop.is_running():
            await asyncio.wait([waiting], timeout=_LOOK)

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None where it has not, or came to no outcome."""
        return self._outcome.result() if self.has_ended else None


class UnendedCalls(PerProcess):
    """A process keeps the calls it makes, until the outcome of each is recorded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[object, UnendedCall] = {}
        self._room = _ROOM

    def begin(self, key: object, call: UnendedCall) -> None:
        """Keep a call."""
        with self._lock:
            if len(self._calls) >= self._room:
                self._drop_old()
            self._calls[key] = call

    def _drop_old(self) -> None:
        """Let go of those that ended long ago, whose workflows go on elsewhere, or not at all."""
        oldest = time.monotonic() - _KEPT
        for key, kept in list(self._calls.items()):
            if kept.ended is not None and kept.ended < oldest:
                del self._calls[key]
        self._room = max(_ROOM, 2 * len(self._calls))

    def find(self, key: object) -> UnendedCall | None:
        return self._calls.get(key)

    def forget(self, key: object) -> None:
        with self._lock:
            self._calls.pop(key, None)


async def ended(key: object) -> UnendedCall | None:
    """The call that an earlier execution began here, once it has ended, and with which outcome.

    Args:
        key: Which call: the same in every execution.

    Returns:
        None where there is none whose outcome is not recorded.
    """
    calls = process_state.of(UnendedCalls)
    if (call := calls.find(key)) is None:
        return None
    if not call.has_ended:
        _log.warning(
            "%s is still being made by an execution before this one, which cannot be stopped: its "
            "end is waited for; if it never comes, restart this process",
            call.name,
        )
        await call.wait()
    if call.outcome is None:
        calls.forget(key)
        return None
    return call


def is_kept(key: object) -> bool:
    """Whether an earlier execution made a call here whose outcome is not recorded."""
    return process_state.of(UnendedCalls).find(key) is not None


def has_outcome(key: object) -> bool:
    """Whether such a call has ended, with an outcome of its own."""
    call = process_state.of(UnendedCalls).find(key)
    return call is not None and call.outcome is not None


@contextlib.contextmanager
def going_on(key: object, name: str) -> Iterator[UnendedCall]:
    """While a call is made; who makes it says how it ended."""
    calls = process_state.of(UnendedCalls)
    call = UnendedCall(name, asyncio.get_running_loop())
    calls.begin(key, call)
    try:
        yield call
    finally:
        if not call.has_ended:
            calls.forget(key)
            call.end(None)


def recorded(key: object) -> None:
    """Let go of a call whose outcome is recorded."""
    process_state.of(UnendedCalls).forget(key)
