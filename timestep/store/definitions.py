"""Writes definitions that are not there yet; never changes one that is."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from timestep.store.tables import definitions as tables

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy

LOCK = 7470263211650385
"""Held while definitions are written: two writers would give out one version twice."""

_ORDER = (
    tables.model_settings,
    tables.tools,
    tables.handoff_configs,
    tables.guardrails,
    tables.mcp_servers,
    tables.agents,
    tables.agent_tools,
    tables.tool_guardrails,
    tables.agent_handoffs,
    tables.agent_guardrails,
    tables.agent_mcp_servers,
)


def write(connection: sa.Connection, rows: Mapping[str, Mapping[Any, dict[str, Any]]]) -> None:
    """Insert the rows that are not there, each name's next version, in the open transaction."""
    connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
    for table in _ORDER:
        wanted = rows.get(table.name)
        if wanted:
            text = json.dumps(list(wanted.values()), default=str)
            connection.exec_driver_sql(
                _insert(table, frozenset(next(iter(wanted.values())))), (text,)
            )


@functools.cache
def _insert(table: sa.Table, given: frozenset[str]) -> str:
    columns = [column for column in table.columns if column.name in given]
    names = ", ".join(column.name for column in columns)
    values = ", ".join(f"r.{column.name}" for column in columns)
    typed = ", ".join(f"{c.name} {c.type.compile(dialect=_DIALECT)}" for c in columns)
    if "version" in table.columns:
        names += ", version"
        # Several new rows of one name are numbered in turn.
        values += f""", coalesce(
            (SELECT max(version) FROM public.{table.name} AS old WHERE old.name = r.name), 0
        ) + row_number() OVER (PARTITION BY r.name ORDER BY r.id)"""
    key = [column.name for column in table.primary_key.columns]
    known = " AND ".join(f"old.{name} = r.{name}" for name in key)
    return f"""
        INSERT INTO public.{table.name} ({names})
        SELECT {values} FROM jsonb_to_recordset(%s::text::jsonb) AS r({typed})
        WHERE NOT EXISTS (SELECT FROM public.{table.name} AS old WHERE {known})"""
