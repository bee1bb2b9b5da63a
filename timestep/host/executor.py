"""Launches DBOS, and ends it when the process stops or another host is its executor."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dbos import DBOS

from timestep.dbos_internals import presence, process
from timestep.journal import ownership_watch
from timestep.runtime import draining
from timestep.runtime.process_state import PerProcess

_POLL = 0.1
"""Seconds between two looks at whether running steps have ended."""


class Executor(PerProcess):
    """Has this process execute workflows once; ended, only one that begins anew does.

    DBOS would have another event loop, which what the application has connected does not survive;
    and threads may be left of what was ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Held while DBOS is being launched or ended."""
        self._is_over = False
        self._ending: threading.Thread | None = None
        self.is_free = False
        """Whether this process was suspended, and might execute workflows if it began anew."""
        self.when_free: Callable[[], None] = _nothing
        """Called then, in any thread."""

    def begin(self, launch: Callable[[], None]) -> None:
        """Launch DBOS, unless another host has become this executor meanwhile."""
        with self._lock:
            if not self._is_over:
                launch()

    def suspend(self) -> None:
        """Begin nothing, and end what is executed, as another host does it: none is recorded."""
        draining.close()
        ownership_watch.end_all()
        self._ending = threading.Thread(target=self._end, name="timestep-executor", daemon=True)
        self._ending.start()

    def free(self) -> None:
        """Take note that the other host has ended."""
        self.is_free = True
        self.when_free()

    def end(self, grace: float, is_urgent: Callable[[], bool]) -> None:
        """End DBOS: steps that run may end within `grace` seconds, and no other one begins.

        Args:
            grace: Seconds.
            is_urgent: Asked again and again; True ends the wait.
        """
        draining.close()
        if presence.is_launched():
            process.stop_dequeuing()
        waited = 0.0
        while waited < grace and not is_urgent() and not draining.wait(_POLL):
            waited += _POLL
        self._end()

    def close(self) -> None:
        if self._ending is not None:
            self._ending.join()

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            if presence.is_launched():
                process.stop_dequeuing()
            # Tasks of the workflows are cancelled, and record nothing.
            DBOS.destroy()


def _nothing() -> None:
    pass
