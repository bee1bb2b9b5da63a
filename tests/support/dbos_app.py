"""A DBOS application in this process, on a database of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import psycopg
import pytest
from agents import set_tracing_disabled
from dbos import DBOS, DBOSConfig, SetWorkflowID
from dbos._utils import INTERNAL_QUEUE_NAME
from psycopg import sql
from psycopg.rows import dict_row

from timestep import JSONSerializer, testing
from timestep.execution.replay.replay_check import Replay, watched
from timestep.store.tables import metadata

_keys = itertools.count()

BODIES: dict[str, Callable[[], Awaitable[Any]]] = {}


@DBOS.workflow()
async def run_it(key: str) -> str:
    """Runs what a test put under `key`."""
    return str(await BODIES[key]())


class App:
    """Runs workflows, executes them again from their record, and reads what they wrote."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, body: Callable[[], Awaitable[Any]], workflow_id: str | None = None) -> str:
        """The result of a workflow whose body is `body`."""
        key = workflow_id or f"body-{next(_keys)}"
        BODIES[key] = body

        async def start() -> str:
            with SetWorkflowID(key):
                return await run_it(key)

        return asyncio.run(start())

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
        with psycopg.connect(self.url) as connection:
            changed = connection.execute(
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
        """All rows of a table; ordered by the columns that are given."""
        query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))
        if order:
            query += sql.SQL(" ORDER BY {}").format(sql.SQL(", ").join(map(sql.Identifier, order)))
        with psycopg.connect(self.url, row_factory=dict_row) as connection:
            return connection.execute(query).fetchall()

    def names(self, table: str, id_: Any) -> str:
        (name,) = [row["name"] for row in self.rows(table) if row["id"] == id_]
        return str(name)

    def everything(self) -> dict[str, list[str]]:
        """Every row of every table, to compare."""
        with psycopg.connect(self.url) as connection:
            return {
                table.name: sorted(
                    text
                    for (text,) in connection.execute(
                        sql.SQL("SELECT to_jsonb(t)::text FROM {} t").format(
                            sql.Identifier(table.schema or "public", table.name)
                        )
                    )
                )
                for table in metadata.sorted_tables
            }

    def steps(self, workflow_id: str) -> list[str]:
        """The names of the steps that DBOS recorded, in the order of their numbers."""
        with psycopg.connect(self.url) as connection:
            found = connection.execute(
                "SELECT function_name FROM dbos.operation_outputs WHERE workflow_uuid = %s "
                "ORDER BY function_id",
                (workflow_id,),
            ).fetchall()
        return [name for (name,) in found]

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """Wait for a condition, and give what it answered."""
        deadline = time.monotonic() + seconds
        while not (answer := condition()):
            assert time.monotonic() < deadline, "the condition did not come true"
            time.sleep(0.01)
        return answer


def launch(url: str, **config: Any) -> None:
    """Launch DBOS on a database, with other settings than a test's usual ones if they are given."""
    usual: dict[str, Any] = {
        "name": "timestep-tests",
        "system_database_url": url,
        "application_version": "1",
        "log_level": "ERROR",
        "notification_listener_polling_interval_sec": 0.05,
        # As a host does; the processes of tests/crash have DBOS's default.
        "serializer": JSONSerializer(),
    }
    instance = DBOS(config=cast("DBOSConfig", {**usual, **config}))
    # Where forks wait, and what is resumed; DBOS looks into it once a second.
    instance._registry._register_internal_queue(INTERNAL_QUEUE_NAME, polling_interval_sec=0.1)
    DBOS.launch()


@pytest.fixture
def app(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setenv("TIMESTEP_DB_URL", database_url)
    set_tracing_disabled(True)
    launch(database_url)
    yield App(database_url)
    DBOS.destroy()
    end_executions(database_url)


def end_executions(url: str) -> None:
    """End the executions that DBOS lets go on: one that was replaced waits for the other's end."""
    executing = [one for one in threading.enumerate() if one.name.startswith("dbos-executor")]
    if executing:
        with psycopg.connect(url) as connection:
            connection.execute(
                "UPDATE dbos.workflow_status SET status = 'CANCELLED' "
                "WHERE status NOT IN ('SUCCESS', 'ERROR')"
            )
        for thread in executing:
            thread.join(20)
