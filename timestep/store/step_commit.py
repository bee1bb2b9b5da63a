"""Makes the one statement that writes a step, fenced by who owns the workflow.

The statement is made of data-modifying CTEs over JSON parameters, so a step costs one round
trip and one commit whatever it writes. Every insert depends on the CTE `mine`, which is
empty unless the caller's execution still owns the workflow: an execution that lost it writes
nothing. Running the statement again changes nothing, so a connection lost while committing
is answered by sending it again.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Column, DateTime, DefaultClause, Table
from sqlalchemy.dialects import postgresql

from timestep.store import dbos_step_outputs
from timestep.store.tables import interruptions, journal, runs, usage

Rows = Mapping[str, list[dict[str, Any]]]

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy

_KEEP = "ON CONFLICT (id) DO NOTHING"

_INSERTS: dict[str, tuple[Table, str]] = {
    "model_responses": (runs.model_responses, _KEEP),
    "tool_calls": (
        runs.tool_calls,
        """ON CONFLICT (id) DO UPDATE SET
            status = excluded.status, output = excluded.output,
            output_text = excluded.output_text, error = excluded.error,
            is_error = excluded.is_error, intents = excluded.intents,
            attempts = excluded.attempts, failed_attempts = excluded.failed_attempts,
            duration_ms = excluded.duration_ms, completed_at = excluded.completed_at,
            context_change = excluded.context_change,
            context_position = excluded.context_position,
            end_position = excluded.end_position,
            started_at = coalesce(excluded.started_at, tool_calls.started_at)
        WHERE tool_calls.completed_at IS NULL AND excluded.status <> 'pending'""",
    ),
    "stream_batches": (journal.stream_batches, _KEEP),
    "run_items": (
        runs.run_items,
        """ON CONFLICT (id) DO UPDATE SET item_data = excluded.item_data,
            sequence = excluded.sequence
        WHERE run_items.item_data IS DISTINCT FROM excluded.item_data""",
    ),
    "guardrail_results": (runs.guardrail_results, _KEEP),
    "tool_guardrail_results": (runs.tool_guardrail_results, _KEEP),
    "interruptions": (interruptions.interruptions, _KEEP),
    "step_values": (journal.step_values, _KEEP),
}

_MINE = {
    False: "owner_xid = %(token)s AND status = 'PENDING'",
    # DBOS takes the owner away from what it cancels, and gives it another when it is resumed.
    True: "owner_xid = %(token)s AND status = 'PENDING' OR owner_xid IS NULL "
    "AND status = 'CANCELLED'",
}
"""By whether the statement tells of an effect that has been."""

_RUN_COLUMNS = (
    "status",
    "current_turn",
    "current_agent_id",
    "final_output",
    "error_type",
    "error_message",
    "error_turn",
    "error",
    "cancel_reason",
    "cancel_steps",
    "ends",
    "completed_at",
)


_MOMENTS = frozenset(
    (
        runs.model_responses.c.started_at,
        runs.tool_calls.c.started_at,
        runs.tool_calls.c.completed_at,
    )
)
"""When an effect began and ended: seconds on the clock that `CLOCK` is read from, or a time that
is recorded already."""

CLOCK = "clock"
"""The parameter that tells what the sender's own clock, `time.monotonic`, shows when the statement
is sent. So no other clock than the database's counts, and waiting for it moves no moment."""


def statement(
    tables: Iterable[str], schema: str, *, is_joint: bool = False, is_outcome: bool = False
) -> str:
    """The statement that writes rows of these tables. It answers `(status, is_mine)`.

    Args:
        tables: Which tables.
        schema: Where DBOS's tables are.
        is_joint: Whether it writes DBOS's own record of the step, too.
        is_outcome: Whether it tells of an effect that has been: it is written for a cancelled
            workflow, too, until another execution owns that.
    """
    return _statement(frozenset(tables), schema, is_joint, is_outcome)


@functools.cache
def numbered(sql: str) -> tuple[str, tuple[str, ...]]:
    """A statement with `$1` and so on for its parameters, and their names in that order."""
    names = tuple(dict.fromkeys(_PARAMETER.findall(sql)))
    return _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", sql), names


_PARAMETER = re.compile(r"%\((\w+)\)s")


