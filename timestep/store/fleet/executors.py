"""Tells which executors have workflows under way, and whether a live host is each of them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from timestep.store.fleet import hosts
from timestep.store.reads.pickled_workflows import pickled
from timestep.store.reads.runs import Row

HOST = "timestep_host"
"""How the connections of a host's DBOS are named: those of other applications have other names."""

# Hosts of earlier versions hold locks of their sessions instead of rows.
_LOCKED = """
    SELECT name FROM unnest(%(names)s::text[]) AS name JOIN pg_locks ON locktype = 'advisory'
        AND objsubid = 1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32) | objid::bigint = hashtextextended(name, 0)"""

_CONNECTED = """
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND (application_name IN (%(host)s, 'dbos_transact') OR query LIKE 'LISTEN dbos%%'))"""

_OTHERS = """
    SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
        AND application_name <> %(host)s
        AND (application_name = 'dbos_transact' OR query LIKE 'LISTEN dbos%%'))"""
"""Whether a DBOS is connected that is no host's: by its usual name, or by what it listens to."""


@dataclass(frozen=True)
class Executor:
    """Who executes a workflow, or is to, as DBOS's row of it says."""

    application: str | None
    id: str | None
    """None: the workflow waits, in a queue or parked, for any executor of the version."""
    version: str | None
    """None, of a workflow that waits: the newest."""


def of_workflows(
    connection: sa.Connection, schema: str, workflow_ids: Collection[str]
) -> dict[str, Executor]:
    """Who executes each of these workflows that has not ended, or is to execute it."""
    query = sa.text(
        f"""SELECT workflow_uuid, application_name,
            CASE WHEN status = 'PENDING' THEN executor_id END, application_version
        FROM "{schema}".workflow_status
        WHERE status IN ('PENDING', 'ENQUEUED', 'DELAYED') AND workflow_uuid IN :ids"""
    ).bindparams(sa.bindparam("ids", expanding=True))
    found = connection.execute(query, {"ids": list(workflow_ids)})
    return {row[0]: Executor(*row[1:]) for row in found}


@dataclass(frozen=True)
class UnderWay:
    """What an executor has under way."""

    executor: Executor
    is_pickled: bool
    """Whether a pickle must be read before it goes on."""
    workflows: int
    example: str
    """The id of one of them."""


def of_others(
    connection: sa.Connection,
    schema: str,
    application: str,
    executor_id: str,
    *,
    are_pickles_read: bool,
) -> list[UnderWay]:
    """What other executors have of an application; nothing `is_pickled` if pickles are read."""
    is_pickled = "false" if are_pickles_read else pickled(schema)
    found = connection.execute(
        sa.text(
            f"""SELECT application_name, executor_id, application_version, is_pickled, count(*),
                min(workflow_uuid)
            FROM (SELECT *, {is_pickled} AS is_pickled FROM "{schema}".workflow_status
                WHERE status = 'PENDING' AND executor_id <> :executor_id
                AND (application_name = :application OR application_name IS NULL)) AS under_way
            GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 2"""
        ),
        {"application": application, "executor_id": executor_id},
    )
    return [UnderWay(Executor(*row[:3]), bool(row[3]), row[4], row[5]) for row in found]


def is_anybody(connection: sa.Connection, application: str) -> bool:
    """Whether somebody may execute an application's workflows: a host, or another DBOS."""
    return any(row["application"] == application for row in hosts.live(connection)) or bool(
        connection.exec_driver_sql(_CONNECTED, {"host": HOST}).scalar_one()
    )


def liveness(
    connection: sa.Connection, schema: str, executors: Collection[Executor], application: str
) -> dict[Executor, bool | None]:
    """Whether a live host is each executor.

    None: no host is, and whether another application is cannot be told: it has no claim. One that
    is connected is taken to execute the newest version.

    Args:
        connection: To the hosts' database.
        schema: That of DBOS's tables.
        executors: Which.
        application: Whose they are that name none.
    """
    named = {
        hosts.older_version_name(one.application or application, one.id, one.version): one
        for one in executors
        if one.id is not None
    }
    locked = connection.exec_driver_sql(_LOCKED, {"names": [*named]}).scalars()
    found: dict[Executor, bool | None] = {named[name]: True for name in locked}
    live = hosts.live(connection)
    found |= {one: True for one in executors if any(_is(row, one, application) for row in live)}
    unknown = [one for one in executors if one not in found]
    if unknown:
        is_connected = is_application_connected(connection)
        newest = _newest_versions(connection, schema) if is_connected else {}
        for one in unknown:
            known = (None, newest.get(one.application or application))
            is_newest = one.id is None and one.version in known
            found[one] = is_newest or None if is_connected else False
    return found


def _is(host: Row, executor: Executor, application: str) -> bool:
    """Whether the host of a row is an executor, or may take what waits for it."""
    if host["application"] != (executor.application or application):
        return False
    if executor.id is None:
        return executor.version in (None, host["version"])
    return (host["executor_id"], host["version"]) == (executor.id, executor.version)


def _newest_versions(connection: sa.Connection, schema: str) -> dict[str | None, str]:
    """The newest version of each application that DBOS knows of."""
    found = connection.exec_driver_sql(
        f"""SELECT DISTINCT ON (application_name) application_name, version_name
        FROM "{schema}".application_versions ORDER BY application_name, version_timestamp DESC"""
    )
    return {row[0]: row[1] for row in found}


def is_application_connected(connection: sa.Connection) -> bool:
    """Whether an application is connected that executes workflows and is no host."""
    return bool(connection.exec_driver_sql(_OTHERS, {"host": HOST}).scalar_one())
