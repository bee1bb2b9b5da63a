"""Goes on, in this version of the code, with a workflow that another version began."""

from __future__ import annotations

from typing import Any

from dbos import DBOS

from timestep.dbos_internals import control_errors, executions, presence, process, step_numbers
from timestep.errors import ReplayError, TakeoverError, UnknownRunError
from timestep.journal import executor_claim
from timestep.journal.checkpoints import CheckpointHistory
from timestep.journal.reads import workflow_records
from timestep.journal.recorder import recorder
from timestep.serialization.values import storable
from timestep.serialization.workflow_documents import is_of_run, shown_error
from timestep.store import dbos_step_outputs, setbacks
from timestep.store import run_continuations as store


def take_over(connection: Any, workflow_id: str, *, repeat_steps: bool = False) -> None:
    """Let this version of the application go on with a workflow from its newest checkpoint.

    The workflow keeps its id, and its runs theirs. A run that has not ended begins again where
    its newest checkpoint was made; model and tool calls that are recorded are not repeated. The
    workflow's own steps are taken from DBOS's record where they have the same numbers.

    Args:
        connection: To the recorder's database; nothing is changed before its transaction ends.
        workflow_id: The workflow.
        repeat_steps: Execute the workflow's own steps again, where the code has other ones.

    Raises:
        UnknownRunError: DBOS knows no such workflow.
        TakeoverError: A live host executes it, it has ended, or it left no usable checkpoint;
            nothing was changed.
        DatabaseError: The database refused, or is away.
    """
    if recorder().mirror is not None:
        raise TakeoverError(
            "DBOS's tables are not in the database of the runs, with PGlite, so a workflow cannot "
            "be taken over there: fork its run instead (timestep fork)"
        )
    schema = presence.system_schema_or_default()
    workflow = store.lock_workflow(connection, schema, workflow_id)
    if workflow is None:
        raise UnknownRunError(f"there is no workflow {workflow_id!r}: see `timestep runs`")
    if presence.is_launched():
        _check_name(workflow_id, workflow["name"])
    # The lock holds off DBOS's own records of steps until this is done.
    steps = dbos_step_outputs.recorded(connection, schema, workflow_id)
    runs = store.placed(store.top_runs(connection, workflow_id), step_numbers.BLOCK)
    open_runs = {
        place: row
        for place, row in runs.items()
        if row["workflow_id"] == workflow_id and _is_open(row)
    }
    _check(connection, workflow_id, workflow, bool(open_runs) or _disagreed(workflow_id))
    earlier = {
        (row["lane"], row["ordinal"]): row for row in store.of_workflow(connection, workflow_id)
    }
    numbers = [int(number) for number, step in steps.items() if repeat_steps or is_of_run(step)]
    workflows = [workflow_id, *store.inside(connection, schema, workflow_id)]
    setbacks.forget(connection, workflow_id)
    if not _is_pending(connection, workflow_id, steps):
        kept = [int(number) for number in steps if int(number) not in numbers]
        keeping = {"workflow_id": workflow_id, "workflows": workflows, "kept": kept}
        setbacks.keep(connection, schema, keeping)
    store.remove(connection, workflow_id)
    for place, row in runs.items():
        known = earlier.get(place, {})
        if place in open_runs:
            going_on = _going_on(connection, row, known)
            store.reopen_run(connection, row["id"])
        else:
            going_on = {"kind": "ended"}
        stands = {
            "workflow_id": workflow_id,
            "lane": place[0],
            "ordinal": place[1],
            "run_id": row["id"],
            "source_run_id": row["id"],
            "workflow_step": row["workflow_step"],
        }
        store.add(connection, [{**stands, **going_on}])
    # A fork that has not begun its run yet begins as it was to.
    waiting = [row for place, row in earlier.items() if place not in runs]
    store.add(connection, waiting)
    store.forget_steps(connection, schema, workflow_id, numbers)
    version = DBOS.application_version if presence.is_launched() else None
    for id_ in workflows:
        values = {
            "workflow_id": id_,
            "queue": executions.INTERNAL_QUEUE_NAME,
            "version": version,
        }
        store.enqueue(connection, schema, values)


def _check_name(workflow_id: str, name: str) -> None:
    # Timestep's own are registered where they are executed.
    if name not in process.registered() and not name.startswith("timestep."):
        raise TakeoverError(
            f"this version of the application has no workflow {name!r}, which {workflow_id!r} is: "
            "it is left as it was"
        )


def _is_pending(connection: Any, workflow_id: str, steps: dict[str, store.Row]) -> bool:
    """Whether what an earlier takeover began has done nothing yet."""
    kept = setbacks.steps_kept(connection, workflow_id)
    return (
        kept is not None
        and not setbacks.has_begun(connection, workflow_id)
        and all(int(number) in kept or is_of_run(step) for number, step in steps.items())
    )


def _is_open(run: store.Row) -> bool:
    """Whether a run has not come to an end of its own."""
    if run["completed_at"] is None or run["error_type"] == ReplayError.__name__:
        return True
    return bool(run["status"] == "cancelled" and run["cancel_reason"] != "code")


def _disagreed(workflow_id: str) -> bool:
    """Whether a workflow failed because its code took other steps than its record."""
    record = workflow_records.workflow_record(workflow_id)
    told = None if record is None else shown_error(record.error, record.serialization)
    kinds = (*control_errors.CONTROL_ERRORS, ReplayError)
    return told is not None and told[0] in {kind.__name__ for kind in kinds}


def _check(connection: Any, workflow_id: str, workflow: store.Row, is_open: bool) -> None:
    """Refuse what goes on somewhere, and what has ended."""
    status = workflow["status"]
    if status == "SUCCESS" or (status in ("ERROR", "CANCELLED") and not is_open):
        raise TakeoverError(
            f"workflow {workflow_id!r} has ended ({status}), and none of its runs is unfinished: "
            "fork one of them instead (timestep fork)"
        )
    if status != "PENDING":
        return
    executor, version = workflow["executor_id"], workflow["application_version"]
    application = workflow["application_name"] or presence.application_name()
    is_here = presence.is_launched() and (executor, version) == (
        DBOS.executor_id,
        DBOS.application_version,
    )
    if is_here or executor_claim.is_live(connection, application, executor, version):
        raise TakeoverError(
            f"workflow {workflow_id!r} is being executed by a live host (executor "
            f"{executor!r}, version {version!r}): stop that host first, or cancel the workflow; a "
            "decision alone needs no --from-checkpoint"
        )


def _going_on(connection: Any, run: store.Row, known: store.Row) -> store.Row:
    """What a run that has not ended goes on with."""
    history = CheckpointHistory(store.checkpoints(connection, run["id"]))
    if not history.turns:
        # No answer of a model is recorded: it begins as it was to.
        kept = {name: value for name, value in known.items() if name != "created_at"}
        return kept or {"kind": "taken_over"}
    newest = history.rows[history.turns[-1]]
    state = history.state(newest["turn"])
    begins = state["current_turn"] == 0
    if newest["progress"] is None and not begins:
        raise TakeoverError(
            f"the newest checkpoint of run {run['id']}, before turn {newest['turn']}, was made by "
            "an older version of Timestep and cannot be gone on from: fork the run instead"
        )
    return {
        "kind": "taken_over",
        "turn": newest["turn"],
        "state": None if begins else storable(state),
        "progress": newest["progress"],
        "changes": known.get("changes"),
    }
