"""Launches DBOS with the entrypoints of a directory, and stops it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dbos import DBOS

from timestep import config
from timestep.approvals import wait_for_decision
from timestep.config import Settings
from timestep.database import migrations
from timestep.database.engines import check_server, database_url, engine_for, system_database_url
from timestep.database.error_translation import translated
from timestep.database.servers import pglite
from timestep.database.urls import shown
from timestep.dbos_internals import executions, pickles, presence
from timestep.dbos_internals.serializer import JSONSerializer
from timestep.errors import ConfigurationError
from timestep.host import process_ends
from timestep.host.executor import Executor
from timestep.journal import dbos_patience, unfinished_executions
from timestep.journal.executor_claim import Claims, ExecutorClaim
from timestep.journal.executors import Executor as Executing
from timestep.journal.executors import liveness
from timestep.journal.fail_fast_read import reading
from timestep.journal.recorder import recorder
from timestep.operations import entrypoints, recordable_types
from timestep.operations.entrypoints import Entrypoint
from timestep.operations.queries import metrics
from timestep.runner import failures
from timestep.runner.install import install
from timestep.runtime import draining, garbage_collection, logs, process_state
from timestep.runtime.lease import Lease
from timestep.store import parked_workflows, setbacks
from timestep.store.fleet import executors, hosts
from timestep.store.fleet import process_ends as ends_store
from timestep.store.reads import pickled_workflows

QUEUE_POLL = 0.5
"""Seconds between two looks into the hosts' own queue."""

_SCHEMA = "dbos"


@dataclass(frozen=True)
class Left:
    """Workflows under way of an executor that no live host is."""

    executor_id: str
    is_gone: bool
    """Whether nobody else can be it either: no other application is connected."""
    workflows: int
    example: str
    """The id of one of them."""


@dataclass(frozen=True)
class Launched:
    """What `launch` found."""

    entrypoints: dict[str, Entrypoint]
    database: str
    """The database, without its secrets."""
    recovered: int
    """Workflows that an earlier process left and this one goes on with."""
    stranded: int
    """Unfinished workflows of other versions of the application, which no live host runs."""
    stranded_id: str | None
    """One of them."""
    undecided: int
    """Workflows that wait for a person."""
    pickled: int
    """Unfinished workflows that it leaves alone, because it would have to read a pickle."""
    pickled_id: str | None
    """One of them."""
    left: list[Left] = field(default_factory=list)
    """What other executors began that no live host is."""
    retried: int = 0
    """Workflows that lacked something when they were tried last, and are tried again now."""
    aside: int = 0
    """Workflows that are put aside, as their recovery ended the process."""
    aside_id: str | None = None
    """One of them."""


def launch() -> Launched:
    """Bring the database up to date, import the entrypoints and launch DBOS.

    Agents that plain `agents.Runner` runs inside a workflow are durable from then on. The
    caller has no running event loop: workflows run on DBOS's own.

    Raises:
        ConfigurationError: A setting cannot work, or another host is this executor already.
        EntrypointError: `workflows/` cannot be used, or not recorded.
        DatabaseError: The database is away, too old, or refused.
    """
    with garbage_collection.uncollected():
        found = entrypoints.find()
        recordable_types.check(found.values())
    garbage_collection.keep_all()
    name = presence.application_name()
    settings = config.read()
    # Not before the application was imported, which may set its logging up.
    logs.begin(settings.log_level)
    if settings.use_pglite:
        pglite.hold(settings.pglite_path, settings.home)
    url = database_url()
    engine = engine_for(url)
    check_server(engine)
    migrations.apply(engine)
    recorder().note_reached()
    install()
    unfinished_executions.look_after(recorder())
    _quiet_trace_export()
    logging.getLogger("dbos").addFilter(failures.of_workflows)
    executor_id, claims = presence.executor_id(), process_state.of(Claims)
    executor = process_state.of(Executor)
    if not settings.use_pglite:
        claims.held = ExecutorClaim(url, name, executor_id, executor.suspend, executor.free)
    held_back = 0
    try:
        if claims.held is not None and claims.held.ended is not None:
            held_back = process_ends.look_back(name, executor_id, claims.held.ended)
        with translated(url), recorder().system() as (connection, schema):
            left = hosts.unfinished_workflows(connection, schema, name, executor_id)
            schedules = pickled_workflows.schedules(connection, schema)
        if not settings.read_pickles:
            _check_schedules(schedules)
            pickles.refuse_pickles()
        executor.begin(lambda: _execute(name, settings))
    except BaseException:
        claims.close()
        raise
    version = DBOS.application_version
    retried, aside, aside_id = 0, 0, None
    if not settings.use_pglite:
        with translated(url), recorder().system() as (connection, schema):
            retried = setbacks.try_now(connection, schema, name, version)
            aside, aside_id = ends_store.aside(connection, schema, name)
    held = [] if settings.read_pickles else [row for row in left if row["is_pickled"]]
    left = [row for row in left if row not in held]
    others = _left(name, executor_id, are_pickles_read=settings.read_pickles)
    stranded = _stranded(left, name)
    # An application may read pickles: what may be one's is told as what else it may have left.
    alone = [one for one, is_gone in others if one.is_pickled and is_gone]
    held += [{"workflows": one.workflows, "example": one.example} for one in alone]
    recovered = _count(left, lambda row: row["version"] == version and row["has_begun"])
    if recovered or held_back:
        metrics.count_recoveries(recovered + held_back)
    return Launched(
        entrypoints=found,
        database=shown(url),
        recovered=recovered,
        stranded=_count(stranded, lambda row: True),
        stranded_id=next((row["example"] for row in stranded), None),
        undecided=reading(
            lambda connection: parked_workflows.count(
                connection, None if settings.use_pglite else _SCHEMA
            )
        ),
        retried=retried,
        aside=aside,
        aside_id=aside_id,
        pickled=sum(row["workflows"] for row in held),
        pickled_id=next((row["example"] for row in held), None),
        left=[
            Left(one.executor.id or "", is_gone, one.workflows, one.example)
            for one, is_gone in others
            if one not in alone
        ],
    )


