"""Tells who executes workflows that have not ended, and what helps where nobody does."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from timestep.dbos_internals import presence
from timestep.journal import executors
from timestep.journal.executors import Executor
from timestep.journal.fail_fast_read import reading
from timestep.journal.reads.database import database
from timestep.operations.queries.records import RunExecutor
from timestep.runtime import terminal
from timestep.runtime.terminal import quoted
from timestep.store import setbacks as store
from timestep.store.fleet import process_ends
from timestep.store.fleet.process_ends import Held
from timestep.store.setbacks import Setback


@dataclass(frozen=True)
class Execution:
    """How a workflow that has not ended stands."""

    executor: RunExecutor | None = None
    """Which process executes it; None: it waits, in a queue or outside of any process."""
    is_left_alone: bool = False
    """Whether it goes on only where pickles are read."""
    is_stuck: bool = False
    """Whether nobody goes on with it, as far as is known."""
    obstacle: str | None = None
    """Why nobody does, or maybe nobody, and what helps."""


def of_workflows(workflow_ids: Collection[str]) -> dict[str | None, Execution]:
    """How each of these workflows stands that has not ended.

    Args:
        workflow_ids: Their ids.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    found = executors.executors_of(workflow_ids)
    lacking, held = _setbacks(workflow_ids)
    live = executors.liveness(set(found.values()))
    alone = executors.left_alone(workflow_ids)
    told: dict[str | None, Execution] = {}
    for id_, one in found.items():
        standing = _execution(id_, one, live[one], is_alone=id_ in alone)
        standing = _with_setback(id_, standing, lacking.get(id_))
        told[id_] = _held_back(id_, standing, held[id_]) if id_ in held else standing
    # What DBOS gave up has ended as far as DBOS is concerned.
    given_up = {id_: _held_back(id_, Execution(), held[id_]) for id_ in held if id_ not in found}
    return told | given_up


def set_back() -> int:
    """How many workflows of this application wait for what it lacks, such as a key.

    Raises:
        ConfigurationError: The file that names the application cannot be read.
        DatabaseError: The database refused, or is away.
    """
    if database().mirror is not None:
        return 0
    schema, name = presence.system_schema_or_default(), presence.application_name()
    return reading(lambda connection: store.count(connection, schema, name))


def set_back_without_run(only: str | None) -> dict[str, datetime.datetime]:
    """The workflows that lack something, and did before they had begun a run.

    Args:
        only: One workflow's id, to tell whether it is one of them.

    Returns:
        When each was started, by its id.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if database().mirror is not None:
        return {}
    schema = presence.system_schema_or_default()
    found = reading(lambda connection: store.without_run(connection, schema, only))
    return {
        id_: datetime.datetime.fromtimestamp(at / 1000, datetime.UTC) for id_, at in found.items()
    }


def _setbacks(workflow_ids: Collection[str]) -> tuple[dict[str, Setback], dict[str, Held]]:
    """Which of these workflows lacked something, or are held back."""
    if not workflow_ids or database().mirror is not None:
        return {}, {}
    schema = presence.system_schema_or_default()

    def read(connection: Any) -> tuple[dict[str, Setback], dict[str, Held]]:
        held = process_ends.found(connection, schema, workflow_ids)
        return store.found(connection, schema, workflow_ids), held

    return reading(read)


def _held_back(workflow_id: str, standing: Execution, held: Held) -> Execution:
    """What is told of a workflow that is held back, as its host ended soon after it went on."""
    again = terminal.command("resume", held.workflow_id, "--again")
    if held.until is None or held.is_aside:
        cancel = terminal.command("cancel", workflow_id)
        inside = "" if held.workflow_id == workflow_id else f" of {quoted(held.workflow_id)} in it"
        why = (
            f"given up: it was executed {held.ends} times, and DBOS recovers it no more"
            if held.until is None
            else f"put aside: the host{inside} ended {held.ends} times in a row, each time soon "
            "after it went on with it"
        )
        text = f"{why}: try it once more with `{again}`, or end it with `{cancel}`"
        return dataclasses.replace(standing, is_stuck=True, obstacle=text)
    known = standing.obstacle
    begins = datetime.datetime.fromtimestamp(held.until / 1000, datetime.UTC)
    text = (
        "held back: its host ended soon after it went on with it and others, which begin one after "
        f"the other: it begins at {begins:%H:%M:%S} UTC, or now with `{again}`"
    )
    return dataclasses.replace(standing, obstacle=f"{text}; {known}" if known else text)


def _with_setback(workflow_id: str, standing: Execution, setback: Setback | None) -> Execution:
    """What is told of a workflow that could not go on for what can be mended."""
    executor = standing.executor
    if setback is None or (executor is not None and executor.is_live):
        return standing
    known = standing.obstacle
    if setback.is_of_takeover:
        go_on = terminal.command("resume", workflow_id, "--from-checkpoint")
        text = (
            f"version {setback.version} could not take it over, and left it as it was: "
            f"{setback.reason.rstrip('.')}: mend that, then `{go_on}`"
        )
        return dataclasses.replace(standing, obstacle=f"{text}; {known}" if known else text)
    text = f"lacks something: {setback.reason.rstrip('.')}: it is tried again "
    if known:
        text += f"when a host of its version runs; {known}"
    else:
        cancel = terminal.command("cancel", workflow_id)
        text += f"every minute, and when a host of its version starts; or end it with `{cancel}`"
    return dataclasses.replace(standing, is_stuck=True, obstacle=text)


def _execution(
    workflow_id: str, found: Executor, is_live: bool | None, *, is_alone: bool
) -> Execution:
    is_live = False if is_alone else is_live
    return Execution(
        executor=None if found.id is None else RunExecutor(found.id, found.version, is_live),
        is_left_alone=is_alone,
        # An application executes what is under way, more likely than not, and no older version.
        is_stuck=not is_live and (found.id is None or is_live is False),
        obstacle=_left_alone(workflow_id) if is_alone else _obstacle(workflow_id, found, is_live),
    )


def _left_alone(workflow_id: str) -> str:
    return (
        "left alone: recorded as a pickle, which runs code when it is read: "
        "where nobody else can write into the database, serve with TIMESTEP_READ_PICKLES=true "
        f"until it is done, or end it with `{terminal.command('cancel', workflow_id)}`"
    )


def _obstacle(workflow_id: str, found: Executor, is_live: bool | None) -> str | None:
    if is_live:
        return None
    if found.id is not None:
        id_ = found.id
        what = f"no live host executes it (executor {id_})"
        if is_live is None:
            what = f"no live host is its executor {id_}; if no application of yours is"
        start = (
            f"start that executor again, a host with DBOS__VMID={terminal.shell_word(id_)} or your "
            "own application as it was"
        )
    elif found.version is None:
        return "no host runs: it waits in the queue until `timestep serve` is started"
    else:
        what = f"no live host runs its version {found.version}"
        if is_live is None:
            what += "; if no application of yours does"
        start = "start a host with the code of that version"
    # Without a decision: what it asks is asked there, too, and nobody approves what was not seen.
    go_on = terminal.command("resume", workflow_id, "--from-checkpoint")
    return (
        f"{what}: {start}, or go on in another with `{go_on}`, or end it with "
        f"`{terminal.command('cancel', workflow_id)}`"
    )
