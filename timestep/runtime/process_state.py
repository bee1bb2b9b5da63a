"""Holds what a process has one of: its connections, its threads, its lists of what goes on.

Each kind of them is a class with its lock inside. The first who asks for one makes it, so that
importing Timestep makes nothing. A test has a new state of its own, and closes it; a forked child
begins anew, because what is connected, or runs, belongs to its parent.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, TypeVar


class PerProcess:
    """An object of which a process holds one; it is made without arguments when first asked for."""

    def close(self) -> None:
        """Let go of everything: end and join threads, close connections."""

    def is_kept_in_child(self) -> bool:
        """Let go, in a forked child, of what is the parent's; whether the child keeps the rest."""
        return False


K = TypeVar("K", bound=PerProcess)


class ProcessState:
    """Holds the process's objects, one of each kind, in the order in which they were made."""

    def __init__(self, parent: ProcessState | None = None) -> None:
        # Re-entrant: making one object may ask for another one.
        self._lock = threading.RLock()
        self.held: dict[type[PerProcess], Any] = {}
        self._parent = parent
        """Kept, so that nothing of it is collected: a collected connection closes the parent's."""

    def make(self, kind: type[K]) -> K:
        """Make the object of a kind, unless another thread has made it meanwhile."""
        with self._lock:
            found: K | None = self.held.get(kind)
            if found is None:
                _tell_of_forks()
                found = self.held[kind] = kind()
            return found

    def close(self) -> None:
        """Close every object, the newest first: each may need those that were made before it.

        What fails to close keeps none of the others open.

        Raises:
            Exception: What the first of them raised.
        """
        failure: Exception | None = None
        while (newest := self._taken()) is not None:
            try:
                newest.close()
            except Exception as error:  # noqa: BLE001  # raised once the others are closed
                failure = failure or error
        if failure is not None:
            raise failure

    def _taken(self) -> PerProcess | None:
        with self._lock:
            return self.held.popitem()[1] if self.held else None


_current = ProcessState()
_forks_are_told: set[int] = set()


def of(kind: type[K]) -> K:
    """The object of a kind that this process holds; made if there is none."""
    found: K | None = _current.held.get(kind)
    return _current.make(kind) if found is None else found


def close() -> None:
    """Close every object that this process holds. What is asked for later is made anew."""
    _current.close()


@contextlib.contextmanager
def renewed() -> Iterator[None]:
    """Let a test begin with a new state, which is closed at its end; then the old one is back."""
    global _current
    before, _current = _current, ProcessState()
    try:
        yield
    finally:
        try:
            _current.close()
        finally:
            _current = before


def _tell_of_forks() -> None:
    """Python begins a new state in each child that is forked from here on."""
    if not _forks_are_told:
        # It cannot be taken back, so it is said once; children inherit it.
        _forks_are_told.add(os.getpid())
        os.register_at_fork(after_in_child=_begin_anew)


def _begin_anew() -> None:
    global _current
    parent = _current
    _current = ProcessState(parent)
    _current.held.update(
        {kind: held for kind, held in parent.held.items() if held.is_kept_in_child()}
    )
