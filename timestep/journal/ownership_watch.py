"""Ends what an execution waits for once it does not own its workflow any more.

A step's statement refuses a lost execution. Until there is one to send, nobody would stop a
model whose answer cannot be recorded: so the owners are looked up, all in one query, by one
thread for all event loops.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from timestep.dbos_internals.control_errors import lost
from timestep.dbos_internals.workflow_scope import Owner
from timestep.journal.recorder import Recorder

_INTERVAL = 1.0
"""Seconds between two looks; what this process cancels is looked for at once."""

_log = logging.getLogger("timestep")


@dataclass(eq=False)
class _Watched:
    recorder: Recorder
    owner: Owner
    loop: asyncio.AbstractEventLoop
    end: Callable[[BaseException], None]


_lock = threading.Lock()
_watched: set[_Watched] = set()
_is_watching = False
_urgent = threading.Event()


@contextlib.contextmanager
def watching(
    recorder: Recorder, owner: Owner, end: Callable[[BaseException], None]
) -> Iterator[None]:
    """Call `end` on the caller's loop, with DBOS's own error, once `owner` is not the owner."""
    global _is_watching
    entry = _Watched(recorder, owner, asyncio.get_running_loop(), end)
    with _lock:
        _watched.add(entry)
        if not _is_watching:
            _is_watching = True
            threading.Thread(target=_watch, name="timestep-watch", daemon=True).start()
    try:
        yield
    finally:
        with _lock:
            _watched.discard(entry)


def look_now() -> None:
    """Look without waiting: a workflow was cancelled here."""
    _urgent.set()


def _watch() -> None:
    global _is_watching
    while True:
        _urgent.wait(_INTERVAL)
        _urgent.clear()
        with _lock:
            entries = list(_watched)
            if not entries:
                _is_watching = False
                return
        for recorder in {entry.recorder for entry in entries}:
            _look(recorder, [entry for entry in entries if entry.recorder is recorder])


def _look(recorder: Recorder, entries: list[_Watched]) -> None:
    try:
        holders = recorder.holders({entry.owner.workflow_id for entry in entries})
    except Exception as error:  # noqa: BLE001  # the next look may succeed; steps are fenced anyway
        _log.debug("owners of workflows could not be read: %s", error)
        return
    for entry in entries:
        status, token = holders.get(entry.owner.workflow_id, (None, None))
        if (status, token) == ("PENDING", entry.owner.token):
            continue
        with _lock:
            is_left = entry not in _watched or entry.loop.is_closed()
            _watched.discard(entry)
            if not is_left:
                # Under the lock: the loop goes on until its run has left.
                entry.loop.call_soon_threadsafe(entry.end, lost(entry.owner, status))
