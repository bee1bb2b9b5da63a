"""Launches DBOS with the entrypoints of a directory, and stops it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dbos import DBOS

from timestep import config
from timestep.approvals import wait_for_decision
from timestep.database import migrations
from timestep.database.engines import check_server, database_url, engine_for, system_database_url
from timestep.database.error_translation import translated
from timestep.database.servers import pglite
from timestep.database.urls import shown
from timestep.dbos_internals import process
from timestep.journal import dbos_patience, unfinished_executions
from timestep.journal.executor_claim import ExecutorClaim
from timestep.journal.fail_fast_read import reading
from timestep.journal.recorder import recorder
from timestep.operations import entrypoints
from timestep.operations.entrypoints import Entrypoint
from timestep.runner.install import install
from timestep.runtime import draining, garbage_collection, process_state
from timestep.runtime.process_state import PerProcess
from timestep.store import parked_workflows
from timestep.store.fleet import hosts

QUEUE_POLL = 0.5
"""Seconds between two looks into the hosts' own queue."""

_SCHEMA = "dbos"
_POLL = 0.1
"""Seconds between two looks at whether running steps have ended."""


class Claims(PerProcess):
    """A host of this process holds these claims to executor ids until it stops."""

    def __init__(self) -> None:
        self.held: list[ExecutorClaim] = []

    def close(self) -> None:
        while self.held:
            self.held.pop().release()


@dataclass(frozen=True)
class Launched:
    """What `launch` found."""

    entrypoints: dict[str, Entrypoint]
    database: str
    """The database, without its secrets."""
    recovered: int
    """Workflows that an earlier process left and this one goes on with."""
    stranded: int
    """Unfinished workflows of other versions of the sources, which it leaves alone."""
    stranded_id: str | None
    """One of them."""
    undecided: int
    """Workflows that wait for a person."""


def launch() -> Launched:
    """Bring the database up to date, import the entrypoints and launch DBOS.

    Agents that plain `agents.Runner` runs inside a workflow are durable from then on. The
    caller has no running event loop: workflows run on DBOS's own.

    Raises:
        ConfigurationError: A setting cannot work, or another host is this executor already.
        EntrypointError: `workflows/` cannot be used.
        DatabaseError: The database is away, too old, or refused.
    """
    with garbage_collection.uncollected():
        found = entrypoints.find()
    garbage_collection.keep_all()
    name = process.application_name()
    settings = config.read()
    if settings.use_pglite:
        pglite.hold(settings.pglite_path, settings.home)
    url = database_url()
    engine = engine_for(url)
    check_server(engine)
    migrations.apply(engine)
    install()
    unfinished_executions.look_after(recorder())
    _quiet_trace_export()
    executor = process.executor_id()
    if not settings.use_pglite:
        process_state.of(Claims).held.append(ExecutorClaim(engine, name, executor))
    with translated(url), recorder().system() as (connection, schema):
        left = hosts.unfinished_workflows(connection, schema, name, executor)
    draining.reopen()
    DBOS(
        config={
            "name": name,
            "system_database_url": system_database_url(),
            "dbos_system_schema": _SCHEMA,
            # What goes wrong while it launches is raised, and told in one line.
            "log_level": "CRITICAL",
        }
    )
    with translated(url):
        DBOS.launch()
    dbos_patience.attach()
    logging.getLogger("dbos").setLevel(logging.WARNING)
    version = DBOS.application_version
    for claim in process_state.of(Claims).held:
        claim.tell_version(version)
    # What is enqueued without a version goes to the host that was started last.
    DBOS.set_latest_application_version(version)
    DBOS.register_queue(name, polling_interval_sec=QUEUE_POLL)
    wait_for_decision.listen(recorder())
    return Launched(
        entrypoints=found,
        database=shown(url),
        recovered=_count(left, lambda row: row["version"] == version and row["has_begun"]),
        stranded=_count(left, lambda row: row["version"] != version),
        stranded_id=next((row["example"] for row in left if row["version"] != version), None),
        undecided=reading(parked_workflows.count),
    )


def _quiet_trace_export() -> None:
    """Keep the SDK from saying with each run that it has no key to export traces with."""
    logging.getLogger("openai.agents").addFilter(_is_worth_saying)


def _is_worth_saying(record: logging.LogRecord) -> bool:
    return "skipping trace export" not in record.getMessage()


def _count(left: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], bool]) -> int:
    return sum(row["workflows"] for row in left if wanted(row))


def stop(grace: float, is_urgent: Callable[[], bool] = lambda: False) -> None:
    """End DBOS: steps that run may end within `grace` seconds, and no other one begins.

    Workflows are left as they are; the next process recovers them.

    Args:
        grace: Seconds.
        is_urgent: Asked again and again; True ends the wait.
    """
    draining.close()
    process.stop_dequeuing()
    waited = 0.0
    while waited < grace and not is_urgent() and not draining.wait(_POLL):
        waited += _POLL
    DBOS.destroy()
    logging.getLogger("openai.agents").removeFilter(_is_worth_saying)
    process_state.of(Claims).close()
