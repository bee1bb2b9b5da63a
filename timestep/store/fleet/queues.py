"""Counts what waits in a queue, and lets one process after the other put something in."""

from __future__ import annotations

import sqlalchemy as sa

# What was never begun: workflows that wait for a person are delayed in a queue, too.
_WAITING = """
    SELECT count(*) FROM (
        SELECT 1 FROM "{schema}".workflow_status
        WHERE queue_name = :queue AND status = 'ENQUEUED'
        UNION ALL SELECT 1 FROM "{schema}".workflow_status
        WHERE queue_name = :queue AND status = 'DELAYED' AND recovery_attempts = 0
        LIMIT :limit) AS waiting"""


def is_full(connection: sa.Connection, schema: str, queue: str, limit: int) -> bool:
    """Whether so many workflows wait in a queue.

    Args:
        connection: To the database with DBOS's tables, which may be SQLite.
        schema: Where those are.
        queue: Its name.
        limit: How many.
    """
    query = sa.text(_WAITING.replace("{schema}", schema))
    found = connection.execute(query, {"queue": queue, "limit": limit})
    return bool(found.scalar_one() >= limit)


def try_lock(connection: sa.Connection, queue: str) -> bool:
    """Let nobody else put something into a queue until the transaction ends; whether that is so."""
    query = sa.text(
        "SELECT pg_try_advisory_xact_lock(hashtext('timestep queue'), hashtext(:queue))"
    )
    return bool(connection.execute(query, {"queue": queue}).scalar_one())
