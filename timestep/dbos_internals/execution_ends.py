"""Tells when an execution of a workflow ends in this process, and with which error.

What a workflow is about to fail with is told before DBOS records it.

DBOS keeps no record of an execution that ends without an outcome: its workflow stays PENDING, and
nobody executes it before the process starts again.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

from dbos import DBOS, _core, _queue
from dbos import error as dbos_errors
from dbos._context import EnterDBOSWorkflow
from dbos._core import execute_dequeued_workflow
from dbos._sys_db import SystemDatabase

from timestep.dbos_internals import bodies, control_errors, workflow_scope
from timestep.dbos_internals.workflow_scope import Owner
from timestep.runtime import process_state
from timestep.runtime.cancellation import Signal
from timestep.runtime.process_state import PerProcess

Listener = Callable[[Owner, BaseException | None], None]
Rescuer = Callable[[Owner, Exception], bool]


class PutBack(Signal):
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


_records_outcome = SystemDatabase.update_workflow_outcome
"""DBOS's own method."""


def _update_outcome(system: SystemDatabase, workflow_id: str, status: Any, **more: Any) -> bool:
    """Record an outcome as DBOS does, but for a failure that is not to be one."""
    # It is called where the error is handled; with an owner, by who is outside the workflow.
    error = sys.exc_info()[1]
    is_own = status == "ERROR" and "owner_xid" not in more and workflow_scope.in_workflow()
    rescuer = process_state.of(ExecutionEnds).rescuer
    if is_own and isinstance(error, Exception) and rescuer is not None:
        token = workflow_scope.dbos_context().owner_xid
        if token is not None and rescuer(Owner(workflow_id, token), error):
            raise PutBack from None
    return _records_outcome(system, workflow_id, status, **more)


def execute_dequeued(dbos: DBOS, status: Any, token: str) -> Any:
    """Have DBOS execute a workflow that was taken from a queue.

    Args:
        dbos: The launched one.
        status: DBOS's, of the workflow.
        token: Of the execution that is to own it.

    Raises:
        DBOSWorkflowFunctionNotFoundError: It is of a name that this process does not have, and is
            not put back for that.
    """
    try:
        return execute_dequeued_workflow(dbos, status, token)
    except dbos_errors.DBOSWorkflowFunctionNotFoundError as error:
        rescuer = process_state.of(ExecutionEnds).rescuer
        if rescuer is None or not rescuer(Owner(status["workflow_uuid"], token), error):
            raise
        return None


class ExecutionEnds(PerProcess):
    """A process has one listener that is told of the ends of executions, and one rescuer."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.rescuer: Rescuer | None = None

    def listen(self, listener: Listener) -> None:
        self.listener = listener
        _core.EnterDBOSWorkflow = _Told  # type: ignore[attr-defined]  # as DBOS looks it up
        bodies.note_new()

    def rescue(self, rescuer: Rescuer) -> None:
        self.rescuer = rescuer
        _queue.execute_dequeued_workflow = execute_dequeued  # type: ignore[attr-defined, assignment]  # as DBOS looks it up
        SystemDatabase.update_workflow_outcome = _update_outcome  # type: ignore[assignment, method-assign]  # as DBOS looks it up

    def close(self) -> None:
        self.listener = self.rescuer = None
        _queue.execute_dequeued_workflow = execute_dequeued_workflow  # type: ignore[attr-defined]  # its own
        SystemDatabase.update_workflow_outcome = _records_outcome  # type: ignore[method-assign]  # its own
        _core.EnterDBOSWorkflow = EnterDBOSWorkflow  # type: ignore[attr-defined]  # its own
        bodies.note_no_more()


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


_SAID = "Exception encountered in "
"""How DBOS's records begin, inside the workflow, of what it raised."""


class FailureFilter(logging.Filter):
    """Tells of workflows that fail, in place of DBOS's records of them: tracebacks of many lines.

    Args:
        tell: Called inside a workflow that fails, with its id and what it raised.
    """

    def __init__(self, tell: Callable[[str, BaseException], None]) -> None:
        super().__init__()
        self._tell = tell

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not str(record.msg).startswith(_SAID):
            return True
        # One that is lost did not fail: another execution has it, or somebody cancelled it.
        if workflow_scope.in_workflow() and not isinstance(error, control_errors.LOST):
            self._tell(workflow_scope.dbos_context().workflow_id, error)
        return False
