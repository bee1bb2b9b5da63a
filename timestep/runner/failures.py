"""Tells in the log of runs and workflows that failed, each once, and makes tracebacks to record.

Neither shows a secret of this process, or what looks like a key: providers quote them in errors.
"""

from __future__ import annotations

import traceback

from timestep.dbos_internals import workflow_scope
from timestep.dbos_internals.workflow_failures import FailureFilter
from timestep.execution import identity
from timestep.execution.run import Run
from timestep.runtime import logs
from timestep.runtime.secrets import masked
from timestep.serialization import exceptions
from timestep.serialization.exceptions.texts import shortened
from timestep.serialization.values import plain_text

_log = logs.logger()

_LONGEST_NAME = 200
_LONGEST_LINE, _LONGEST_TRACEBACK = 1000, 16_000
"""Characters that are told of an error, and recorded of a traceback: the last ones of it."""


def traceback_of(error: BaseException) -> str:
    """The traceback to record of what ended a run: without variables' values, and bounded."""
    text = "".join(traceback.format_exception(error))
    if len(text) > _LONGEST_TRACEBACK:
        text = f"… {len(text) - _LONGEST_TRACEBACK} characters …\n{text[-_LONGEST_TRACEBACK:]}"
    return plain_text(masked(text)) or ""


def tell_of_run(run: Run, error: BaseException) -> None:
    """Say that a run failed, which nothing in its workflow is around."""
    if run.parent is not None:
        # What is around it answers the error, or fails with it.
        return
    if workflow_scope.in_workflow():
        identity.workflow_runs().told = _key(error)
    turn = f"in turn {run.turn}" if run.turn else "before its first turn"
    agent = run.agent.name if run.agent is not None else None
    _log.error(
        "run %s of workflow %s failed %s%s: %s",
        run.id,
        run.owner.workflow_id,
        turn,
        "" if agent is None else f", agent {shortened(agent, _LONGEST_NAME)}",
        _told(error),
    )
    _log.debug("run %s failed: %s", run.id, traceback_of(error), extra=logs.LINES)


def tell_of_workflow(workflow_id: str, error: BaseException) -> None:
    """Say that a workflow failed, unless it failed with what a run of it was told to fail with.

    Called inside the workflow.
    """
    if identity.workflow_runs().told == _key(error):
        return
    _log.error("workflow %s failed: %s", workflow_id, _told(error))
    _log.debug("workflow %s failed: %s", workflow_id, traceback_of(error), extra=logs.LINES)


of_workflows = FailureFilter(tell_of_workflow)
"""Filters the log of DBOS, where a process is a host."""


def _key(error: BaseException) -> tuple[int, str]:
    return id(error), _told(error)


def _told(error: BaseException) -> str:
    text = masked(f"{exceptions.name_of(error)}: {exceptions.one_line(error)}")
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} …"
