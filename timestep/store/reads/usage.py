"""Sums usage by day and hour, keeps the sums, and adds what is not in them yet.

A run's entries are numbered when they are written. The sums hold all up to one number; it is
moved on only to where no transaction may still add an entry before it.
"""

from __future__ import annotations

import datetime
from typing import Any

import sqlalchemy as sa

from timestep.store.tables.usage import USAGE_COUNTS

WHO = "coalesce(e.agent_id, r.agent_id)"
"""Whose an entry `e` of a run `r` is: the agent's that asked; old ones have only the run's."""

_SUMMED = ("entries", *USAGE_COUNTS, "priced", "estimated_cost")

_OF_ENTRIES = f"""
    count(*) AS entries, {", ".join(f"sum(e.{name}) AS {name}" for name in USAGE_COUNTS)},
    count(e.estimated_cost) AS priced, coalesce(sum(e.estimated_cost), 0) AS estimated_cost"""

# Who moves the number on already does it for everybody.
_WATERMARK = """
    SELECT sequence, candidate, writers FROM timestep.usage_watermark FOR UPDATE SKIP LOCKED"""

_DRAWN = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM timestep.event_sequence"

# Whoever has drawn a number holds its lock of the table until its transaction has ended.
_WRITERS = """
    SELECT DISTINCT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = 'public.request_usage_entries'::regclass
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND mode <> 'AccessShareLock' AND granted"""

_ADD = f"""
    INSERT INTO timestep.usage_sums AS h
    SELECT unit, timestep.usage_start(unit, r.started_at), {WHO}, coalesce(e.model, ''),
        {_OF_ENTRIES}
    FROM public.request_usage_entries e JOIN public.runs r ON r.id = e.run_id,
        (VALUES ('day'), ('hour')) units(unit)
    WHERE e.sequence > %(after)s::bigint AND e.sequence <= %(until)s::bigint GROUP BY 1, 2, 3, 4
    ON CONFLICT (unit, start, agent_id, model) DO UPDATE SET
        {", ".join(f"{name} = h.{name} + excluded.{name}" for name in _SUMMED)}"""

_MOVE = """
    UPDATE timestep.usage_watermark
    SET sequence = %(until)s, candidate = %(candidate)s, writers = %(writers)s"""

