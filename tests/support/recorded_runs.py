"""Writes the rows of runs that would take too long, or no model would answer so."""

from __future__ import annotations

import uuid
from typing import Any

import psycopg

_AGENT = """
    INSERT INTO agents (id, name, version, instructions_type)
    VALUES (%(agent)s, 'Ann', %(version)s, 'none')"""

_RUN = """
    INSERT INTO runs (id, workflow_id, root_run_id, agent_id, status, input, current_turn,
        sdk_version, started_at, completed_at, final_output)
    VALUES (%(run)s, %(workflow)s, %(run)s, %(agent)s, 'completed', '"go"', %(turns)s, '0',
        '2026-01-01', '2026-01-02', '"done"')"""

_USAGE = "INSERT INTO usage_metrics (id, run_id) VALUES (%(run)s, %(run)s)"

# Ids are made of the turn's number, so that one statement refers to the others' rows.
_ROWS = """
    WITH turns AS (
        SELECT t, md5(%(run)s::text || 'm' || t)::uuid AS answer,
            md5(%(run)s::text || 'c' || t)::uuid AS call,
            '2026-01-01'::timestamptz + t * interval '1 second' AS at
        FROM generate_series(1, %(turns)s) t
    ), answers AS (
        INSERT INTO model_responses (id, run_id, agent_id, turn, ordinal, model, output, usage,
            duration_ms, created_at)
        SELECT answer, %(run)s, %(agent)s, t, t, 'm', '[]', '{}', 200, at FROM turns
    ), used AS (
        INSERT INTO request_usage_entries (id, run_id, usage_metrics_id, model_response_id,
            input_tokens, output_tokens, total_tokens, estimated_cost)
        SELECT answer, %(run)s, %(run)s, answer, 8, 2, 10, 0.001 FROM turns ORDER BY t
    ), calls AS (
        INSERT INTO tool_calls (id, run_id, agent_id, model_response_id, turn, call_id, tool_name,
            tool_type, arguments, status, output, error, attempts, created_at, started_at,
            completed_at, duration_ms)
        SELECT call, %(run)s, %(agent)s, answer, t, 'c' || t, 'look', 'function_tool',
            jsonb_build_object('place', t),
            CASE WHEN t = ANY(%(failed)s) THEN 'failed' ELSE 'executed' END,
            CASE WHEN t = ANY(%(failed)s) THEN NULL ELSE to_jsonb('saw ' || t) END,
            CASE WHEN t = ANY(%(failed)s) THEN '{"type": "builtins:OSError", "message": "gone"}'
                ::jsonb END, 1, at, at + interval '1 ms', at + interval '300 ms', 299 FROM turns
    )
    INSERT INTO run_items (id, run_id, agent_id, model_response_id, tool_call_id, turn, position,
        item_type, item_data, created_at)
    SELECT md5(call::text || part)::uuid, %(run)s, %(agent)s, CASE WHEN part = 0 THEN answer END,
        call, t, 2 * t - 1 + part,
        CASE WHEN part = 0 THEN 'tool_call_item' ELSE 'tool_call_output_item' END,
        jsonb_build_object('call_id', 'c' || t, CASE WHEN part = 0 THEN 'name' ELSE 'output' END,
            'look ' || t), at
    FROM turns, generate_series(0, 1) part ORDER BY t, part"""


def long_run(url: str, workflow_id: str, *, turns: int, failed: tuple[int, ...] = ()) -> str:
    """A completed run that calls a tool in each of its turns: two items a turn.

    Args:
        url: The database.
        workflow_id: Whose run it is.
        turns: How many.
        failed: Those whose calls failed.

    Returns:
        Its id.
    """
    run, agent = uuid.uuid4(), uuid.uuid4()
    values = {"run": run, "agent": agent, "workflow": workflow_id, "turns": turns}
    values["version"] = agent.int % 2**31 or 1
    with psycopg.connect(url) as connection:
        for sql in (_AGENT, _RUN, _USAGE, _ROWS):
            connection.execute(sql, {**values, "failed": list(failed)})
    return str(run)


def change(url: str, sql: str, *values: Any) -> None:
    """Change rows as nobody does."""
    with psycopg.connect(url) as connection:
        connection.execute(sql.encode(), values)
