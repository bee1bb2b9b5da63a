"""Names DBOS's own errors, which pass through everything between a step and a workflow's end."""

from __future__ import annotations

import asyncio

from dbos import error as dbos_errors

from timestep.dbos_internals.workflow_scope import Owner
from timestep.errors import TimestepError
from timestep.runtime.cancellation import Signal


def lost(owner: Owner, status: str | None) -> BaseException:
    """What ends an execution that does not own its workflow any more, in DBOS's own way.

    That is DBOSWorkflowCancelledError, or DBOSWorkflowConflictIDError where another execution
    owns it now, or it has ended.
    """
    if status == "CANCELLED":
        return dbos_errors.DBOSWorkflowCancelledError(f"Workflow {owner.workflow_id} is cancelled.")
    return dbos_errors.DBOSWorkflowConflictIDError(owner.workflow_id)


def twice(owner: Owner, number: int) -> BaseException:
    """What ends an execution whose step has a number that DBOS recorded otherwise."""
    return dbos_errors.DBOSStepNondeterminismError(owner.workflow_id, number)


def is_of_workflows_only(error: BaseException) -> bool:
    """Whether DBOS refused to do for a step what it does for workflow code alone."""
    if type(error) not in (AssertionError, dbos_errors.DBOSException):
        return False
    raised_in = error.__traceback__
    while raised_in is not None and raised_in.tb_next is not None:
        raised_in = raised_in.tb_next
    module = "" if raised_in is None else str(raised_in.tb_frame.f_globals.get("__name__"))
    return module.startswith("dbos.")


CONTROL_ERRORS = (
    dbos_errors.DBOSStepNondeterminismError,
    dbos_errors.DBOSUnexpectedStepError,
    dbos_errors.DBOSWorkflowCancelledError,
    dbos_errors.DBOSWorkflowConflictIDError,
)
"""DBOS's own errors: nothing between a step and the workflow's end may answer them."""


_SIGNALS = (Signal, asyncio.CancelledError, GeneratorExit, dbos_errors.DBOSBaseException)
"""What ends code that has not raised it: Timestep's, asyncio's, Python's and DBOS's."""


def is_foreign(error: BaseException) -> bool:
    """Whether code raised what is no Exception, and nobody has asked it to end."""
    return not isinstance(error, (Exception, *_SIGNALS))


class LeftForOthers(Signal):
    """Ends an execution whose workflow is left for a process that can go on with it.

    Not an Exception: DBOS would record that the workflow failed, and code would answer it.
    """

    def __init__(self, reason: TimestepError) -> None:
        super().__init__(reason.message)
        self.reason = reason


LOST = (dbos_errors.DBOSWorkflowCancelledError, dbos_errors.DBOSWorkflowConflictIDError)
"""The execution does not own its workflow any more."""

REPLACED = dbos_errors.DBOSWorkflowConflictIDError
"""Another execution owns it, or it has ended: nothing of this one is of use any more."""
