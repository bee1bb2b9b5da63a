"""A DBOS application in this process, on a database of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import psycopg
import pytest
from dbos import DBOS, DBOSConfig, SetWorkflowID, _dbos
from dbos._utils import INTERNAL_QUEUE_NAME, GlobalParams
from psycopg import sql
from psycopg.rows import dict_row

import timestep
from tests.support.conditions import until
from tests.support.passing_time import time_passed
from timestep import JSONSerializer, testing
from timestep.execution.replay.replay_check import Replay, watched
from timestep.journal.recorder import recorder
from timestep.runner.installation import Installation
from timestep.runtime import process_state
from timestep.store import setbacks
from timestep.store.tables import metadata

_keys = itertools.count()

NAME = "timestep-tests"
VERSION = "1"
"""The application's."""

_TESTS_A_VACUUM = 25
"""Deleted rows are looked through until a vacuum."""

BODIES: dict[str, Callable[[], Awaitable[Any]]] = {}


@DBOS.workflow()
async def run_it(key: str) -> str:
    """Runs what a test put under `key`."""
    return str(await BODIES[key]())


class App:
    """Runs workflows, executes them again from their record, and reads what they wrote."""

    def __init__(self, url: str, connection: psycopg.Connection[Any]) -> None:
        self.url = url
        self._connection = connection

    def run(self, body: Callable[[], Awaitable[Any]], workflow_id: str | None = None) -> str:
        """The result of a workflow whose body is `body`."""
        key = workflow_id or f"body-{next(_keys)}"
        BODIES[key] = body

        async def start() -> str:
            with SetWorkflowID(key):
                return await run_it(key)

        return asyncio.run(start())

    def executing(self) -> list[str]:
        """The ids of the workflows that are executed in this process."""
        return list(_dbos._get_dbos_instance()._active_workflows_set.activeList())

    def started(self, key: str) -> str:
        """The id of a workflow that goes on, whose body is under `key`."""
        return str(DBOS.start_workflow(run_it, key).get_workflow_id())

    def replay(self, workflow_id: str) -> str:
        """The result of a finished workflow that is executed again and may do nothing anew.

        Its result, every row and its steps must be those of its first execution.
        """
        return str(testing.assert_replays_sync(workflow_id))

    def recover(self, workflow_id: str) -> str:
        """The result of a finished workflow that is executed again, as after a crash."""
        return self._executed_again([workflow_id])[workflow_id]

    def replay_all(self, workflow_ids: list[str]) -> dict[str, str]:
        """The results of finished workflows, which are executed again side by side."""
        with contextlib.ExitStack() as stack:
            for workflow_id in workflow_ids:
                stack.enter_context(watched(workflow_id, Replay(0.0, random.Random(0))))
            return self._executed_again(workflow_ids)

    def _executed_again(self, workflow_ids: list[str]) -> dict[str, str]:
        changed = self._connection.execute(
            "UPDATE dbos.workflow_status SET status = 'PENDING', output = NULL, error = NULL "
            "WHERE workflow_uuid = ANY(%s) AND status IN ('SUCCESS', 'ERROR')",
            (workflow_ids,),
        )
        assert changed.rowcount == len(workflow_ids)
        handles = DBOS._recover_pending_workflows()
        assert len(handles) == len(workflow_ids)
        return {
            handle.workflow_id: str(handle.get_result(polling_interval_sec=0.02))
            for handle in handles
        }

    def rows(self, table: str, *order: str) -> list[dict[str, Any]]:
        """All rows of a table; ordered by the columns that are given, else by when they were made.

        Where one lies in the table tells nothing: rows of earlier tests have left room in it.
        """
        if not order and (found := metadata.tables.get(f"public.{table}")) is not None:
            order = tuple(name for name in ("created_at", "started_at") if name in found.c)[:1]
        query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))
        if order:
            query += sql.SQL(" ORDER BY {}").format(sql.SQL(", ").join(map(sql.Identifier, order)))
        return self._connection.cursor(row_factory=dict_row).execute(query).fetchall()

    def execute(self, query: str, parameters: Any = None) -> psycopg.Cursor[Any]:
        """A statement, committed; what it gives is there to be fetched."""
        return self._connection.execute(query.encode(), parameters)

    def names(self, table: str, id_: Any) -> str:
        (name,) = [row["name"] for row in self.rows(table) if row["id"] == id_]
        return str(name)

    def everything(self) -> dict[str, list[str]]:
        """Every row of every table, to compare."""
        return {
            table.name: sorted(
                text
                for (text,) in self._connection.execute(
                    sql.SQL("SELECT to_jsonb(t)::text FROM {} t").format(
                        sql.Identifier(table.schema or "public", table.name)
                    )
                )
            )
            for table in metadata.sorted_tables
        }

    def steps(self, workflow_id: str) -> list[str]:
        """The names of the steps that DBOS recorded, in the order of their numbers."""
        found = self._connection.execute(
            "SELECT function_name FROM dbos.operation_outputs WHERE workflow_uuid = %s "
            "ORDER BY function_id",
            (workflow_id,),
        ).fetchall()
        return [name for (name,) in found]

    def pass_time(self) -> None:
        """Let an hour pass for the workflows that DBOS executes, and what was due be done."""
        loop = _dbos._get_dbos_instance()._background_event_loop._loop
        assert loop is not None
        asyncio.run_coroutine_threadsafe(time_passed(), loop).result(60)

    def until(self, condition: Callable[[], Any], seconds: float = 120) -> Any:
        """Wait for a condition, and give what it answered."""
        deadline = time.monotonic() + seconds
        while not (answer := condition()):
            assert time.monotonic() < deadline, "the condition did not come true"
            time.sleep(0.01)
        return answer


