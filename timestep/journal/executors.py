"""Tells who executes workflows, whether a live host is that executor, and what none executes."""

from __future__ import annotations

from collections.abc import Collection

from timestep import config
from timestep.database.error_translation import translated
from timestep.database.servers import pglite
from timestep.dbos_internals import presence
from timestep.journal.fail_fast_read import reading
from timestep.journal.reads.database import database
from timestep.store.fleet import executors as store
from timestep.store.fleet import hosts
from timestep.store.fleet.executors import Executor
from timestep.store.reads import pickled_workflows

__all__ = [
    "Executor",
    "are_pickles_left_alone",
    "are_pickles_refused",
    "executors_of",
    "is_anybody",
    "left_alone",
    "liveness",
    "pickled",
]


def executors_of(workflow_ids: Collection[str]) -> dict[str, Executor]:
    """Who executes each of these workflows that has not ended, or is to execute it.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if not workflow_ids:
        return {}
    with translated(database().url), database().system() as (connection, schema):
        return store.of_workflows(connection, schema, workflow_ids)


def liveness(executors: Collection[Executor]) -> dict[Executor, bool | None]:
    """Whether each executor is there; None: no host is it, and more is not known.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    here = {one for one in executors if _is_here(one)}
    others = set(executors) - here
    found: dict[Executor, bool | None] = dict.fromkeys(here, True)
    if not others:
        return found
    if database().mirror is not None:
        # One process at a time executes: the holder of PGlite.
        is_held = pglite.holds(database().url)
        return {**found, **dict.fromkeys(others, False if is_held else None)}
    name = presence.application_name()
    schema = presence.system_schema_or_default()
    told = reading(lambda connection: store.liveness(connection, schema, others, name))
    return {**found, **told}


def is_anybody() -> bool:
    """Whether somebody may execute what is started now; False: it waits for a host.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if database().mirror is not None:
        # One process at a time executes: the holder of PGlite.
        return presence.is_launched() or not pglite.holds(database().url)
    name = presence.application_name()
    return reading(lambda connection: store.is_anybody(connection, name))


def left_alone(workflow_ids: Collection[str]) -> set[str]:
    """Which of these workflows wait until somebody reads a pickle.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    return pickled(workflow_ids) if workflow_ids and are_pickles_left_alone() else set()


def pickled(workflow_ids: Collection[str]) -> set[str]:
    """Which of these workflows have not ended, and go on only where a pickle is read.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    name = presence.application_name()
    with translated(database().url), database().system() as (connection, schema):
        return pickled_workflows.left_alone(connection, schema, name, workflow_ids)


def are_pickles_left_alone() -> bool:
    """Whether nobody goes on with workflows that are recorded as pickles, as far as is known.

    What the application's live hosts do counts; where none tells, what this process is set to.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if not presence.is_made() and database().mirror is None:
        name = presence.application_name()
        are_read = reading(lambda connection: hosts.are_pickles_read(connection, name))
        if are_read is not None:
            return not are_read and not reading(store.is_application_connected)
    return are_pickles_refused()


def are_pickles_refused() -> bool:
    """Whether this process reads no pickles, and no application that is connected may either.

    A process without a `DBOS` of its own goes by its setting, as a host does; but an application
    that is connected may read pickles.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    if presence.is_made() or presence.are_pickles_refused():
        return presence.are_pickles_refused()
    if config.read().read_pickles:
        return False
    return database().mirror is not None or not reading(store.is_application_connected)


def _is_here(executor: Executor) -> bool:
    if not presence.is_launched():
        return False
    if executor.application not in (None, presence.application_name()):
        return False
    id_, version = presence.own_executor()
    if executor.id is None:
        return executor.version in (None, version)
    return (executor.id, executor.version) == (id_, version)
