"""Tells which runs are forks of which."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from dataclasses import dataclass
from typing import Any, Literal

from timestep.journal.fail_fast_read import reading
from timestep.operations.queries.records import Run
from timestep.serialization.documents.json_text import displayed
from timestep.store.timeline import forks as store

MOST = 100
"""Runs of a family that are told."""


@dataclass(frozen=True)
class Relative:
    """A run of a family."""

    id: str
    depth: int
    """How many forks lead from the first run to it."""
    workflow_id: str | None
    agent_name: str
    status: str
    forked_at_turn: int | None
    turns: int
    total_tokens: int
    cost: float | None
    started_at: datetime.datetime


async def family_of(run_id: str) -> list[Relative]:
    """The run that a run comes of, and all forks of it, each after what it is a fork of.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    id_ = uuid.UUID(run_id)
    rows = await asyncio.to_thread(
        lambda: reading(lambda connection: store.family(connection, id_, MOST))
    )
    return [
        Relative(
            id=str(row["id"]),
            depth=row["depth"],
            workflow_id=row["workflow_id"],
            agent_name=row["agent_name"],
            status=row["status"],
            forked_at_turn=row["forked_at_turn"],
            turns=row["current_turn"],
            total_tokens=row["total_tokens"] or 0,
            cost=None if row["estimated_cost"] is None else float(row["estimated_cost"]),
            started_at=row["started_at"],
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Changed:
    """What a fork was given in another way than the run that it is of."""

    way: Literal["replace", "append"] | None
    """What became of what the model was shown in its first turn; None: it was the same."""
    shown: Any
    """The text or the items that it was shown instead, or in addition."""
    agent: dict[str, Any]
    """What is different of the agent, such as its `instructions`."""


async def changed_in(run: Run) -> Changed | None:
    """What is different of a fork; None: nothing, or the run is no fork of another one.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if run.id is None or run.forked_from_run_id is None or run.forked_at_turn is None:
        return None
    ids = uuid.UUID(run.id), uuid.UUID(run.forked_from_run_id)
    row = await asyncio.to_thread(
        lambda: reading(lambda connection: store.changed(connection, *ids))
    )
    edit, agent = (displayed(one) for one in row or (None, None))
    edit = edit if isinstance(edit, dict) else {}
    agent = agent if isinstance(agent, dict) else {}
    different = {name: value for name, value in agent.items() if name != "agent"}
    # A fork that begins at the beginning has its whole input there, which its page shows.
    way = next((one for one in _WAYS if one in edit), None) if run.forked_at_turn > 1 else None
    if way is None and not different:
        return None
    return Changed(way, displayed(edit[way]) if way else None, different)


_WAYS: tuple[Literal["replace", "append"], ...] = ("replace", "append")