def launch(url: str, **config: Any) -> DBOS:
    """Launch DBOS on a database, with other settings than a test's usual ones if they are given."""
    usual: dict[str, Any] = {
        "name": NAME,
        "system_database_url": url,
        "application_version": VERSION,
        "log_level": "ERROR",
        "notification_listener_polling_interval_sec": 0.05,
        # As a host does; the processes of tests/crash have DBOS's default.
        "serializer": JSONSerializer(),
    }
    instance = DBOS(config=cast("DBOSConfig", {**usual, **config}))
    # Where forks wait, and what is resumed; DBOS looks into it once a second.
    instance._registry._register_internal_queue(INTERNAL_QUEUE_NAME, polling_interval_sec=0.1)
    DBOS.launch()
    return instance


def host_starts() -> int:
    """What a host of the application's version does when it starts, of what lacked something."""
    with recorder().system() as (connection, schema):
        return setbacks.try_now(connection, schema, NAME, VERSION)


def end_executions(url: str) -> None:
    """End the executions that DBOS lets go on: one that was replaced waits for the other's end."""
    executing = [
        one
        for one in set(threading.enumerate()) - threads_of_dbos()
        if one.name.startswith("dbos-executor")
    ]
    if executing:
        with psycopg.connect(url) as connection:
            connection.execute(
                "UPDATE dbos.workflow_status SET status = 'CANCELLED' "
                "WHERE status NOT IN ('SUCCESS', 'ERROR')"
            )
        for thread in executing:
            thread.join(60)