def as_of_now(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a statement that is sent now."""
    return {**parameters, CLOCK: time.monotonic()}


@functools.cache
def _statement(tables: frozenset[str], schema: str, is_joint: bool, is_outcome: bool) -> str:
    parts = [
        f"""holder AS MATERIALIZED (
            SELECT status, owner_xid FROM "{schema}".workflow_status
            WHERE workflow_uuid = %(workflow_id)s FOR NO KEY UPDATE)""",
        f"mine AS MATERIALIZED (SELECT status FROM holder WHERE {_MINE[is_outcome]})",
    ]
    for name, (table, on_conflict) in _INSERTS.items():
        if name in tables:
            # What a model said is numbered before the items made of it.
            waited = (
                "(SELECT count(*) FROM stream_batches_written) AS waited, "
                if name == "run_items" and "stream_batches" in tables
                else ""
            )
            parts.append(
                f"{name}_written AS (INSERT INTO {table.fullname} ({_names(table)}) "
                f"SELECT {_values(table, is_outcome)} FROM mine, {waited}{_records(name, table)} "
                f"{on_conflict} RETURNING id)"
            )
    if "request_usage_entries" in tables:
        parts.extend(_usage())
    if "runs" in tables:
        parts.extend(_run_update(asks="interruptions" in tables))
    if "ended_calls" in tables:
        parts.extend(_ENDED_CALLS)
    if "run_states" in tables:
        parts.extend(_state(is_last="superseded_states" in tables))
    if is_joint:
        parts.append(dbos_step_outputs.INSERT.replace("{schema}", schema))
    # The answer comes from `holder`: a workflow that is not there gives no row at all.
    return f"WITH {', '.join(parts)} SELECT status, EXISTS (SELECT FROM mine) FROM holder"


def _names(table: Table) -> str:
    return ", ".join(_written(table))


def _written(table: Table) -> list[str]:
    """The columns a step gives."""
    return [column.name for column in table.columns if column.name not in _GIVEN_ELSEWHERE]


_GIVEN_ELSEWHERE = ("created_at", "sequence", "edited_arguments", "original_data")
"""The transaction's time, a number drawn in it, and what the person who edits a call writes."""


def _values(table: Table, is_outcome: bool = False) -> str:
    return ", ".join(_value(table.columns[name], is_outcome) for name in _written(table))


def _value(column: Column[Any], is_outcome: bool) -> str:
    if is_outcome and column is runs.tool_calls.c.status:
        # What an answer asks for that came after the cancellation is not begun any more.
        return (
            "CASE WHEN mine.status = 'CANCELLED' AND r.status = 'pending' THEN 'skipped' "
            "ELSE r.status END"
        )
    if column.name == "expires_at":
        return "now() + make_interval(secs => r.expires_at)"
    if column in _MOMENTS:
        return (
            f"CASE jsonb_typeof(r.{column.name}) WHEN 'number' THEN now() - make_interval("
            f"secs => %(clock)s::float8 - r.{column.name}::float8) "
            f"ELSE (r.{column.name} #>> '{{}}')::timestamptz END"
        )
    if isinstance(column.type, DateTime):
        # A time is given as true: it is the transaction's, whatever the caller's clock says.
        return f"CASE WHEN r.{column.name} THEN now() END"
    default = column.server_default
    if isinstance(default, DefaultClause) and not column.primary_key:
        return f"coalesce(r.{column.name}, {default.arg})"
    return f"r.{column.name}"


def _records(name: str, table: Table, columns: Iterable[str] | None = None) -> str:
    typed = ", ".join(f"{c} {_type(table, c)}" for c in columns or _written(table))
    return f"jsonb_to_recordset(%({name})s::text::jsonb) AS r({typed})"


def _type(table: Table, name: str) -> str:
    kind = table.columns[name].type
    if name == "expires_at":
        return "double precision"
    if table.columns[name] in _MOMENTS:
        return "jsonb"
    return "boolean" if isinstance(kind, DateTime) else str(kind.compile(dialect=_DIALECT))


def _usage() -> list[str]:
    """Usage is added once for each response that was written, not for each sending."""
    entries, counts = usage.request_usage_entries, ", ".join(usage.USAGE_COUNTS)
    sums = ", ".join(f"sum({name})" for name in usage.USAGE_COUNTS)
    added = ", ".join(
        f"{name} = usage_metrics.{name} + excluded.{name}" for name in usage.USAGE_COUNTS
    )
    return [
        f"""entries AS (INSERT INTO public.request_usage_entries ({_names(entries)})
            SELECT {_values(entries)} FROM {_records("request_usage_entries", entries)}
            JOIN model_responses_written written ON written.id = r.model_response_id
            RETURNING *)""",
        f"""metrics AS (INSERT INTO public.usage_metrics (id, run_id, {counts}, estimated_cost)
            SELECT usage_metrics_id, run_id, {sums}, sum(estimated_cost) FROM entries
            GROUP BY usage_metrics_id, run_id
            ON CONFLICT (run_id) DO UPDATE SET {added}, updated_at = now(),
                estimated_cost = coalesce(
                    usage_metrics.estimated_cost + excluded.estimated_cost,
                    usage_metrics.estimated_cost, excluded.estimated_cost))""",
    ]


def _run_update(*, asks: bool) -> list[str]:
    columns = ("id", *_RUN_COLUMNS)
    given = {
        "completed_at": "CASE WHEN r.completed_at THEN now() END",
        # A run that ends with the one around it hands nothing over.
        "ends": "coalesce(r.ends, runs.ends)",
    }
    changes = ", ".join(f"{name} = {given.get(name, f'r.{name}')}" for name in _RUN_COLUMNS)
    # Readers are told of its questions before they are told that it waits.
    waited = "(SELECT count(*) FROM interruptions_written) AS waited, " if asks else ""
    return [
        f"given_runs AS MATERIALIZED (SELECT r.* FROM {_records('runs', runs.runs, columns)})",
        f"""run AS (UPDATE public.runs SET {changes}, updated_at = now()
            FROM mine, {waited}given_runs r
            WHERE runs.id = r.id AND {_is_one_of("runs.id", "given_runs", "id")}
            AND runs.completed_at IS NULL)""",
    ]


_ENDED_CALLS = (
    """given_ended_calls AS MATERIALIZED (
        SELECT r.* FROM jsonb_to_recordset(%(ended_calls)s::text::jsonb)
        AS r(run_id uuid, skipped uuid[], written uuid[]))""",
    """calls_ended AS (UPDATE public.tool_calls SET status =
            CASE WHEN tool_calls.id = ANY(r.skipped) THEN 'skipped' ELSE 'unknown' END
        FROM mine, given_ended_calls r
        WHERE tool_calls.run_id = r.run_id
        AND tool_calls.run_id = ANY (ARRAY(SELECT run_id FROM given_ended_calls))
        AND tool_calls.status IN ('pending', 'approved', 'started')
        AND tool_calls.id <> ALL(r.written))""",
)
"""Calls without an outcome say what became of them; those that the statement writes do already."""


def _is_one_of(column: str, given: str, name: str) -> str:
    """SQL that says the same as a join, and is never planned without an index.

    A plan is made once, when tables may be small: a join would be planned as a scan of all rows.
    """
    return f"{column} = ANY (ARRAY(SELECT {name} FROM {given}))"


def _state(*, is_last: bool) -> list[str]:
    """The new state becomes the run's active one; the insert waits for what it replaces.

    The last state of a run stands for its checkpoints, too, except for those that somebody has
    loaded, whose record may name them.
    """
    states = runs.run_states
    ended = _records("superseded_states", states, ("run_id",))
    removed = f"""given_ended AS MATERIALIZED (
            SELECT r.run_id, (
                SELECT max(loaded.turn) FROM public.run_states loaded
                WHERE loaded.run_id = r.run_id AND loaded.state_type = 'checkpoint'
                AND loaded.resumed_at IS NOT NULL) AS loaded_turn
            FROM {ended}),
        removed AS (DELETE FROM public.run_states s USING mine, given_ended r
            WHERE s.run_id = r.run_id AND {_is_one_of("s.run_id", "given_ended", "run_id")}
            AND s.state_type = 'checkpoint' AND s.turn > coalesce(r.loaded_turn, -1)
            RETURNING s.id)"""
    others = "AND run_states.id NOT IN (SELECT id FROM removed)" if is_last else ""
    emptied = "(SELECT count(*) FROM removed) AS emptied," if is_last else ""
    return [
        *([removed] if is_last else []),
        f"given_states AS MATERIALIZED (SELECT r.* FROM {_records('run_states', states)})",
        f"""superseded AS (UPDATE public.run_states SET is_active = false
            FROM mine, given_states r
            WHERE run_states.run_id = r.run_id
            AND {_is_one_of("run_states.run_id", "given_states", "run_id")}
            AND run_states.is_active AND run_states.id <> r.id {others} RETURNING run_states.id)""",
        f"""state AS (INSERT INTO public.run_states ({_names(states)})
            SELECT {_values(states)} FROM mine, (SELECT count(*) FROM superseded) AS waited,
            {emptied} given_states r {_KEEP})""",
    ]
