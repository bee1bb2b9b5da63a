"""Lets running steps end, and none begin, in a process that is told to stop."""

from __future__ import annotations

import asyncio
import threading

from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess


class Gate(PerProcess):
    """Counts the steps that run in this process, and lets none begin once it is closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self.is_closed = False

    def enter(self) -> bool:
        """Count a step, unless the gate is closed; whether the step is counted."""
        with self._changed:
            self._running += not self.is_closed
            return not self.is_closed

    def stay(self) -> None:
        """Count a step that has begun for longer."""
        with self._changed:
            self._running += 1

    def leave(self) -> None:
        """Count a step no more."""
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait until no step runs, at most `timeout` seconds; whether none does."""
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, timeout)

    def close(self) -> None:
        with self._changed:
            self.is_closed = True

    def reopen(self) -> None:
        with self._changed:
            self.is_closed = False


class Passage:
    """Hold a step back for good where the gate is closed; else count it while it runs."""

    async def __aenter__(self) -> None:
        self._gate = process_state.of(Gate)
        if not self._gate.enter():
            # Cancelled when DBOS is shut down; the next process executes the step.
            await asyncio.get_running_loop().create_future()

    async def __aexit__(self, *_: object) -> None:
        self._gate.leave()


def stay() -> Gate:
    """Count a step for longer: `leave` of what is returned says that it has ended."""
    gate = process_state.of(Gate)
    gate.stay()
    return gate


def close() -> None:
    """Let no further step begin."""
    process_state.of(Gate).close()


def is_closed() -> bool:
    """Whether no further step begins."""
    return process_state.of(Gate).is_closed


def wait(timeout: float) -> bool:
    """Wait until no step runs, at most `timeout` seconds; whether none does."""
    return process_state.of(Gate).wait(timeout)


def reopen() -> None:
    """For a process that launches DBOS again."""
    process_state.of(Gate).reopen()
