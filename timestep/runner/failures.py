"""Tells in the log of runs and workflows that failed, each once, and makes tracebacks to record.

Neither shows a secret of this process, or what looks like a key: providers quote them in errors.
"""

from __future__ import annotations

import contextlib
import os
import re
import traceback

from timestep import config
from timestep.dbos_internals import workflow_scope
from timestep.dbos_internals.workflow_failures import FailureFilter
from timestep.errors import ConfigurationError
from timestep.execution import identity
from timestep.execution.run import Run
from timestep.runtime import logs
from timestep.serialization import exceptions
from timestep.serialization.values import plain_text

_log = logs.logger()

_MASK = "***"
_KEY = re.compile(r"\b(?:sk|pk|rk)-[\w-]{8,}|(?<=bearer )\S{8,}", re.IGNORECASE)
"""How providers' keys look, and tokens in headers."""
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
"""How variables of the environment end that hold what nobody else may know."""
_SHORTEST_SECRET = 4
"""Characters: what is shorter is found in any text."""
_LONGEST_LINE, _LONGEST_TRACEBACK = 1000, 16_000
"""Characters that are told of an error, and recorded of a traceback: the last ones of it."""


def traceback_of(error: BaseException) -> str:
    """The traceback to record of what ended a run: without variables' values, and bounded."""
    text = "".join(traceback.format_exception(error))
    if len(text) > _LONGEST_TRACEBACK:
        text = f"… {len(text) - _LONGEST_TRACEBACK} characters …\n{text[-_LONGEST_TRACEBACK:]}"
    return plain_text(_masked(text)) or ""


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
        "" if agent is None else f", agent {agent}",
        told(error),
    )
    _log.debug("run %s failed: %s", run.id, traceback_of(error), extra=logs.LINES)


def tell_of_workflow(workflow_id: str, error: BaseException) -> None:
    """Say that a workflow failed, unless it failed with what a run of it was told to fail with.

    Called inside the workflow.
    """
    if is_told(error):
        return
    _log.error("workflow %s failed: %s", workflow_id, told(error))
    _log.debug("workflow %s failed: %s", workflow_id, traceback_of(error), extra=logs.LINES)


def is_told(error: BaseException) -> bool:
    """Whether a run of the workflow that the caller is inside of failed with this very error."""
    return identity.workflow_runs().told == _key(error)


of_workflows = FailureFilter(tell_of_workflow)
"""Filters the log of DBOS, where a process is a host."""


def _key(error: BaseException) -> tuple[int, str]:
    return id(error), told(error)


def told(error: BaseException) -> str:
    """An error in one line, without secrets."""
    text = _masked(f"{type(error).__name__}: {exceptions.one_line(error)}")
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]} …"


def _masked(text: str) -> str:
    secrets = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    with contextlib.suppress(ConfigurationError):  # a setting was changed meanwhile
        secrets += config.read().secrets()
    # The longest first: one may be the beginning of another.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _MASK)
    return _KEY.sub(_MASK, text)
