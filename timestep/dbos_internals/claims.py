"""Takes workflows from DBOS's queues surely: what was claimed is executed, or nobody's.

A claim is one transaction of DBOS's. Where the answer to its commit is lost it may be there, or
land yet: its workflows would be this process's, and nobody would execute them. So they are looked
for, by the token that the claim gave them, until no transaction goes on that was there then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dbos._dbos import _get_dbos_instance

from timestep.database import not_now
from timestep.dbos_internals import presence, process
from timestep.runtime import logs, process_state
from timestep.runtime.attendant import Attendant
from timestep.runtime.process_state import PerProcess
from timestep.store import run_journal

_INTERVAL = 1.0
"""Seconds between two looks for a claim."""

_UNDONE = frozenset(("55P03", "40001", "40P01"))
"""SQLSTATEs that say that the claim was undone: another worker takes from the queue."""

_TAKES: tuple[tuple[str, object], ...] = (
    ("start_queued_workflows", ([], None)),
    ("start_queued_partitioned_workflows", []),
)
"""What of DBOS's system database takes from a queue, and what it answers where nothing waits."""

_log = logs.logger()


Execute = Callable[[str, str], None]
"""Executes a workflow, by its id, with the token of who owns it."""


@dataclass
class _Lost:
    """A claim whose answer is lost."""

    token: str
    execute: Execute
    before: int | None = None
    """The number of a transaction that began later than the claim's, once there is one."""


class Claims(PerProcess):
    """A process may take from queues, or not, and looks for what it took without an answer."""

    def __init__(self) -> None:
        self.may_take: Callable[[], bool] = lambda: True
        self._lost: dict[str, _Lost] = {}
        self._attendant = Attendant("timestep-claims", self._watch)

    @property
    def are_any(self) -> bool:
        """Whether something is looked for."""
        return bool(self._lost)

    def look_for(self, token: str, execute: Execute) -> None:
        """Look for what was claimed with a token, and have it executed."""
        with self._attendant.changed:
            if self._attendant.is_closed:
                return
            self._lost[token] = _Lost(token, execute)
            self._attendant.wake()

    def close(self) -> None:
        self._attendant.close()

    def _watch(self) -> None:
        while lost := self._next():
            for one in lost:
                try:
                    self._look(one)
                except Exception as error:  # noqa: BLE001  # looked for again
                    _log.debug("what was claimed is looked for later: %s", error)
            with self._attendant.changed:
                if self._lost and not self._attendant.is_closed:
                    self._attendant.changed.wait(_INTERVAL)

    def _next(self) -> list[_Lost]:
        """What is looked for now; nothing where the thread is to end."""
        with self._attendant.changed:
            if self._attendant.is_closed or not presence.is_launched():
                self._lost.clear()
            if not self._lost:
                self._attendant.leave()
            return list(self._lost.values())

    def _look(self, lost: _Lost) -> None:
        if not self.may_take():
            # Another host may be this executor by now, and goes on with what it claimed.
            return
        if lost.before is None:
            with process.system_engine().connect() as connection:
                lost.before = run_journal.new_transaction(connection)
        with process.system_engine().connect() as connection:
            found = run_journal.claimed_by(
                connection, presence.system_schema_or_default(), lost.token
            )
        if found.workflow_ids or found.oldest >= lost.before:
            with self._attendant.changed:
                del self._lost[lost.token]
        for workflow_id in found.workflow_ids:
            _log.warning("workflow %r was claimed here, though no answer said so", workflow_id)
            lost.execute(workflow_id, lost.token)


def make_sure(execute: Execute) -> None:
    """Have claims of this process's DBOS looked for whose answers are lost.

    A second time it changes nothing.
    """
    engine = process.system_engine()
    if engine is None or engine.dialect.name != "postgresql":
        # SQLite's file is this process's own: it answers.
        return
    system = _get_dbos_instance()._sys_db
    for name, nothing in _TAKES:
        take = getattr(system, name)
        if getattr(take, "func", None) is not _taken:
            setattr(system, name, functools.partial(_taken, take, nothing, execute))


def _taken(
    take: Callable[..., Any], nothing: object, execute: Execute, *args: Any, **options: Any
) -> Any:
    claims = process_state.of(Claims)
    if not claims.may_take():
        return nothing
    try:
        return take(*args, **options)
    except Exception as error:
        if not_now.state_of(error) not in _UNDONE:
            claims.look_for(options["owner_xid"], execute)
        raise
