"""Makes a host the only one with its executor id, for as long as it renews its claim.

A claim is a row of `timestep.hosts` that says until when it holds, and not something of a
connection: a restart of the server, a fail-over or a proxy that cuts it changes nothing. A thread
renews it. Another host may have the executor id once the row is gone, or was not renewed in time,
or its process is seen to have ended.

Effects begin in this process only while the claim holds, by this process's own clock: it gives
itself less time than the row gives it, as it counts from before it asked. What another has taken
is not taken back: the process ends what it does, and only one that begins anew claims again.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from timestep.database.answer_time import answered_within
from timestep.database.engines import private_engine
from timestep.database.error_translation import translated
from timestep.database.urls import shown
from timestep.errors import ConfigurationError, ExecutorLostError
from timestep.runtime import lease, logs, process_identity, process_state
from timestep.runtime.lease import Lease
from timestep.runtime.process_state import PerProcess
from timestep.store.fleet import hosts

_log = logs.logger()


@dataclass(frozen=True)
class Timing:
    """How long what takes; in seconds."""

    interval: float = 1.0
    """Between two renewals."""
    pause: float = 0.5
    """Between two attempts, while the database is away or the executor id another host's."""
    answer: float = 3.0
    """Until a database that does not answer counts as away."""
    lease: float = 10.0
    """For which a claim holds that is not renewed."""
    settle: float = 5.0
    """For which a claim that is over is watched before it is replaced: after an outage, whoever
    comes back first must not win. More than a pause and an answer, which its host may take."""
    patience: float = 15.0
    """For which a host waits for the one before it to end."""


USUAL = Timing()


