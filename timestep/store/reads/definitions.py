"""Reads what agents are made of, for people."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from timestep.store.reads.runs import Row

_NAMES = """ARRAY(SELECT t.name FROM public.{links} l JOIN public.{table} t ON t.id = l.{key}
        WHERE l.agent_id = a.id ORDER BY l.position, t.name)"""

_AGENT = f"""
    SELECT a.id, a.name, a.version, a.model, a.instructions, a.instructions_type, a.output_type,
        a.created_at,
        {_NAMES.format(links="agent_tools", table="tools", key="tool_id")} AS tools,
        {_NAMES.format(links="agent_guardrails", table="guardrails", key="guardrail_id")}
            AS guardrails,
        {_NAMES.format(links="agent_mcp_servers", table="mcp_servers", key="mcp_server_id")}
            AS mcp_servers,
        ARRAY(SELECT h.target_name FROM public.agent_handoffs l
            JOIN public.handoff_configs h ON h.id = l.handoff_config_id
            WHERE l.agent_id = a.id ORDER BY l.position, h.target_name) AS handoffs
    FROM public.agents a"""

_AGENTS = f"""
    {_AGENT} WHERE a.deleted_at IS NULL AND a.version =
        (SELECT max(version) FROM public.agents newest WHERE newest.name = a.name)
    ORDER BY a.name"""

_SOME_AGENTS = f"""
    {_AGENT} WHERE a.deleted_at IS NULL AND a.version =
        (SELECT max(version) FROM public.agents newest WHERE newest.name = a.name)
    AND (%(after)s::text IS NULL OR a.name > %(after)s)
    AND (%(text)s::text IS NULL OR position(lower(%(text)s) IN lower(a.name)) > 0)
    ORDER BY a.name LIMIT %(limit)s"""

_VERSIONS = f"""
    {_AGENT} WHERE a.deleted_at IS NULL AND a.name = %(name)s
    AND (%(before)s::integer IS NULL OR a.version < %(before)s)
    ORDER BY a.version DESC LIMIT %(limit)s"""

_FIRST = """
    SELECT DISTINCT r.agent_id FROM public.runs r
    WHERE r.parent_run_id IS NULL AND r.workflow_id =
        (SELECT newest.workflow_id FROM public.runs newest
        WHERE newest.workflow_name = %(name)s AND newest.parent_run_id IS NULL
        ORDER BY newest.started_at DESC, newest.id DESC LIMIT 1)"""

_REACHED = """
    WITH RECURSIVE reached AS (
        SELECT unnest(%(first)s::uuid[]) AS id
        UNION SELECT l.target_agent_id FROM reached
        JOIN public.agent_handoffs l ON l.agent_id = reached.id
        WHERE l.target_agent_id IS NOT NULL
    )
    SELECT a.id, a.name FROM reached JOIN public.agents a USING (id) ORDER BY a.name, a.id"""

_HANDOFFS = """
    SELECT l.agent_id, l.target_agent_id, h.tool_name, h.target_name, h.is_enabled
    FROM public.agent_handoffs l JOIN public.handoff_configs h ON h.id = l.handoff_config_id
    WHERE l.agent_id = ANY(%(ids)s::uuid[]) ORDER BY l.agent_id, l.position, h.tool_name
    LIMIT %(limit)s"""


def agents(connection: sa.Connection) -> list[Row]:
    """The newest version of each agent that a run had, by name."""
    return _rows(connection, _AGENTS, {})


def some_agents(
    connection: sa.Connection, *, text: str | None, after: str | None, limit: int
) -> list[Row]:
    """Those with a text in their names, by name; with `after`, those after that name."""
    return _rows(connection, _SOME_AGENTS, {"text": text, "after": after, "limit": limit})


def versions(connection: sa.Connection, name: str, *, before: int | None, limit: int) -> list[Row]:
    """The versions of an agent, the newest first; with `before`, those before that one."""
    return _rows(connection, _VERSIONS, {"name": name, "before": before, "limit": limit})


def reached(connection: sa.Connection, workflow_name: str) -> tuple[list[Any], list[Row]]:
    """The agents that the newest workflow of a name began with, and all they may hand over to.

    Returns:
        The ids of the first ones; and the id and name of each. Nothing where there is no run.
    """
    first = list(connection.exec_driver_sql(_FIRST, {"name": workflow_name}).scalars())
    return first, _rows(connection, _REACHED, {"first": first}) if first else []


def handoffs(
    connection: sa.Connection, agent_ids: list[Any], *, limit: int | None = None
) -> list[Row]:
    """Who of some agents may hand over to whom; a target that is named late has no id."""
    return _rows(connection, _HANDOFFS, {"ids": agent_ids, "limit": limit})


def _rows(connection: sa.Connection, query: str, values: dict[str, Any]) -> list[Row]:
    return [dict(row) for row in connection.exec_driver_sql(query, values).mappings()]
