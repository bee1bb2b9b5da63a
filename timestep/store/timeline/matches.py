"""Finds what failed, waits, or was decided in a run, and what says some words."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

Only = Literal["failed", "pending", "approvals"]

Place = tuple[int, uuid.UUID]
"""Where a match stands: its turn, and its row's id."""

# Of what was tried again, each attempt that failed.
_FAILED = """
    SELECT turn, id, 'call' AS kind FROM public.tool_calls WHERE run_id = %(run_id)s
        AND (is_error OR failed_attempts IS NOT NULL OR status IN ('failed', 'in_doubt', 'unknown'))
    UNION ALL SELECT turn, id, 'answer' FROM public.model_responses
        WHERE run_id = %(run_id)s AND error IS NOT NULL
    UNION ALL SELECT turn, id, 'check' FROM public.guardrail_results
        WHERE run_id = %(run_id)s AND tripwire_triggered IS DISTINCT FROM false
    UNION ALL SELECT c.turn, c.id, 'call' FROM public.tool_guardrail_results g
        JOIN public.tool_calls c ON c.id = g.tool_call_id
        WHERE g.run_id = %(run_id)s AND g.behavior IS DISTINCT FROM 'allow'"""

_PENDING = """
    SELECT turn, id, 'call' AS kind FROM public.tool_calls WHERE run_id = %(run_id)s
        AND status IN ('pending', 'approved', 'started', 'in_doubt')"""

_APPROVALS = """
    SELECT c.turn, c.id, 'call' AS kind FROM public.interruptions q
        JOIN public.tool_calls c ON c.id = q.tool_call_id WHERE q.run_id = %(run_id)s"""

_SAYS = """
    SELECT i.turn, coalesce(i.tool_call_id, i.id) AS id,
        CASE WHEN i.tool_call_id IS NULL THEN 'item' ELSE 'call' END AS kind
        FROM public.run_items i
        WHERE i.run_id = %(run_id)s AND i.item_data::text ILIKE %(pattern)s
    UNION ALL SELECT turn, id, 'call' FROM public.tool_calls
        WHERE run_id = %(run_id)s
        AND (error::text ILIKE %(pattern)s OR failed_attempts::text ILIKE %(pattern)s)
    UNION ALL SELECT turn, id, 'answer' FROM public.model_responses
        WHERE run_id = %(run_id)s AND error::text ILIKE %(pattern)s"""

_ONLY: dict[str | None, str] = {
    "failed": _FAILED,
    "pending": _PENDING,
    "approvals": _APPROVALS,
}

_MATCHES = """
    SELECT DISTINCT turn, id, kind FROM ({found}) found
    WHERE %(turn)s::int IS NULL OR (turn, id) > (%(turn)s::int, %(id)s::uuid)
    ORDER BY turn, id LIMIT %(limit)s"""

_BOTH = "SELECT * FROM ({one}) one WHERE id IN (SELECT id FROM ({other}) other)"


@dataclass(frozen=True)
class Match:
    """A row that is looked for."""

    turn: int
    id: uuid.UUID
    kind: Literal["call", "answer", "check", "item"]


def matches(
    connection: sa.Connection,
    run_id: uuid.UUID,
    only: Only | None,
    text: str | None,
    after: Place | None,
    limit: int,
) -> list[Match]:
    """What is looked for in a run, in its order.

    Args:
        connection: To the database.
        run_id: The run.
        only: What failed, is pending, or was asked about; None: anything.
        text: What it says, in small letters or capitals; None: anything. One of both is given.
        after: Only what comes after this.
        limit: How many at most.
    """
    queries = [one for one in (_ONLY.get(only), _SAYS if text is not None else None) if one]
    found = queries[0] if len(queries) == 1 else _BOTH.format(one=queries[0], other=queries[1])
    values: dict[str, Any] = {
        "run_id": run_id,
        "pattern": None if text is None else _pattern(text),
        "turn": None if after is None else after[0],
        "id": None if after is None else after[1],
        "limit": limit,
    }
    rows = connection.exec_driver_sql(_MATCHES.format(found=found), values)
    return [Match(*row) for row in rows]


def _pattern(text: str) -> str:
    """What finds a text as it is written inside of JSON's quotes."""
    written = json.dumps(text, ensure_ascii=False)[1:-1]
    for character in "\\%_":
        written = written.replace(character, f"\\{character}")
    return f"%{written}%"
