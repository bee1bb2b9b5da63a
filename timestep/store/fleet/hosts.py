"""Claims executor ids with advisory locks, and counts what waits for a host."""

from __future__ import annotations

import sqlalchemy as sa

from timestep.store.reads.pickled_workflows import pickled
from timestep.store.reads.runs import Row

# A host whose machine is gone is noticed within half a minute, not after the hours that
# operating systems take.
_KEEPALIVES = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)


def claim(connection: sa.Connection, application: str, executor_id: str) -> bool:
    """Make the connection's process the executor, for as long as it is connected.

    False: another process is.
    """
    for statement in _KEEPALIVES:
        connection.exec_driver_sql(statement)
    name = f"timestep host {application} {executor_id}"
    query = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
    return bool(connection.exec_driver_sql(query, (name,)).scalar_one())


def tell_version(
    connection: sa.Connection, application: str, executor_id: str, version: str
) -> None:
    """Let it be seen which version the executor is of, for as long as it is connected."""
    query = "SELECT pg_advisory_lock_shared(hashtextextended(%s, 0))"
    connection.exec_driver_sql(query, (_version_name(application, executor_id, version),))


def is_live(
    connection: sa.Connection, application: str, executor_id: str, version: str | None
) -> bool:
    """Whether a host is that executor, of that version. None becomes one until the transaction
    ends.
    """
    query = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
    name = _version_name(application, executor_id, version)
    return not connection.exec_driver_sql(query, (name,)).scalar_one()


def _version_name(application: str, executor_id: str, version: str | None) -> str:
    return f"timestep host {application} {executor_id} of version {version}"


def unfinished_workflows(
    connection: sa.Connection, schema: str, application: str, executor_id: str
) -> list[Row]:
    """How many workflows wait for an executor to go on, by version, whether they had begun, and
    whether a pickle must be read first.

    Each with the id of one of them, as `example`.

    Those that had begun are counted for this executor only. Empty where DBOS has no tables yet, or
    those of an earlier release.
    """
    if not sa.inspect(connection).has_table("workflow_input", schema=schema):
        return []
    # One part for each of DBOS's partial indexes: with OR, none of them serves.
    parts = " UNION ALL ".join(
        f"""SELECT status, application_version, application_name, workflow_uuid,
                {pickled(schema)} AS is_pickled
            FROM "{schema}".workflow_status WHERE {condition}"""
        for condition in (
            "status = 'ENQUEUED'",
            "status = 'DELAYED'",
            "status = 'PENDING' AND executor_id = :executor_id",
        )
    )
    found = connection.execute(
        sa.text(
            f"""SELECT application_version AS version, status = 'PENDING' AS has_begun, is_pickled,
                count(*) AS workflows, min(workflow_uuid) AS example
            FROM ({parts}) AS unfinished
            WHERE (application_version IS NOT NULL OR is_pickled)
            AND (application_name = :application OR application_name IS NULL)
            GROUP BY 1, 2, 3"""
        ),
        {"executor_id": executor_id, "application": application},
    )
    return [dict(row) for row in found.mappings()]
