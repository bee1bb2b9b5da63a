"""Tells who executes workflows that have not ended, and what helps where nobody does."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from timestep.journal import executors
from timestep.journal.executors import Executor
from timestep.operations.queries.records import RunExecutor
from timestep.runtime import terminal


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


def of_workflows(
    workflow_ids: Collection[str], asking: Collection[str] = ()
) -> dict[str | None, Execution]:
    """How each of these workflows stands that has not ended.

    Args:
        workflow_ids: Their ids.
        asking: Those that wait for a decision, which may be made together with what helps.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    found = executors.executors_of(workflow_ids)
    live = executors.liveness(set(found.values()))
    alone = executors.left_alone(workflow_ids)
    told: dict[str | None, Execution] = {
        id_: _execution(id_, one, live[one], is_alone=id_ in alone, is_asking=id_ in asking)
        for id_, one in found.items()
    }
    return told


def _execution(
    workflow_id: str, found: Executor, is_live: bool | None, *, is_alone: bool, is_asking: bool
) -> Execution:
    is_live = False if is_alone else is_live
    return Execution(
        executor=None if found.id is None else RunExecutor(found.id, found.version, is_live),
        is_left_alone=is_alone,
        # An application executes what is under way, more likely than not, and no older version.
        is_stuck=not is_live and (found.id is None or is_live is False),
        obstacle=_left_alone(workflow_id)
        if is_alone
        else _obstacle(workflow_id, found, is_live, is_asking=is_asking),
    )


def _left_alone(workflow_id: str) -> str:
    return (
        "left alone: recorded as a pickle, which runs code when it is read: "
        "where nobody else can write into the database, serve with TIMESTEP_READ_PICKLES=true "
        f"until it is done, or end it with `{terminal.command('cancel', workflow_id)}`"
    )


def _obstacle(
    workflow_id: str, found: Executor, is_live: bool | None, *, is_asking: bool
) -> str | None:
    if is_live:
        return None
    if found.id is not None:
        id_ = found.id
        what = f"no live host executes it (executor {id_})"
        if is_live is None:
            what = f"no live host is its executor {id_}; if no application of yours is"
        start = f"start a host with DBOS__VMID={terminal.shell_word(id_)}"
    elif found.version is None:
        return "no host runs: it waits in the queue until `timestep serve` is started"
    else:
        what = f"no live host runs its version {found.version}"
        if is_live is None:
            what += "; if no application of yours does"
        start = "start a host of that version"
    decided = ("--approve", "all") if is_asking else ()
    go_on = terminal.command("resume", workflow_id, *decided, "--from-checkpoint")
    how = "decide and go on" if is_asking else "go on"
    return (
        f"{what}: {start}, or {how} in another with `{go_on}`, or end it with "
        f"`{terminal.command('cancel', workflow_id)}`"
    )
