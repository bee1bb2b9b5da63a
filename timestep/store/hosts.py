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