_NAMES = {
    "agent": "a.name",
    "model": "nullif(parts.model, '')",
    "day": "to_char(parts.start AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}
"""What a row of the report stands for."""

_RAW = f"""
        SELECT timestep.usage_start('hour', r.started_at), {WHO}, coalesce(e.model, ''),
            {_OF_ENTRIES}
        FROM public.runs r JOIN public.request_usage_entries e ON e.run_id = r.id"""

_REPORT = f"""
    WITH parts AS (
        SELECT start, agent_id, model, {", ".join(_SUMMED)} FROM timestep.usage_sums
        WHERE unit = 'day' AND start >= %(day)s::timestamptz
            OR unit = 'hour' AND start >= %(hour)s::timestamptz AND start < %(day)s::timestamptz
        UNION ALL {_RAW}
        WHERE e.sequence > %(summed)s::bigint AND r.started_at >= %(hour)s::timestamptz
        GROUP BY 1, 2, 3
        UNION ALL {_RAW}
        WHERE r.started_at >= %(since)s::timestamptz AND r.started_at < %(hour)s::timestamptz
        GROUP BY 1, 2, 3
    )
    SELECT {{name}} AS name,
        {", ".join(f"sum({name})::bigint AS {name}" for name in USAGE_COUNTS)},
        CASE WHEN sum(priced) > 0 THEN sum(estimated_cost) END AS estimated_cost,
        sum(entries - priced)::bigint AS unpriced_requests
    FROM parts JOIN public.agents a ON a.id = parts.agent_id
    GROUP BY 1 HAVING sum(entries) > 0 ORDER BY {{order}}"""


# What costs most, then what is used most; days have their own order.
_LARGEST = "coalesce(sum(estimated_cost), 0) DESC, sum(total_tokens) DESC, 1"

# The sums know no workflows.
_OF_WORKFLOWS = f"""
    SELECT root.workflow_name AS name,
        {", ".join(f"sum(e.{name})::bigint AS {name}" for name in USAGE_COUNTS)},
        sum(e.estimated_cost) AS estimated_cost,
        count(*) FILTER (WHERE e.estimated_cost IS NULL) AS unpriced_requests
    FROM public.runs r JOIN public.request_usage_entries e ON e.run_id = r.id
    JOIN public.runs root ON root.id = r.root_run_id
    WHERE r.started_at >= %(since)s::timestamptz GROUP BY 1 ORDER BY {_LARGEST}"""


_PLAIN = {
    **_NAMES,
    "model": "nullif(e.model, '')",
    "day": "to_char(r.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "entrypoint": "root.workflow_name",
}


def move_on(connection: sa.Connection) -> None:
    """Add to the sums what no transaction may still change, in the open transaction.

    Needs READ COMMITTED: each statement sees what had ended when it began. Nobody waits for it
    but who deletes runs.
    """
    found = connection.exec_driver_sql(_WATERMARK).one_or_none()
    if found is None:
        return
    after, candidate, awaited = found
    # The number first: who drew it, or one before it, is among those seen next, or has ended.
    drawn = connection.exec_driver_sql(_DRAWN).scalar_one()
    writers = set(connection.exec_driver_sql(_WRITERS).scalars())
    until = after
    if not writers:
        until = candidate = drawn
    elif not writers & set(awaited):
        until, candidate, awaited = candidate, drawn, sorted(writers)
    if until > after:
        connection.exec_driver_sql(_ADD, {"after": after, "until": until})
    connection.exec_driver_sql(
        _MOVE,
        {"until": until, "candidate": candidate, "writers": list(awaited) if writers else []},
    )


def report(
    connection: sa.Connection, by: str, since: datetime.datetime | None
) -> list[dict[str, Any]]:
    """Tokens and cost of the runs that began at or after `since`.

    Needs REPEATABLE READ: the sums, and what is not in them, at one time.

    Args:
        connection: To the database.
        by: `agent`, `model` or `day`; or `entrypoint`, for which each answer since is read.
        since: None: all runs.

    Returns:
        Days in their order; all else by what it cost, and used, the largest first.
    """
    if by == "entrypoint":
        given = {"since": since or "-infinity"}
        rows = connection.exec_driver_sql(_OF_WORKFLOWS, given)
        return [dict(row) for row in rows.mappings()]
    summed = connection.exec_driver_sql(
        "SELECT sequence FROM timestep.usage_watermark"
    ).scalar_one()
    values = {"summed": summed, "since": since or "-infinity", **_whole(since)}
    order = "name" if by == "day" else _LARGEST
    found = connection.exec_driver_sql(_REPORT.format(name=_NAMES[by], order=order), values)
    return [dict(row) for row in found.mappings()]


def _whole(since: datetime.datetime | None) -> dict[str, datetime.datetime | str]:
    """The first hour, and the first day, of which all runs are asked for."""
    if since is None:
        return {"hour": "-infinity", "day": "-infinity"}
    utc = since.astimezone(datetime.UTC)
    hour = utc.replace(minute=0, second=0, microsecond=0)
    hour = hour if hour == utc else hour + datetime.timedelta(hours=1)
    day = hour.replace(hour=0)
    return {"hour": hour, "day": day if day == hour else day + datetime.timedelta(days=1)}


def plain_sql(by: str, since: datetime.datetime | None) -> str:
    """The same report as one statement for people, which reads each request anew.

    Args:
        by: `agent`, `model`, `day` or `entrypoint`.
        since: None: all runs.
    """
    sums = "".join(f"    sum(e.{name}) AS {name},\n" for name in USAGE_COUNTS)
    join = {
        "agent": f"JOIN agents a ON a.id = {WHO}\n",
        "entrypoint": "JOIN runs root ON root.id = r.root_run_id\n",
    }.get(by, "")
    order = "1" if by == "day" else "cost DESC NULLS LAST, total_tokens DESC, 1"
    where = "" if since is None else f"WHERE r.started_at >= '{since.isoformat()}'\n"
    return (
        f"SELECT {_PLAIN[by]} AS name,\n{sums}"
        "    sum(e.estimated_cost) AS cost,\n"
        "    count(*) FILTER (WHERE e.estimated_cost IS NULL) AS unpriced_requests\n"
        "FROM runs r\nJOIN request_usage_entries e ON e.run_id = r.id\n"
        f"{join}{where}GROUP BY 1 ORDER BY {order};"
    )
