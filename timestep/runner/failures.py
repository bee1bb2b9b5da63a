"""Tells in the log of runs and workflows that failed, each once, and makes tracebacks to record.

Neither shows a secret of this process, or what looks like a key: providers quote them in errors.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from timestep.dbos_internals import workflow_scope
from timestep.dbos_internals.execution_ends import FailureFilter
from timestep.execution import identity
from timestep.execution.run import Run
from timestep.runtime import logs, process_state
from timestep.runtime.process_state import PerProcess
from timestep.runtime.secrets import without_secrets
from timestep.serialization import exceptions
from timestep.serialization.exceptions.texts import shortened
from timestep.serialization.values import plain_text

_log = logs.logger()

_LONGEST_NAME = 200
_MOST_PUT_BACK = 10_000
_LONGEST_LINE, _LONGEST_TRACEBACK = 1000, 16_000
"""Characters that are told of an error, and recorded of a traceback: the last ones of it."""


class PutBack(PerProcess):
    """A process remembers which workflows it put back for a reason that it has told.

    They are tried again and again, and mostly fail for the same reason.
    """

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def note(self, workflow_id: str, reason: str) -> bool:
        """Note that a workflow is put back; whether the reason is another one than before."""
        before = self._reasons.pop(workflow_id, None)
        self._reasons[workflow_id] = reason
        if len(self._reasons) > _MOST_PUT_BACK:
            del self._reasons[next(iter(self._reasons))]
        return reason != before

    def forget(self, workflow_id: str) -> bool:
        """Note that a workflow is not put back any more; whether it was."""
        return self._reasons.pop(workflow_id, None) is not None

    def is_for(self, workflow_id: str, reason: str) -> bool:
        """Whether a workflow was put back for this very reason."""
        return self._reasons.get(workflow_id) == reason


def traceback_of(error: BaseException) -> str:
    """The traceback to record of what ended a run: without variables' values, and bounded."""
    text = "".join(traceback.format_exception(error))
    if len(text) > _LONGEST_TRACEBACK:
        text = f"… {len(text) - _LONGEST_TRACEBACK} characters …\n{text[-_LONGEST_TRACEBACK:]}"
    return plain_text(without_secrets(text)) or ""


def tell_of_run(run: Run, error: BaseException) -> None:
    """Say that a run failed, which nothing in its workflow is around."""
    if run.parent is not None:
        # What is around it answers the error, or fails with it.
        return
    if workflow_scope.in_workflow():
        identity.workflow_runs().told = _key(error)
    if process_state.of(PutBack).is_for(run.owner.workflow_id, told(error)):
        return
    turn = f"in turn {run.turn}" if run.turn else "before its first turn"
    agent = run.agent.name if run.agent is not None else None
    _log.error(
        "run %s of workflow %s failed %s%s: %s",
        run.id,
        run.owner.workflow_id,
        turn,
        "" if agent is None else f", agent {shortened(agent, _LONGEST_NAME)}",
        told(error),
    )
    _tell_frames("run", str(run.id), error)


def tell_of_workflow(workflow_id: str, error: BaseException) -> None:
    """Say that a workflow failed, unless it failed with what a run of it was told to fail with.

    Called inside the workflow.
    """
    if is_told(error):
        return
    _log.error("workflow %s failed: %s", workflow_id, told(error))
    _tell_frames("workflow", workflow_id, error)


def _tell_frames(what: str, id_: str, error: BaseException) -> None:
    """Tell where an error was raised, without what it says if that is to be in no log."""
    is_short = exceptions.logs_leave_data_out()
    text = "".join(_frames(error)) if is_short else traceback_of(error)
    _log.debug("%s %s failed: %s", what, id_, text, extra=logs.LINES)


def _frames(error: BaseException) -> Iterator[str]:
    """Where an error, and those before it, were raised."""
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and not any(found is one for one in chain):
        chain.append(found)
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    for one in reversed(chain):
        yield from traceback.format_tb(one.__traceback__)
        yield f"{type(one).__name__}\n"


def is_told(error: BaseException) -> bool:
    """Whether a run of the workflow that the caller is inside of failed with this very error."""
    return identity.workflow_runs().told == _key(error)


of_workflows = FailureFilter(tell_of_workflow)
"""Filters the log of DBOS, where a process is a host."""


def _key(error: BaseException) -> tuple[int, str]:
    return id(error), told(error)


def told(error: BaseException) -> str:
    """An error in one line, without secrets."""
    text = without_secrets(exceptions.in_log(error))
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} …"
