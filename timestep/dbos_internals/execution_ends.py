"""Tells when an execution of a workflow ends in this process, and with which error.

What a workflow is about to fail with is told before DBOS records it.

DBOS keeps no record of an execution that ends without an outcome: its workflow stays PENDING, and
nobody executes it before the process starts again.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

from dbos import _core
from dbos._context import EnterDBOSWorkflow
from dbos._sys_db import SystemDatabase

from timestep.dbos_internals import workflow_scope
from timestep.dbos_internals.workflow_scope import Owner
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess

Listener = Callable[[Owner, BaseException | None], None]
Rescuer = Callable[[Owner, Exception], bool]


class PutBack(BaseException):
    """Ends an execution whose workflow did not fail, though its code did. Nothing is recorded."""


class _Told(EnterDBOSWorkflow):
    """Is around an execution, its record of the outcome included, whoever began it."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        context = self.use_ctx
        owner = None
        if context is not None and context.owner_xid is not None:
            owner = Owner(context.workflow_id, context.owner_xid)
        super().__exit__(exc_type, exc_value, traceback)
        if owner is not None:
            tell(owner, exc_value)
        return False


def _rescued(original: Callable[..., bool], rescuer: Rescuer) -> Callable[..., bool]:
    """DBOS's method that records an outcome, where some failures are not to be one."""

    @functools.wraps(original)
    def update(system: SystemDatabase, workflow_id: str, status: str, *a: Any, **kw: Any) -> bool:
        # It is called where the error is handled; with an owner, by who is outside the workflow.
        error = sys.exc_info()[1]
        is_own = status == "ERROR" and "owner_xid" not in kw and workflow_scope.in_workflow()
        if is_own and isinstance(error, Exception):
            owner = workflow_scope.scope().owner
            if owner.workflow_id == workflow_id and rescuer(owner, error):
                raise PutBack from None
        return original(system, workflow_id, status, *a, **kw)

    return update


class ExecutionEnds(PerProcess):
    """A process has one listener that is told of the ends of executions, and one rescuer."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self._records_outcome: Callable[..., bool] | None = None

    def listen(self, listener: Listener) -> None:
        self.listener = listener
        _core.EnterDBOSWorkflow = _Told  # type: ignore[attr-defined]  # as DBOS looks it up

    def rescue(self, rescuer: Rescuer) -> None:
        if self._records_outcome is None:
            self._records_outcome = SystemDatabase.update_workflow_outcome
            update = _rescued(self._records_outcome, rescuer)
            SystemDatabase.update_workflow_outcome = update  # type: ignore[method-assign]  # no seam

    def close(self) -> None:
        self.listener = None
        if self._records_outcome is not None:
            SystemDatabase.update_workflow_outcome = self._records_outcome  # type: ignore[method-assign]  # its own
        _core.EnterDBOSWorkflow = EnterDBOSWorkflow  # type: ignore[attr-defined]  # its own


def tell(owner: Owner, error: BaseException | None) -> None:
    """Tell the listener that an execution has ended, or could not begin."""
    listener = process_state.of(ExecutionEnds).listener
    if listener is not None:
        listener(owner, error)


def listen(listener: Listener) -> None:
    """Have `listener` called, in whichever thread it is, at the end of each execution.

    Those that have begun before are not told of.
    """
    process_state.of(ExecutionEnds).listen(listener)


def rescue(rescuer: Rescuer) -> None:
    """Have `rescuer` asked, inside the workflow, before DBOS records that one failed.

    A second time it changes nothing.

    Args:
        rescuer: Given the execution and what its code raised; True: nothing is recorded, because
            the workflow is not the execution's any more.
    """
    process_state.of(ExecutionEnds).rescue(rescuer)
