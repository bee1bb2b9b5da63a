"""Ends what an execution waits for once it does not own its workflow any more.

A step's statement refuses a lost execution. Until there is one to send, nobody would stop a
model whose answer cannot be recorded: so the owners are looked up, all in one query, by one
thread for all event loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from timestep.dbos_internals.control_errors import lost
from timestep.dbos_internals.workflow_scope import Owner
from timestep.journal.recorder import Recorder
from timestep.runtime import logs, process_state
from timestep.runtime.process_state import PerProcess

_INTERVAL = 1.0
"""Seconds between two looks; what this process cancels is looked for at once."""

_log = logs.logger()


@dataclass(eq=False)
class _Watched:
    recorder: Recorder
    owner: Owner
    loop: asyncio.AbstractEventLoop
    end: Callable[[BaseException], None]


class OwnershipWatch(PerProcess):
    """One thread looks up the owners of the workflows in which this process waits.

    It runs while there is something to watch.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[_Watched] = set()
        self._thread: threading.Thread | None = None
        self._urgent = threading.Event()
        self._is_closed = False

    def add(self, entry: _Watched) -> None:
        with self._lock:
            self._watched.add(entry)
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(
                    target=self._watch, name="timestep-watch", daemon=True
                )
                self._thread.start()

    def discard(self, entry: _Watched) -> None:
        with self._lock:
            self._watched.discard(entry)

    def look_now(self) -> None:
        self._urgent.set()

    def end(self, is_over: Callable[[Owner], bool]) -> None:
        with self._lock:
            for entry in [entry for entry in self._watched if is_over(entry.owner)]:
                if not entry.loop.is_closed():
                    entry.loop.call_soon_threadsafe(entry.end, lost(entry.owner, None))
                self._watched.discard(entry)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._watched.clear()
            thread = self._thread
        self._urgent.set()
        if thread is not None:
            thread.join()

    def _watch(self) -> None:
        while True:
            self._urgent.wait(_INTERVAL)
            self._urgent.clear()
            with self._lock:
                entries = list(self._watched)
                if not entries or self._is_closed:
                    self._thread = None
                    return
            for recorder in {entry.recorder for entry in entries}:
                self._look(recorder, [entry for entry in entries if entry.recorder is recorder])

    def _look(self, recorder: Recorder, entries: list[_Watched]) -> None:
        try:
            holders = recorder.holders({entry.owner.workflow_id for entry in entries})
        except Exception as error:  # noqa: BLE001  # the next look may succeed; steps are fenced
            _log.debug("owners of workflows could not be read: %s", error)
            return
        for entry in entries:
            status, token = holders.get(entry.owner.workflow_id, (None, None))
            if (status, token) == ("PENDING", entry.owner.token):
                continue
            with self._lock:
                is_left = entry not in self._watched or entry.loop.is_closed()
                self._watched.discard(entry)
                if not is_left:
                    # Under the lock: the loop goes on until its run has left.
                    entry.loop.call_soon_threadsafe(entry.end, lost(entry.owner, status))


@contextlib.contextmanager
def watching(
    recorder: Recorder, owner: Owner, end: Callable[[BaseException], None]
) -> Iterator[None]:
    """Call `end` on the caller's loop, with DBOS's own error, once `owner` is not the owner."""
    entry = _Watched(recorder, owner, asyncio.get_running_loop(), end)
    watch = process_state.of(OwnershipWatch)
    watch.add(entry)
    try:
        yield
    finally:
        watch.discard(entry)


def look_now() -> None:
    """Look without waiting: a workflow was cancelled here."""
    process_state.of(OwnershipWatch).look_now()


def end_all() -> None:
    """End what every execution of this process waits for: none owns its workflow any more."""
    process_state.of(OwnershipWatch).end(lambda _: True)


def end_of(owner: Owner) -> None:
    """End what an execution left going that is over: nothing of it can be recorded any more."""
    process_state.of(OwnershipWatch).end(lambda other: other == owner)
