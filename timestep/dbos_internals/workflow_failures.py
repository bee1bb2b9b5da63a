"""Hears of each workflow that fails in this process, of which DBOS only writes in its log."""

from __future__ import annotations

import logging
from collections.abc import Callable

from timestep.dbos_internals import control_errors, workflow_scope

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
