"""Tells what is needed of many runs before something is done with each of them."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from timestep.journal.fail_fast_read import reading
from timestep.journal.reads.workflow_records import statuses_of
from timestep.operations.arguments import flaw
from timestep.operations.overview import without_run
from timestep.operations.queries import rows, runs
from timestep.operations.queries.pagination import LONGEST
from timestep.operations.queries.records import Run, Status
from timestep.store.reads.overview import many as store

MOST = 1_000
"""Runs that something is done with at once."""

_PAGES = 10
"""Pages of the list of runs that are looked at, which may have few runs, for `MOST`."""


class Name(NamedTuple):
    """What a run is named by. A workflow's id may be that of another workflow's run."""

    of: Literal["run", "workflow", "either"]
    """What has the id; of `either`, a run rather than a workflow."""
    id: str


@dataclass(frozen=True)
class Subject:
    """A run, or a workflow that has not begun one, that something is about to be done with."""

    id: str
    """The run's; of a workflow without one, the workflow's."""
    workflow_id: str | None
    name: str | None
    """The entrypoint's."""
    agent_name: str | None
    """The agent that acted last."""
    status: Status
    turns: int
    failed_in: int | None
    """The turn in which it failed."""
    started_at: datetime.datetime | None
    is_open: bool
    """Whether its workflow has not ended."""
    is_begun: bool = True
    """Whether it is a run, not a workflow that has not begun one."""

    @property
    def seen(self) -> str:
        """What a form says of it, so that it is told whether it is still what a page showed."""
        return f"{self.status} {self.id if self.is_begun else '-'}"


async def named(names: Sequence[Name]) -> dict[Name, Subject]:
    """Those of the runs, or of workflows the newest runs, that are there, by what names them.

    Args:
        names: What names each.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    possible = [one for one in names if flaw(one.id) is None]
    found = await asyncio.to_thread(_named, possible)
    others = [one for one in possible if one not in found and one.of != "run"]
    ids = list({one.id for one in others})
    told = await asyncio.to_thread(without_run.told, ids, brief=True)
    unbegun = {run.workflow_id: _without_run(run) for run in told}
    found |= {one: unbegun[one.id] for one in others if one.id in unbegun}
    return {name: found[name] for name in names if name in found}


def _named(names: Sequence[Name]) -> dict[Name, Subject]:
    ids = [(None if of == "workflow" else id_, None if of == "run" else id_) for of, id_ in names]
    known = reading(lambda connection: store.named(connection, ids))
    statuses = statuses_of({row["workflow_id"] for row in known if row["workflow_id"] is not None})
    return {
        names[row["place"] - 1]: Subject(
            id=str(row["id"]),
            workflow_id=row["workflow_id"],
            name=row["workflow_name"],
            agent_name=row["agent_name"],
            status=row["status"],
            turns=row["current_turn"],
            failed_in=row["error_turn"],
            started_at=row["started_at"],
            is_open=_is_open(statuses.get(row["workflow_id"])),
        )
        for row in known
    }


def _without_run(found: Run) -> Subject:
    workflow = found.workflow
    return Subject(
        id=found.workflow_id or "",
        workflow_id=found.workflow_id,
        name=found.workflow_name,
        agent_name=None,
        status=found.status,
        turns=0,
        failed_in=None,
        started_at=found.started_at,
        is_open=_is_open(workflow.status if workflow else None),
        is_begun=False,
    )


def _is_open(status: str | None) -> bool:
    return rows.status_of(status) == "running"


async def matching(*, nested: bool, **given: Any) -> tuple[list[Name], bool]:
    """What names the newest runs that filters let through, and whether there may be more.

    Args:
        nested: Whether runs inside other runs are among them.
        given: The filters, as `list_runs` takes them.

    Returns:
        At most `MOST`.

    Raises:
        InvalidQueryError: A filter cannot be used.
        DatabaseError: The database refused, or is away.
    """
    found: list[Name] = []
    cursor: str | None = None
    for _ in range(_PAGES):
        page = await runs.list_runs(
            **given, nested=nested, brief=True, limit=LONGEST, cursor=cursor
        )
        found += [
            Name("run", one.id) if one.id else Name("workflow", one.workflow_id or "")
            for one in page.items
        ]
        cursor = page.next_cursor
        if cursor is None or len(found) >= MOST:
            break
    return found[:MOST], cursor is not None or len(found) > MOST


async def known(workflow_ids: Sequence[str]) -> set[str]:
    """Those of the workflows that are there.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    return set(await asyncio.to_thread(statuses_of, workflow_ids))
