"""Lets running steps end, and none begin, in a process that is told to stop."""

from __future__ import annotations

import asyncio
import threading

_changed = threading.Condition()
_running = 0
_is_closed = False


class Passage:
    """Hold a step back for good where the gate is closed; else count it while it runs."""

    async def __aenter__(self) -> None:
        global _running
        with _changed:
            held = _is_closed
            _running += not held
        if held:
            # Cancelled when DBOS is shut down; the next process executes the step.
            await asyncio.get_running_loop().create_future()

    async def __aexit__(self, *_: object) -> None:
        leave()


def stay() -> None:
    """Count a step for longer: `leave` says that it has ended."""
    global _running
    with _changed:
        _running += 1


def leave() -> None:
    """A step that stayed has ended."""
    global _running
    with _changed:
        _running -= 1
        _changed.notify_all()


def close() -> None:
    """Let no further step begin."""
    global _is_closed
    with _changed:
        _is_closed = True


def is_closed() -> bool:
    """Whether no further step begins."""
    return _is_closed


def wait(timeout: float) -> bool:
    """Wait until no step runs, at most `timeout` seconds; whether none does."""
    with _changed:
        return _changed.wait_for(lambda: _running == 0, timeout)


def reopen() -> None:
    """For a process that launches DBOS again."""
    global _is_closed
    with _changed:
        _is_closed = False
