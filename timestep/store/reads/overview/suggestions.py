"""Reads what may stand in a filter: names of agents, sessions, workflows, entrypoints, versions.

Of what there may be very many of, only the newest are looked through.
"""

from __future__ import annotations

import sqlalchemy as sa

_LOOKED_THROUGH = 2_000
_LIKE = "strpos(lower({0}), lower(%(text)s)) > 0"

_NEWEST_RUNS = f"""(SELECT workflow_id, workflow_name FROM public.runs
    ORDER BY started_at DESC, id DESC LIMIT {_LOOKED_THROUGH}) r"""

_QUERIES = {
    "agent": f"""
        SELECT DISTINCT name FROM public.agents WHERE {_LIKE.format("name")}
        ORDER BY name LIMIT %(limit)s""",
    "session_id": f"""
        SELECT session_key FROM (SELECT session_key, updated_at FROM public.sessions
            WHERE deleted_at IS NULL ORDER BY updated_at DESC LIMIT {_LOOKED_THROUGH}) s
        WHERE {_LIKE.format("session_key")} ORDER BY updated_at DESC LIMIT %(limit)s""",
    "workflow_id": f"""
        SELECT workflow_id FROM {_NEWEST_RUNS} WHERE {_LIKE.format("workflow_id")}
        GROUP BY 1 ORDER BY 1 LIMIT %(limit)s""",
    "entrypoint": f"""
        SELECT DISTINCT workflow_name FROM {_NEWEST_RUNS} WHERE {_LIKE.format("workflow_name")}
        ORDER BY 1 LIMIT %(limit)s""",
}
"""By the filter that they are for."""

_VERSIONS = """
    SELECT version_name FROM {schema}.application_versions
    ORDER BY version_timestamp DESC LIMIT :limit"""


def names(connection: sa.Connection, what: str, text: str, limit: int) -> list[str]:
    """What may stand in a filter, and has a text in it.

    Args:
        connection: To the database.
        what: `agent`, `session_id`, `workflow_id` or `entrypoint`.
        text: In small letters or capitals.
        limit: How many at most.
    """
    found = connection.exec_driver_sql(_QUERIES[what], {"text": text, "limit": limit})
    return [str(name) for name in found.scalars()]


def versions(connection: sa.Connection, schema: str, limit: int) -> list[str]:
    """The newest versions of applications, as DBOS has them.

    Args:
        connection: To the database with DBOS's tables, which may be SQLite.
        schema: Where those are.
        limit: How many at most.
    """
    found = connection.execute(sa.text(_VERSIONS.format(schema=f'"{schema}"')), {"limit": limit})
    return [str(name) for name in found.scalars()]
