"""Says which host is which executor, and counts what waits for a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from timestep.runtime import process_identity
from timestep.store.reads.pickled_workflows import pickled
from timestep.store.reads.runs import Row

# Hosts of earlier versions hold a lock of their session instead of a row.
_IS_NO_OLDER_HOST = "pg_try_advisory_xact_lock(hashtextextended(%(older_host)s, 0))"

_ALL = "SELECT h.*, expires_at < clock_timestamp() AS is_expired FROM timestep.hosts h"

_FIND = f"{_ALL} WHERE application = %(application)s AND executor_id = %(executor_id)s"

_EXPIRY = "clock_timestamp() + %(lease)s * interval '1 second'"

# In place of nobody's row, or of the very one that was seen to be a dead host's.
_CLAIM = f"""
    INSERT INTO timestep.hosts AS h (
        application, executor_id, claim, node, process_id, identity, seen_at, expires_at)
    SELECT %(application)s, %(executor_id)s, %(claim)s::uuid, %(node)s, %(process_id)s,
        %(identity)s, clock_timestamp(), {_EXPIRY}
    WHERE {_IS_NO_OLDER_HOST}
    ON CONFLICT (application, executor_id) DO UPDATE SET claim = excluded.claim, version = NULL,
        reads_pickles = NULL,
        node = excluded.node, process_id = excluded.process_id, identity = excluded.identity,
        claimed_at = excluded.claimed_at, seen_at = excluded.seen_at,
        expires_at = excluded.expires_at
    WHERE h.claim = %(dead_claim)s::uuid AND h.expires_at = %(dead_until)s::timestamptz"""

_MINE = """application = %(application)s AND executor_id = %(executor_id)s
    AND claim = %(claim)s::uuid"""

_RENEW = f"""
    UPDATE timestep.hosts SET seen_at = clock_timestamp(), expires_at = {_EXPIRY} WHERE {_MINE}"""

_TELL = f"""
    UPDATE timestep.hosts SET version = %(version)s, reads_pickles = %(reads_pickles)s
    WHERE {_MINE}"""

_RELEASE = f"DELETE FROM timestep.hosts WHERE {_MINE}"


def find(connection: sa.Connection, application: str, executor_id: str) -> Row | None:
    """The row of the host that is an executor, with whether its time is over, as `is_expired`."""
    values = {"application": application, "executor_id": executor_id}
    found = connection.exec_driver_sql(_FIND, values).mappings().one_or_none()
    return None if found is None else dict(found)


def live(connection: sa.Connection) -> list[Row]:
    """The rows of the hosts that are there: none is run out, or of a process that has ended."""
    found = [dict(row) for row in connection.exec_driver_sql(_ALL).mappings()]
    return [row for row in found if not row["is_expired"] and not has_ended(row)]


def has_ended(row: Row) -> bool:
    """Whether the process of a host's row is seen to have ended, before the row runs out."""
    return process_identity.is_gone(row["identity"])


def claim(connection: sa.Connection, values: Mapping[str, Any], dead: Row | None) -> bool:
    """Make a process the executor; whether it is.

    Args:
        connection: To the hosts' database.
        values: `application`, `executor_id`, `claim`, `node`, `process_id`, `identity`, and
            `lease`: the seconds for which it is, unless it is renewed.
        dead: The row of a host that is gone, which is replaced unless it was renewed meanwhile.
    """
    over = {"dead_claim": None, "dead_until": None}
    if dead is not None:
        over = {"dead_claim": dead["claim"], "dead_until": dead["expires_at"]}
    older = _older_name(values["application"], values["executor_id"])
    parameters = {**values, **over, "older_host": older}
    return connection.exec_driver_sql(_CLAIM, parameters).rowcount == 1


def renew(connection: sa.Connection, values: Mapping[str, Any]) -> bool:
    """Let a process be the executor for `lease` more seconds; whether it is still.

    Args:
        connection: To the hosts' database.
        values: As `claim` takes them.
    """
    return connection.exec_driver_sql(_RENEW, {**values}).rowcount == 1


def are_pickles_read(connection: sa.Connection, application: str) -> bool | None:
    """Whether a live host of an application reads pickles; None: no host tells.

    Those of earlier versions do not tell.
    """
    rows = [row for row in live(connection) if row["application"] == application]
    told = [row.get("reads_pickles") for row in rows]  # Nothing before migration 011.
    return True if any(told) else None if None in told or not told else False


def tell(
    connection: sa.Connection, values: Mapping[str, Any], version: str, *, reads_pickles: bool
) -> None:
    """Let it be seen which version of the application an executor executes, and of what records."""
    told = {**values, "version": version, "reads_pickles": reads_pickles}
    connection.exec_driver_sql(_TELL, told)


def release(connection: sa.Connection, values: Mapping[str, Any]) -> None:
    """Let another process be the executor at once."""
    connection.exec_driver_sql(_RELEASE, {**values})


def is_older_host(
    connection: sa.Connection, application: str, executor_id: str, version: str | None
) -> bool:
    """Whether a host of an earlier version of Timestep is an executor of that version."""
    name = older_version_name(application, executor_id, version)
    found = connection.exec_driver_sql(f"SELECT {_IS_NO_OLDER_HOST}", {"older_host": name})
    return not found.scalar_one()


def older_version_name(application: str, executor_id: str, version: str | None) -> str:
    """What a host of an earlier version of Timestep locks, so that its own version is seen."""
    return f"{_older_name(application, executor_id)} of version {version}"


def _older_name(application: str, executor_id: str) -> str:
    return f"timestep host {application} {executor_id}"


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
