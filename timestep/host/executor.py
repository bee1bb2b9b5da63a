"""Has DBOS launched in this process for as long as the process may execute workflows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from dbos import DBOS

from timestep.dbos_internals import process
from timestep.journal import ownership_watch
from timestep.runtime import draining
from timestep.runtime.process_state import PerProcess

_POLL = 0.1
"""Seconds between two looks at whether running steps have ended."""
_PAUSE = 1.0
"""Seconds between two attempts to launch DBOS again."""
_PATIENCE = 10.0
"""Seconds that a launch which is under way is waited for at the end."""

_log = logging.getLogger("timestep")


class Executor(PerProcess):
    """Launches DBOS, ends it while another host is the executor, and launches it again."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._turns = 0
        """How often it was allowed again: two of them in a row need a launch between them."""
        self._wanted: int | None = 0
        self._followed: int | None = 0
        """In which turn this process may execute workflows, and executes them; None: in none."""
        self._is_over = False
        self._thread: threading.Thread | None = None

    def begin(self, launch: Callable[[], None]) -> None:
        """Launch DBOS now, and after each time that this process might not execute.

        Args:
            launch: Launches DBOS. What it raises now is the caller's, and is tried again later.
        """
        launch()
        self._thread = threading.Thread(
            target=self._follow, args=(launch,), name="timestep-executor", daemon=True
        )
        self._thread.start()

    def allow(self, may: bool) -> None:
        """Say whether this process may execute workflows; it follows soon.

        From now on no step begins where it may not, and what runs wait for is ended.
        """
        if not may:
            draining.close()
            ownership_watch.end_all()
        with self._changed:
            self._turns += may
            self._wanted = self._turns if may else None
            self._changed.notify_all()

    def end(self, grace: float, is_urgent: Callable[[], bool]) -> None:
        """End DBOS: steps that run may end within `grace` seconds, and no other one begins.

        Args:
            grace: Seconds.
            is_urgent: Asked again and again; True ends the wait.
        """
        draining.close()
        if process.is_launched():
            process.stop_dequeuing()
        waited = 0.0
        while waited < grace and not is_urgent() and not draining.wait(_POLL):
            waited += _POLL
        self.close()
        self._end()

    def close(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _follow(self, launch: Callable[[], None]) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._is_to_change)
                if self._is_over:
                    return
                wanted = self._wanted
            try:
                # What a launch that failed has left is ended, too.
                self._end()
                if wanted is not None:
                    launch()
                self._followed = wanted
            except Exception as error:  # noqa: BLE001  # said, and tried again
                _log.warning("workflows cannot be executed yet, trying again: %s", error)
                with self._changed:
                    self._changed.wait_for(lambda: self._is_over, _PAUSE)

    def _is_to_change(self) -> bool:
        return self._is_over or self._wanted != self._followed

    def _end(self) -> None:
        if process.is_launched():
            process.stop_dequeuing()
        # Tasks of the workflows are cancelled, and record nothing.
        DBOS.destroy()
