"""Which host is an executor of the database: one at a time."""

from __future__ import annotations

import sqlalchemy as sa

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