class ExecutorClaim:
    """A host's claim to its executor id: another host would recover what this one runs.

    Args:
        url: The hosts' database.
        application: DBOS's name for the application.
        executor_id: The host's executor id.
        lost: Called once another host has become the executor; it returns at once.
        free: Called again and again once that one has ended.
        timing: How long what takes.

    Raises:
        ConfigurationError: Another host is the executor, and does not end.
        DatabaseError: The database is away.
    """

    def __init__(
        self,
        url: sa.URL,
        application: str,
        executor_id: str,
        lost: Callable[[], None],
        free: Callable[[], None],
        timing: Timing = USUAL,
    ) -> None:
        self._url = url
        self._engine = private_engine(url, connect_timeout=max(2, round(timing.answer)))
        self._lost, self._free = lost, free
        self._timing = timing
        self._values: dict[str, Any] = {
            "application": application,
            "executor_id": executor_id,
            "claim": uuid.uuid4(),
            "node": platform.node(),
            "process_id": os.getpid(),
            "identity": process_identity.own(),
            "lease": timing.lease,
        }
        self.ended: dict[str, Any] | None = None
        """The row of the host before this one, if that ended without a stop."""
        self._others = Watch(timing.settle)
        self._is_held = False
        self._is_failing = False
        self._closing = threading.Event()
        try:
            self._wait_for_it()
        except BaseException:
            self._engine.dispose()
            raise
        self._thread = threading.Thread(target=self._keep, name="timestep-claim", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why this host may execute nothing now, for people; None: it may."""
        name = f"the executor {self._values['executor_id']!r} of {self._values['application']!r}"
        if not self._is_held:
            return (
                f"another host has become {name}, and this one executes nothing meanwhile: stop "
                "one of them, or set DBOS__VMID to a name of each one's own"
            )
        if overdue := process_state.of(Lease).overdue:
            return (
                f"no step begins here: the claim to be {name} ran out {overdue:.0f} s ago, and "
                "the database has not let it be renewed"
            )
        return None

    def tell(self, version: str, *, reads_pickles: bool) -> None:
        """Let other processes see which version the host executes, and whether it reads pickles.

        Raises:
            DatabaseError: The database is away.
        """
        with translated(self._url), self._connected() as connection:
            hosts.tell(connection, self._values, version, reads_pickles=reads_pickles)

    def release(self) -> None:
        """Let another host have the executor id. Nothing begins in this process any more."""
        self._closing.set()
        self._thread.join()
        process_state.of(Lease).end()
        try:
            with translated(self._url), self._connected() as connection:
                hosts.release(connection, self._values)
        except Exception as error:  # noqa: BLE001  # it runs out
            _log.debug("the claim to the executor id is left to run out: %s", error)
        self._engine.dispose()

    def _wait_for_it(self) -> None:
        deadline = lease.now() + self._timing.patience
        is_told = False
        while not self._take():
            if lease.now() > deadline:
                raise ConfigurationError(
                    f"another host of {self._values['application']!r} runs on {shown(self._url)} "
                    f"as the executor {self._values['executor_id']!r}{self._others.place}, and "
                    "would take over what this one runs: stop it, or set DBOS__VMID to a name of "
                    "this one's own"
                )
            if not is_told:
                is_told = True
                _log.warning(
                    "waiting until the host before this one%s has ended, at most %.0f s",
                    self._others.place,
                    self._timing.patience,
                )
            time.sleep(min(_LOOK, self._timing.pause))
        self._is_held = True

    def _keep(self) -> None:
        pause = self._timing.interval
        while not self._closing.wait(pause):
            try:
                self._renew_or_watch()
            except Exception as error:  # noqa: BLE001  # said, and tried again
                # A connection that one statement failed on is not asked again.
                self._engine.dispose()
                if not self._is_failing:
                    _log.warning("that this host is alive cannot be told, trying again: %s", error)
                self._is_failing = True
                pause = self._timing.pause
            else:
                if self._is_failing:
                    _log.warning("that this host is alive is told again")
                self._is_failing = False
                pause = self._timing.interval if self._is_held else self._timing.pause

    def _renew_or_watch(self) -> None:
        if not self._is_held:
            if self._is_free():
                self._free()
        elif not self._renew():
            self._is_held = False
            process_state.of(Lease).end()
            _log.error("%s", self.problem)
            self._lost()

    def _renew(self) -> bool:
        asked = lease.now()
        with translated(self._url), self._connected() as connection:
            is_mine = hosts.renew(connection, self._values)
        if is_mine:
            process_state.of(Lease).hold(asked + self._timing.lease)
        return is_mine

    def _take(self) -> bool:
        """Become the executor, unless another process may be; whether it is this one."""
        asked = lease.now()
        with translated(self._url), self._connected() as connection:
            row = self._find(connection)
            if row is not None and not self._others.is_gone(row):
                return False
            is_mine = hosts.claim(connection, self._values, row)
        if is_mine:
            self.ended = row
            process_state.of(Lease).hold(asked + self._timing.lease)
        return is_mine

    def _is_free(self) -> bool:
        with translated(self._url), self._connected() as connection:
            row = self._find(connection)
        return row is None or self._others.is_gone(row)

    def _find(self, connection: sa.Connection) -> dict[str, Any] | None:
        return hosts.find(connection, self._values["application"], self._values["executor_id"])

    @contextlib.contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        with (
            self._engine.connect() as connection,
            answered_within(connection, self._timing.answer),
        ):
            yield connection


_LOOK = 0.1
"""Seconds between two looks at a claim that is waited for."""


class Watch:
    """Tells whether the host of a row is gone that is read again and again.

    Args:
        settle: For how many seconds a claim that is over must not be renewed.
    """

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._row: dict[str, Any] | None = None
        self._since = self._seen = -math.inf

    @property
    def place(self) -> str:
        """Where the host is, for people."""
        if self._row is None:
            return ""
        return f" (process {self._row['process_id']} on {self._row['node']})"

    def is_gone(self, row: dict[str, Any]) -> bool:
        now = lease.now()
        is_new = self._row is None or _beat(self._row) != _beat(row)
        # While nobody looked, the database may have been away from the row's host, too.
        if is_new or now - self._seen > self._settle:
            self._since = now
        self._row, self._seen = row, now
        is_settled = now - self._since >= self._settle
        return (row["is_expired"] and is_settled) or hosts.has_ended(row)


def _beat(row: dict[str, Any]) -> tuple[Any, Any]:
    return row["claim"], row["expires_at"]


def is_live(
    connection: sa.Connection,
    application: str,
    executor_id: str,
    version: str | None,
    timing: Timing = USUAL,
) -> bool:
    """Whether a host is that executor, of that version or about to execute one.

    One that may only have been cut off from the database is waited for, for some seconds.
    """
    watch = Watch(timing.settle)
    while (row := hosts.find(connection, application, executor_id)) is not None:
        if row["version"] not in (None, version) or watch.is_gone(row):
            break
        if not row["is_expired"]:
            return True
        time.sleep(min(_LOOK, timing.pause))
    return hosts.is_older_host(connection, application, executor_id, version)


class Claims(PerProcess):
    """A host's process holds its claim until it stops."""

    def __init__(self) -> None:
        self.held: ExecutorClaim | None = None

    def close(self) -> None:
        held, self.held = self.held, None
        if held is not None:
            held.release()


def problem() -> str | None:
    """Why this process may execute nothing now, for people; None: it may."""
    held = process_state.of(Claims).held
    return None if held is None else held.problem


def require() -> None:
    """See that this process may execute workflows.

    Raises:
        ExecutorLostError: It is not the executor that it claims to be, or cannot be sure of it.
    """
    if (reason := problem()) is not None:
        raise ExecutorLostError(reason)
