"""Asks the database server about its version, its rights and whether it answers."""

from __future__ import annotations

import sqlalchemy as sa

from timestep.store.tables import metadata


def server_version(connection: sa.Connection) -> str:
    version = connection.exec_driver_sql("SELECT current_setting('server_version')").scalar_one()
    return str(version).partition(" ")[0]


def missing_rights(connection: sa.Connection, schema: str) -> list[str]:
    """The tables of Timestep's and DBOS's that the user may not read and write."""
    found = connection.exec_driver_sql(
        """SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p')
            AND (n.nspname IN (%(schema)s, 'timestep')
                OR (n.nspname = 'public' AND c.relname = ANY(%(ours)s)))
            AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
                AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
            ORDER BY 1""",
        {"schema": schema, "ours": [table.name for table in metadata.sorted_tables]},
    )
    return list(found.scalars())


def ping(connection: sa.Connection) -> None:
    connection.exec_driver_sql("SELECT 1")
