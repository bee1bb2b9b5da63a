"""Keeps workflows from failing for good with what can be mended: a missing key, a missing package.

A workflow that nobody in its process awaits is tried again later, from its record. One that other
code took over, and that did nothing there yet, is what it was before.
"""

from __future__ import annotations

from dbos import DBOS
from openai import OpenAIError

from timestep.dbos_internals import control_errors, execution_ends, executions, workflow_scope
from timestep.dbos_internals.workflow_scope import Owner
from timestep.errors import NoDatabaseError
from timestep.journal.recorder import Recorder, recorder
from timestep.runner import failures
from timestep.runtime import logs, process_state
from timestep.serialization import exceptions
from timestep.serialization.workflow_documents import is_of_run
from timestep.store import dbos_step_outputs, parked_workflows, run_continuations
from timestep.store import setbacks as store

_log = logs.logger()


def look_after() -> None:
    """Ask here, from now on, before DBOS records that a workflow failed."""
    execution_ends.rescue(_is_put_back)


def _is_put_back(owner: Owner, error: Exception) -> bool:
    """Put a workflow back if what it fails with can be mended; whether it is."""
    if isinstance(error, control_errors.CONTROL_ERRORS):
        return False
    reason = failures.told(error)
    put_back = process_state.of(failures.PutBack)
    is_unawaited = workflow_scope.is_unattended(owner.workflow_id)
    try:
        found = recorder()
        if found.mirror is not None:
            # DBOS's tables are in another database: no transaction of both could do it.
            return False
        if found.patiently(lambda: _is_undone(found, owner, reason)):
            _log.warning(
                "workflow %s could not go on in this version, and is what it was before it was "
                "taken over: %s",
                owner.workflow_id,
                reason,
            )
            return True
        if found.patiently(lambda: _is_delayed(found, owner, error, reason, is_unawaited)):
            if put_back.note(owner.workflow_id, reason):
                _log.warning(
                    "workflow %s did not fail for good: it is tried again each minute, and when a "
                    "host of its version starts: %s",
                    owner.workflow_id,
                    reason,
                )
            return True
    except NoDatabaseError:
        # No run can have been recorded.
        return False
    except Exception as failure:  # noqa: BLE001  # then it fails, as its code did
        _log.warning("workflow %s cannot be put back: %s", owner.workflow_id, failure)
    if put_back.forget(owner.workflow_id):
        # Its run kept silent.
        _log.error("workflow %s failed: %s", owner.workflow_id, reason)
    return False


def _is_undone(found: Recorder, owner: Owner, reason: str) -> bool:
    values = {
        "workflow_id": owner.workflow_id,
        "token": owner.token,
        "reason": reason,
        "version": DBOS.application_version,
    }
    with found.transactions.begin() as connection:
        if not store.lock(connection, found.schema, values):
            return False
        kept = store.steps_kept(connection, owner.workflow_id)
        if kept is None or store.has_begun(connection, owner.workflow_id):
            return False
        steps = dbos_step_outputs.recorded(connection, found.schema, owner.workflow_id)
        if any(int(n) not in kept and not is_of_run(step) for n, step in steps.items()):
            # The workflow's own code did something.
            return False
        store.undo(connection, found.schema, values)
        # What it asked may have been decided together with the takeover, or since.
        parked_workflows.wake(connection, found.schema, owner.workflow_id)
    return True


def _is_delayed(
    found: Recorder, owner: Owner, error: Exception, reason: str, is_unawaited: bool
) -> bool:
    values = {
        "workflow_id": owner.workflow_id,
        "token": owner.token,
        "reason": reason,
        "internal_queue": executions.INTERNAL_QUEUE_NAME,
        "is_unattended": is_unawaited,
    }
    envelope = exceptions.seal(error)
    with found.transactions.begin() as connection:
        told = {
            "workflow_id": owner.workflow_id,
            "type": exceptions.short_type(str(envelope["type"])),
            "message": envelope["message"],
        }
        # Runs beside it that fail, too, are recorded by now, or not any more.
        if not store.lock(connection, found.schema, values):
            return False
        lacking = store.lacking(connection, found.schema, told)
        if not lacking:
            if not _is_of_code(error):
                return False
            steps = dbos_step_outputs.recorded(connection, found.schema, owner.workflow_id)
            if any(step["error"] is not None and not is_of_run(step) for step in steps.values()):
                # What a step failed with is recorded, and comes again.
                return False
        if not store.put_back(connection, found.schema, values):
            return False
        for run_id in lacking:
            run_continuations.reopen_run(connection, run_id)
    return True


def _is_of_code(error: Exception) -> bool:
    """Whether the workflow's own code lacks a key or a package; what a run failed with is not."""
    is_lack = type(error) is OpenAIError or isinstance(error, ImportError)
    return is_lack and not failures.is_told(error)
