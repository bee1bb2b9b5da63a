"""Ends an execution of a run before the run's own end: at a timeout, an error, a lost owner."""

from __future__ import annotations

import asyncio
import uuid

from timestep.dbos_internals import control_errors
from timestep.errors import RunTimeoutError
from timestep.runtime.cancellation import Cut
from timestep.serialization import exceptions

LACKS = "lacks"
"""What the recorded error has of a run that no model could be found for."""


class Limits:
    """Ends what a run waits for, and lets nothing be recorded that comes too late.

    Args:
        around: Those of the run that the run is inside of: when that one is cut off, so is
            this one.
    """

    def __init__(self, around: Limits | None) -> None:
        self._around = around
        self._is_closed = False
        self.failure: BaseException | None = None
        """What ends the run, and the SDK must not answer, as it answers an Exception of a tool."""
        self.cut = Cut()
        """Ends this execution of the run, before its own end."""
        self.ended = asyncio.Event()
        """Set when this execution of the run is over."""
        self.timeout: float | None = None
        """Seconds that the run has until it ends, or stops for a person, or none."""
        self._lack: str | None = None
        """What the application was said to lack; not the error, which holds all that it ran."""

    def begin_again(self) -> None:
        """Let the run go on after it stopped for people."""
        self.ended = asyncio.Event()
        self.cut = Cut()

    def fail(self, error: BaseException) -> None:
        """Let an error end the run that the SDK must not answer."""
        self.failure = error

    def lack(self, error: Exception) -> None:
        """Note that no model could be asked, because the application lacks something."""
        self._lack = exceptions.one_line(error)

    def is_lack(self, error: BaseException) -> bool:
        """Whether an error says what the application lacks to ask a model."""
        return self._lack is not None and self._lack == exceptions.one_line(error)

    def check_failure(self) -> None:
        """Raise what ends the run, if something does."""
        if self.failure is not None:
            raise self.failure

    def check_cut(self) -> None:
        """Raise CancelledError where the run was cut off.

        A tool may answer its cancellation, and end well too late.
        """
        if self.is_cut_off:
            raise asyncio.CancelledError

    def start_timer(self, run_id: uuid.UUID, elapsed: float) -> None:
        """Cut the run off when its timeout is over.

        Args:
            run_id: The run, for the error.
            elapsed: Seconds of the timeout that are over.
        """
        if self.timeout is not None:
            error = RunTimeoutError(f"run {run_id} did not end within {self.timeout:g} s")
            self.cut.after(self.timeout - elapsed, error)

    @property
    def is_cut_off(self) -> bool:
        """Whether the run was cut off, or one around it."""
        is_cut = self._is_closed or self.cut.cause is not None
        return is_cut or (self._around is not None and self._around.is_cut_off)

    @property
    def is_lost(self) -> bool:
        """Whether what ends the run is that its execution owns the workflow no more."""
        return self._ends_with(control_errors.LOST)

    @property
    def is_replaced(self) -> bool:
        """Whether what ends the run is that its workflow has ended, or is executed elsewhere."""
        return self._ends_with((control_errors.REPLACED,))

    def _ends_with(self, kinds: tuple[type[BaseException], ...]) -> bool:
        is_own = isinstance(self.failure or self.cut.cause, kinds)
        return is_own or (self._around is not None and self._around._ends_with(kinds))

    def close(self) -> None:
        """Let nothing be recorded any more that goes on behind the run's back."""
        self._is_closed = True