def _check_schedules(pickled: list[str]) -> None:
    """Refuse to start where DBOS's thread for all schedules would end at the first of some."""
    if pickled:
        raise ConfigurationError(
            f"the contexts of the schedules {', '.join(map(repr, pickled))} are recorded as "
            "pickles, which this host does not read: delete these schedules, or set "
            "TIMESTEP_READ_PICKLES=true where nobody else can write into the database"
        )


def _execute(name: str, settings: Settings) -> None:
    """Launch DBOS, which goes on with what this executor was executing before."""
    draining.reopen()
    DBOS(
        config={
            "name": name,
            "system_database_url": system_database_url(),
            "dbos_system_schema": _SCHEMA,
            "serializer": JSONSerializer(read_pickles=settings.read_pickles),
            "db_engine_kwargs": {"connect_args": {"application_name": executors.HOST}},
            # What goes wrong while it launches is raised, and told in one line.
            "log_level": "CRITICAL",
        }
    )
    with translated(database_url()):
        DBOS.launch()
    lease = process_state.of(Lease)
    # What is taken by a host that begins no step would wait there, and not where others are.
    executions.take_only_while(lambda: lease.is_valid)
    dbos_patience.attach()
    _hear_of_dbos()
    version = DBOS.application_version
    if (claim := process_state.of(Claims).held) is not None:
        claim.tell(version, reads_pickles=settings.read_pickles)
    # What is enqueued without a version goes to the host that was started last.
    DBOS.set_latest_application_version(version)
    DBOS.register_queue(name, polling_interval_sec=QUEUE_POLL)
    wait_for_decision.listen(recorder())


def _hear_of_dbos() -> None:
    """Let the log have what DBOS warns of, from its launch on."""
    log = logging.getLogger("dbos")
    log.setLevel(logging.WARNING)
    for handler in log.handlers:
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logs.Lines())


def _left(
    name: str, executor_id: str, *, are_pickles_read: bool
) -> list[tuple[executors.UnderWay, bool]]:
    """What is under way for executors that no live host is, and whether nobody else is either."""
    with translated(database_url()), recorder().system() as (connection, schema):
        others = executors.of_others(
            connection, schema, name, executor_id, are_pickles_read=are_pickles_read
        )
    live = liveness([one.executor for one in others])
    return [(one, live[one.executor] is False) for one in others if not live[one.executor]]


def _stranded(left: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Those of the unfinished workflows that no live host executes, or will."""
    of = {id(row): Executing(name, None, row["version"]) for row in left if row["version"]}
    live = liveness(set(of.values()))
    own = DBOS.application_version
    return [
        row
        for row in left
        if row["version"] not in (own, None) and (row["has_begun"] or not live[of[id(row)]])
    ]


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
    process_state.of(Executor).end(grace, is_urgent)
    pickles.allow()
    logging.getLogger("openai.agents").removeFilter(_is_worth_saying)
    logging.getLogger("dbos").removeFilter(failures.of_workflows)
    process_state.of(Claims).close()
    logs.end()
