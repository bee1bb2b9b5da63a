"""Starts a new run that begins with the checkpoint before a turn of another run."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

from dbos import DBOS, SetWorkflowID
from dbos import error as dbos_errors
from pydantic import ValidationError

from timestep.database.error_translation import translated
from timestep.dbos_internals import presence, step_numbers
from timestep.errors import (
    AlreadyStartedError,
    InvalidInputError,
    NotDurableError,
    ReplayError,
    UnknownCheckpointError,
    UnknownRunError,
    UnreadableValueError,
)
from timestep.journal import dbos_client
from timestep.journal.checkpoints import CheckpointHistory
from timestep.journal.fail_fast_read import reading
from timestep.journal.reads import workflow_records
from timestep.journal.recorder import recorder
from timestep.operations.access import acting, audit
from timestep.operations.access.acting import Actor
from timestep.operations.arguments import check_document, check_id, check_known, of_a_run
from timestep.runtime.terminal import quoted
from timestep.sdk.state.continue_from_record import model_settings
from timestep.sdk.validation import recorded_input
from timestep.serialization.ids import derived
from timestep.serialization.values import restored, storable
from timestep.store import run_continuations as store
from timestep.store.reads import runs

Input = str | list[Any]

_CHANGES = ("instructions", "model", "model_settings")
_HIGHEST = 2**31 - 1


async def fork_run(
    run_or_workflow_id: str,
    *,
    turn: int,
    input: Input | None = None,  # noqa: A002
    append: Input | None = None,
    agent: Mapping[str, Any] | None = None,
    new_workflow_id: str | None = None,
) -> str:
    """Start a new run from the checkpoint before a turn of another; the old one stays as it is.

    A new workflow of the same entrypoint and input executes with the code that takes it. Its
    steps before the run, and the runs that had ended by then, come from the old one's record.
    The new run begins with the turn: nothing of the turns before is called, or counted, again.
    Its agents are those of the code. It adds what it says to the same session, if there is one.

    Args:
        run_or_workflow_id: The run, or a workflow, whose newest run is meant.
        turn: The turn that begins the new run, counted from 1.
        input: Text or items that the model is shown in that turn instead of what it was shown.
        append: Text or items that it is shown in that turn in addition.
        agent: What is different from that turn on: `instructions` of the agent whose turn it
            is; `model` (a name) and `model_settings` (an object) of every agent of the run.
        new_workflow_id: The id of the new workflow; None: a new one. The same again, for the
            same fork, answers the same.

    Returns:
        The id of the new workflow.

    Raises:
        UnknownRunError: There is no such run, or its workflow has begun none.
        UnknownCheckpointError: The run has no checkpoint before that turn.
        InvalidInputError: An argument cannot be used, or the run is inside another one.
        AlreadyStartedError: The new workflow id is taken.
        PickledRecordError: The workflow is recorded as a pickle, and left alone for that.
        DatabaseError: The database refused, or is away.
    """
    check_known(run_or_workflow_id)
    if new_workflow_id is not None:
        check_id("new_workflow_id", new_workflow_id)
    if isinstance(turn, bool) or not isinstance(turn, int) or turn > _HIGHEST:
        raise InvalidInputError(f"turn {quoted(turn)} is not a number of a turn, counted from 1")
    edit = _edit(input, append)
    changes = _changes(agent)
    new_id = new_workflow_id if new_workflow_id is not None else str(uuid.uuid4())
    await asyncio.to_thread(_fork, run_or_workflow_id, turn, edit, changes, new_id, acting.take())
    return new_id


async def shown_in(run_or_workflow_id: str, turn: int) -> Input | None:
    """What the model was shown in a turn besides what its session held, to be given anew, edited.

    Args:
        run_or_workflow_id: The run, or a workflow, whose newest run is meant.
        turn: The turn, counted from 1.

    Returns:
        Text or items, as `input` of `fork_run` takes them; None: the run has no checkpoint before
        that turn, or it cannot be read.

    Raises:
        DatabaseError: The database refused, or is away.
    """

    def read(connection: Any) -> Input | None:
        run = runs.find_run(connection, run_or_workflow_id)
        rows = [] if run is None else store.checkpoints(connection, run["id"])
        try:
            history = CheckpointHistory(rows)
            if turn not in history.turns:
                return None
            state = history.state(turn)
            given: Input = restored(state["original_input"])
            made = restored([*state["generated_items"], *state.get("pending_input", ())])
        except (UnreadableValueError, LookupError, TypeError, ValueError):
            # It is nested too deeply, or nothing that a run has written.
            return None
        # What is asked about is a call that stands beside it.
        kept = [one for one in made if one.get("type") != "tool_approval_item"]
        return [*_items(given), *(one.get("raw_item", one) for one in kept)] if kept else given

    return await asyncio.to_thread(lambda: reading(read))


def _edit(given: Input | None, append: Input | None) -> dict[str, Any] | None:
    if given is not None and append is not None:
        raise InvalidInputError("give either 'input' or 'append': the items instead, or the added")
    kind, value = ("replace", given) if append is None else ("append", append)
    if value is None:
        return None
    check_document("the input", value)
    try:
        if not value:
            raise NotDurableError("it is empty")
        recorded = recorded_input(value)
        if not all(isinstance(item, dict) for item in _items(restored(recorded))):
            raise NotDurableError("each of its items is an object")
        return {kind: recorded}
    except NotDurableError as error:
        raise InvalidInputError(f"{quoted(value)} cannot be an input: {error}") from error


def _changes(agent: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if agent is None:
        return None
    if not isinstance(agent, Mapping):
        raise InvalidInputError(f"an agent's changes are an object, not {agent!r}")
    for name, value in agent.items():
        if name not in _CHANGES:
            raise InvalidInputError(
                f"{name!r} of an agent cannot be changed: there are {', '.join(_CHANGES)}; "
                "change the rest in the code that executes the fork"
            )
        if name != "model_settings" and not isinstance(value, str):
            raise InvalidInputError(f"{name} {quoted(value)} is not text")
    if "model" in agent:
        check_id("model", agent["model"])
    if "model_settings" in agent:
        check_document("model_settings", agent["model_settings"])
        try:
            model_settings(agent["model_settings"], strict=True)
        except (ValidationError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InvalidInputError(f"the model_settings do not fit: {reason}") from error
    return dict(agent) or None


def _fork(
    name: str,
    turn: int,
    edit: dict[str, Any] | None,
    changes: dict[str, Any] | None,
    new_id: str,
    actor: Actor,
) -> None:
    found = recorder()
    with translated(found.url):
        with found.transactions.begin() as connection:
            source, rows = _continuations(connection, name, turn, edit, changes, new_id)
            workflow_records.check_readable(source["workflow_id"])
            before = store.of_workflow(connection, new_id)
            if before or workflow_records.workflow_record(new_id) is not None:
                if any(_is_same(row, rows[-1]) for row in before):
                    return
                raise AlreadyStartedError(
                    f"the workflow {new_id!r} was started already, and is not this fork: give "
                    "another new_workflow_id"
                )
            if runs.find_workflow(connection, new_id) is not None:
                raise of_a_run("new_workflow_id", new_id)
            if not store.add(connection, rows):
                raise AlreadyStartedError(f"the workflow {new_id!r} is being started already")
            subjects = [new_id, source["workflow_id"], str(source["id"])]
            changed = sorted([*(edit or ()), *(changes or ())])
            entry = audit.add(
                connection, actor, "fork", subjects, {"turn": turn, "changed": changed}
            )
        try:
            with SetWorkflowID(new_id):
                dbos_client.client().fork_workflow(
                    source["workflow_id"],
                    _first_step(source),
                    application_version=_version(source["workflow_id"]),
                )
        except BaseException as error:
            with found.transactions.begin() as connection:
                store.remove(connection, new_id)
                if isinstance(error, dbos_errors.DBOSException):
                    audit.note_refused(connection, entry, error)
            if isinstance(error, dbos_errors.DBOSNonExistentWorkflowError):
                raise UnknownRunError(
                    f"DBOS does not know the workflow {source['workflow_id']!r} any more, so run "
                    f"{source['id']} cannot be forked"
                ) from error
            raise


def _version(workflow_id: str) -> str | None:
    """The version of the application that executes the fork of a workflow; None: the newest.

    That of this process, unless the workflow is another application's: a host in a folder of its
    own serves the pages for one that launches DBOS itself.
    """
    record = workflow_records.workflow_record(workflow_id)
    ours = (None, presence.application_name())
    is_ours = record is not None and record.application in ours
    return DBOS.application_version if presence.is_launched() and is_ours else None


def _first_step(run: store.Row) -> int:
    """The first of its workflow's steps that the fork of a run does not copy.

    The numbers of a run beside the body's task tell nothing of the steps that the body took after.
    """
    return int(run["workflow_step"] if run["after_step"] is None else run["after_step"] + 1)


def _is_same(row: store.Row, other: store.Row) -> bool:
    names = ("kind", "source_run_id", "turn", "input", "changes")
    return all(row[name] == other[name] for name in names)


def _continuations(
    connection: Any,
    name: str,
    turn: int,
    edit: dict[str, Any] | None,
    changes: dict[str, Any] | None,
    new_id: str,
) -> tuple[store.Row, list[store.Row]]:
    """The run that is forked, and what stands where in the new workflow; the new run last."""
    source, place, others = _source(connection, name)
    history = CheckpointHistory(store.checkpoints(connection, source["id"]))
    if turn not in history.turns:
        known = f"turns {history.turns[0]} to {history.turns[-1]}" if history.turns else "none"
        raise UnknownCheckpointError(
            f"run {source['id']} has no checkpoint before turn {turn}: there are {known}"
        )
    state = history.state(turn)
    answered = store.answered(connection, source["id"], turn)
    if state.get("conversation_id") is not None:
        raise InvalidInputError(
            f"run {source['id']} keeps its conversation with the model's provider "
            f"({state['conversation_id']!r}), which cannot go back to turn {turn}"
        )
    if changes is not None:
        changes = {**changes, "agent": state["current_agent"]["name"]}
    rows = [
        {
            "workflow_id": new_id,
            "lane": lane,
            "ordinal": ordinal,
            "kind": "ended",
            "run_id": row["id"],
            "source_run_id": row["id"],
        }
        for (lane, ordinal), row in others.items()
        if row["status"] in ("completed", "failed")
        and row["error_type"] != ReplayError.__name__
        and answered is not None
        and row["completed_at"] <= answered
    ]
    begins = state["current_turn"] == 0
    forked = {
        "workflow_id": new_id,
        "lane": place[0],
        "ordinal": place[1],
        "kind": "forked",
        "run_id": derived(source["id"], f"fork:{new_id}"),
        "source_run_id": source["id"],
        "turn": turn,
        "state": None if begins else storable(state),
        "context_changes": store.context_changes(connection, source["id"], turn),
        "input": _given(source["input"], edit) if begins else edit,
        "changes": None if changes is None else storable(changes),
    }
    return source, [*rows, forked]


def _given(recorded: Any, edit: dict[str, Any] | None) -> dict[str, Any]:
    """The whole input of a run that begins with its first turn."""
    if edit is not None and "replace" in edit:
        return edit
    try:
        before = restored(recorded)
    except UnreadableValueError as error:
        raise InvalidInputError(
            f"what the run was given cannot be kept: {error}: give 'input'"
        ) from error
    if edit is None:
        return {"replace": recorded}
    return {"replace": storable([*_items(before), *_items(restored(edit["append"]))])}


def _items(given: Input) -> list[Any]:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def _source(
    connection: Any, name: str
) -> tuple[store.Row, store.Place, dict[store.Place, store.Row]]:
    """The run that is meant, where it stands, and the other runs of its workflow."""
    run = runs.find_run(connection, name)
    if run is None:
        raise UnknownRunError(
            f"there is no run, and no workflow that began one, {quoted(name)}: see `timestep runs`"
        )
    if run["parent_run_id"] is not None:
        raise InvalidInputError(
            f"run {run['id']} is inside run {run['parent_run_id']}: fork the outermost one"
        )
    others = store.placed(store.top_runs(connection, str(run["workflow_id"])), step_numbers.BLOCK)
    for place, row in others.items():
        if row["id"] == run["id"]:
            return others.pop(place), place, others
    raise InvalidInputError(
        f"run {run['id']} was started inside a step of its workflow, and cannot be forked"
    )
