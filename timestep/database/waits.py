"""Waits for a database that says "not now", and tells of it: once when it begins, once at its end.

Meanwhile the process says that it is not ready.
"""

from __future__ import annotations

import math
import threading
import time
from types import TracebackType

from timestep.database import not_now
from timestep.database.not_now import Answer
from timestep.runtime import logs, process_state, readiness
from timestep.runtime.process_state import PerProcess

_PART = "database"
_MARGIN = 2.0
"""Seconds."""

_log = logs.logger()


class Waits(PerProcess):
    """A process keeps who in it waits for a database."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[object, tuple[float, float]] = {}
        """Since when each waits, and until when that counts if it tells nothing meanwhile."""
        self._began = 0.0
        self._is_said = False
        """Whether the log has it: a connection that was lost alone is not worth a line."""

    @property
    def are_any(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def begin(
        self, waiter: object, said: Answer, failure: BaseException, *, may_vanish: bool = False
    ) -> None:
        """Count a waiter, who may be counted already.

        Args:
            waiter: Who waits.
            said: What the database said.
            failure: The failure that says so.
            may_vanish: Whether the waiter may never say that its wait is over. It counts for
                somewhat longer then than DBOS pauses, which is the longer the longer it waited.
        """
        now = time.monotonic()
        with self._lock:
            if not self._waiting:
                self._began = now
            is_known = waiter in self._waiting
            since, _ = self._waiting.get(waiter, (now, now))
            until = now + _MARGIN + 4 * (now - since) if may_vanish else math.inf
            self._waiting[waiter] = (since, until)
            code = not_now.state_of(failure)
            says = said.reason if code is None else f"{said.reason}; SQLSTATE {code}"
            readiness.not_ready(_PART, f"the database is waited for: {says}")
            if not self._is_said and (is_known or not said.is_lost):
                self._is_said = True
                line = (str(failure).splitlines() or [""])[0]
                _log.warning(
                    "the database is waited for, and what was done is kept: %s: %s", says, line
                )

    def end(self, waiter: object) -> None:
        """Count a waiter no more, nor those whose time is over."""
        now = time.monotonic()
        with self._lock:
            if not self._waiting:
                return
            self._waiting.pop(waiter, None)
            for other in [other for other, (_, until) in self._waiting.items() if until < now]:
                del self._waiting[other]
            if self._waiting:
                return
            readiness.ready(_PART)
            if self._is_said:
                self._is_said = False
                _log.warning("the database answers again, after %.1f s", now - self._began)

    def close(self) -> None:
        with self._lock:
            self._waiting.clear()


class Patience:
    """What one piece of work has with its database, as a context around its attempts.

    Args:
        is_known: Whether the database was reached before: one that never was is not waited for.
    """

    def __init__(self, *, is_known: bool) -> None:
        self._is_known = is_known
        self._pauses = not_now.pauses()
        self._waits: Waits | None = None

    def pause(self, failure: Exception) -> float:
        """Seconds until the next attempt.

        Raises:
            Exception: The failure, where it is for good, or the database was never reached.
        """
        said = not_now.answer(failure)
        if said is None or not (self._is_known or not_now.is_of_a_session(failure)):
            raise failure
        self._waits = process_state.of(Waits)
        self._waits.begin(self, said, failure)
        return next(self._pauses)

    def __enter__(self) -> Patience:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._waits is not None:
            self._waits.end(self)