class SharedApplication:
    """A launched DBOS and its database, which the tests of a worker have one after the other.

    To launch DBOS, and to warm up a dozen connections, costs more than most tests do. Each test
    finds the tables as they were after the launch, and nothing being executed; a test that does
    not ask for it finds no DBOS launched.

    Args:
        url: The URL of a migrated database.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg.connect(url, autocommit=True, application_name="tests")
        self._instance: DBOS | None = None
        self._tables: list[str] = []
        self._kept: dict[str, list[str]] = {}
        self._uses = itertools.count(1)

    @contextlib.contextmanager
    def launched(self) -> Iterator[None]:
        """Let this be the process's DBOS meanwhile, and nothing be executed by it afterwards."""
        if self._instance is None:
            self._instance = self._launched()
        _be_launched(self._instance)
        try:
            yield
            assert _dbos._dbos_global_instance is self._instance, "needs the mark `own_database`"
            self._end_executions(self._instance)
        finally:
            _be_launched(None)

    def _launched(self) -> DBOS:
        # The names of Timestep's own workflows, as in a process that installs it before the launch.
        was_installed = process_state.of(Installation).is_everywhere
        timestep.install()
        if not was_installed:
            # A fixture of the first test may have come before this.
            timestep.uninstall()
        before = set(threading.enumerate())
        instance = launch(self.url)
        self._threads = set(threading.enumerate()) - before
        self._tables = self._found()
        self._kept = {name: rows for name in self._tables if (rows := self._rows(name))}
        return instance

    def _end_executions(self, instance: DBOS) -> None:
        """End what a test left under way: its executions, and the tasks of DBOS's loop."""
        stopped = [event for event in instance.background_thread_stop_events if event.is_set()]
        assert stopped == [], "who stops DBOS's threads needs the mark `own_database`"
        active = instance._active_workflows_set.activeList
        loop = instance._background_event_loop._loop
        assert loop is not None
        # What is enqueued, too, which a worker of its queue may be about to take.
        self.connection.execute(
            "UPDATE dbos.workflow_status SET status = 'CANCELLED' "
            "WHERE status NOT IN ('SUCCESS', 'ERROR', 'CANCELLED')"
        )
        until(lambda: not any(map(_is_dequeuing, self.threads())), seconds=60)
        # As DBOS does when it is destroyed: one may sleep for an hour.
        for task in asyncio.all_tasks(loop):
            loop.call_soon_threadsafe(task.cancel)
        until(lambda: not active() and not asyncio.all_tasks(loop), seconds=60)
        # A thread that a cancelled task waited for goes on, with a connection.
        until(lambda: not any(map(_is_writing, self.threads())), seconds=60)

    def threads(self) -> set[threading.Thread]:
        """The threads that belong to DBOS, and to no test."""
        if self._instance is None:
            return set()
        # It joins those itself, or they end by themselves.
        own = self._threads.union(self._instance._background_threads)
        loop: Any = self._instance._background_event_loop._loop
        pools = [self._instance._executor_field, getattr(loop, "_default_executor", None)]
        workers = {one for one in threading.enumerate() if one.name.startswith("queue-worker-")}
        return own.union(workers, *(pool._threads for pool in pools if pool is not None))

    def renew(self) -> None:
        """Make the tables as they were."""
        with self.connection.transaction():
            # The tables' order does not matter where no foreign key is looked at.
            self.connection.execute("SET LOCAL session_replication_role = replica")
            statements = map(self._as_it_was, self._found())
            self.connection.execute(sql.SQL(";").join(statements))
        if next(self._uses) % _TESTS_A_VACUUM == 0:
            self.connection.execute("VACUUM")

    def close(self) -> None:
        """Destroy DBOS, if it is launched."""
        if self._instance is not None:
            _be_launched(self._instance)
            executing = set(self._instance._executor._threads)
            # Without a server nobody tries again for ever.
            self._instance._sys_db._retry_connection_errors = False
            DBOS.destroy()
            # Who lost its workflow looks once a second what came of it, and finds that it is gone.
            for thread in executing:
                thread.join(60)
        self.connection.close()

    def _found(self) -> list[str]:
        query = (
            "SELECT relnamespace::regnamespace || '.' || relname FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace::regnamespace::text IN ('public', 'dbos', 'timestep')"
        )
        return [name for (name,) in self.connection.execute(query)]

    def _rows(self, table: str) -> list[str]:
        query = sql.SQL("SELECT t::text FROM {} t").format(_identifier(table))
        return [text for (text,) in self.connection.execute(query)]

    def _as_it_was(self, table: str) -> sql.Composed:
        """The statement that leaves in a table what the launch wrote."""
        name = _identifier(table)
        if table not in self._tables:
            return sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(name)
        if table not in self._kept:
            return sql.SQL("DELETE FROM {}").format(name)
        return sql.SQL(
            "DELETE FROM {name} t WHERE t::text <> ALL({kept}); "
            "INSERT INTO {name} SELECT (kept::{name}).* FROM unnest({kept}::text[]) kept "
            "WHERE kept NOT IN (SELECT t::text FROM {name} t)"
        ).format(name=name, kept=self._kept[table])


_WRITES = (
    "timestep.database.async_pool",
    "timestep.journal.recorder",
    "timestep.journal.reads",
)


def _is_writing(thread: threading.Thread) -> bool:
    """Whether a thread is in the recorder's code, which has connections."""
    # Not of all of the journal: DBOS's own threads wait in `dbos_patience`.
    return any(module.startswith(_WRITES) for module, _ in _frames(thread))


def _is_dequeuing(thread: threading.Thread) -> bool:
    """Whether a worker of a queue may have workflows that are not among the active ones yet."""
    return ("dbos._queue", "dequeue") in _frames(thread)


def _frames(thread: threading.Thread) -> Iterator[tuple[str, str]]:
    """The module and the function of each call that a thread is in."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        yield frame.f_globals.get("__name__", ""), frame.f_code.co_name
        frame = frame.f_back


def _be_launched(instance: DBOS | None) -> None:
    """Let this be the process's DBOS."""
    _dbos._dbos_global_instance = instance
    _dbos._get_or_create_dbos_registry().dbos = instance
    if instance is not None:
        GlobalParams.app_version = VERSION


def _identifier(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


_shared: list[SharedApplication] = []


def threads_of_dbos() -> set[threading.Thread]:
    """The threads of the DBOS that tests share."""
    return set().union(*(shared.threads() for shared in _shared))


@pytest.fixture(scope="session")
def shared_application(migrated_database_url: str) -> Iterator[SharedApplication]:
    """The worker's launched DBOS and its database."""
    shared = SharedApplication(migrated_database_url)
    _shared.append(shared)
    yield shared
    _shared.remove(shared)
    shared.close()


@pytest.fixture
def app(
    database_url: str, shared_application: SharedApplication, monkeypatch: pytest.MonkeyPatch
) -> Iterator[App]:
    """The application, launched on `database_url`."""
    monkeypatch.setenv("TIMESTEP_DB_URL", database_url)
    if database_url == shared_application.url:
        with shared_application.launched():
            yield App(database_url, shared_application.connection)
        return
    launch(database_url)
    with psycopg.connect(database_url, autocommit=True, application_name="tests") as connection:
        yield App(database_url, connection)
    DBOS.destroy()
    end_executions(database_url)
