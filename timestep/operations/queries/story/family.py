"""Tells which runs are forks of which."""

from __future__ import annotations

import asyncio
import datetime
import uuid
from dataclasses import dataclass

from timestep.journal.fail_fast_read import reading
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
