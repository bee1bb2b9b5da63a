"""`TIMESTEP_QUEUE_LIMIT`: no more workflows wait in a queue, however many start some at once."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS
from fastapi import FastAPI

import timestep
from tests.support.api_client import asking, client_of
from tests.support.dbos_app import App
from tests.support.problems import problem
from timestep import config
from timestep.errors import InvalidInputError, QueueFullError
from timestep.journal.reads.database import database
from timestep.operations import entrypoints
from timestep.web.app import create_app

LIMIT = 3


@DBOS.workflow()
async def wait(number: int = 0) -> int:
    return number


@DBOS.workflow()
async def start_some(times: int) -> int:
    for _ in range(times):
        await timestep.start_run(wait, {}, queue="still")
    return times


@pytest.fixture(autouse=True)
def limited(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue from which nobody takes anything, and the limit."""
    monkeypatch.setenv("TIMESTEP_QUEUE_LIMIT", str(LIMIT))
    for name in ("still", "other"):
        DBOS.register_queue(name, polling_interval_sec=3600, worker_concurrency=0)


def start(**options: Any) -> str:
    given = options.pop("given", {})
    return asyncio.run(timestep.start_run(wait, given, **{"queue": "still", **options}))


def waiting(app: App, queue: str = "still") -> int:
    found = app.execute(
        "SELECT count(*) FROM dbos.workflow_status WHERE queue_name = %s "
        "AND status IN ('ENQUEUED', 'DELAYED')",
        [queue],
    ).fetchone()
    assert found is not None
    return int(found[0])


def test_what_would_be_one_too_many_is_refused_and_changes_nothing(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start(workflow_id="first")
    start(delay=3600)
    start(priority=1)
    acts = len(app.execute("SELECT 1 FROM timestep.audit").fetchall())
    with pytest.raises(QueueFullError, match=r"queue 'still' as may: 3\. Start it"):
        start()
    assert waiting(app) == LIMIT
    assert len(app.execute("SELECT 1 FROM timestep.audit").fetchall()) == acts
    # The same start again is the same workflow; another queue, and none, have room.
    assert start(workflow_id="first") == first
    start(queue="other")
    assert asyncio.run(timestep.start_run(wait, {}))
    with pytest.raises(InvalidInputError):
        start(given={"number": "x"})
    # What waits for a person, or was begun and goes on later, takes no room.
    app.execute(
        "UPDATE dbos.workflow_status SET status = 'DELAYED', recovery_attempts = 1 "
        "WHERE workflow_uuid = 'first'"
    )
    start()
    with pytest.raises(QueueFullError):
        start()
    monkeypatch.delenv("TIMESTEP_QUEUE_LIMIT")
    start()
    monkeypatch.setenv("TIMESTEP_QUEUE_LIMIT", "0")
    with pytest.raises(QueueFullError):
        start(queue="other")


def test_no_more_wait_however_many_start_at_once(app: App) -> None:
    def one(_: int) -> bool:
        try:
            start()
        except QueueFullError:
            return False
        return True

    async def many() -> list[str | BaseException]:
        starts = (timestep.start_run(wait, {}, queue="other") for _ in range(12))
        return await asyncio.gather(*starts, return_exceptions=True)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(one, range(12))) == LIMIT
    assert waiting(app) == LIMIT
    found = asyncio.run(many())
    assert len([id_ for id_ in found if isinstance(id_, str)]) == LIMIT
    assert {type(one) for one in found if not isinstance(one, str)} == {QueueFullError}
    assert waiting(app, "other") == LIMIT


def test_who_is_cancelled_keeps_nobody_out(app: App) -> None:
    async def cancelled() -> None:
        for delay in (0.0, 0.0, 0.001, 0.002, 0.004):
            task = asyncio.create_task(timestep.start_run(wait, {}, queue="still", delay=3600))
            await asyncio.sleep(delay)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    app.until(lambda: not app.execute(
        "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND database = "
        "(SELECT oid FROM pg_database WHERE datname = current_database())"
    ).fetchall())  # fmt: skip


def test_a_start_commits_nothing_on_the_loop(app: App) -> None:
    """A database that does not answer then holds up nothing else of the host."""
    committing: list[int] = []

    def note(_: Any) -> None:
        committing.append(threading.get_ident())

    engine = database().engine
    sa.event.listen(engine, "commit", note)
    try:
        start()
    finally:
        sa.event.remove(engine, "commit", note)
    assert committing
    assert threading.get_ident() not in committing


def test_what_workflows_start_is_not_refused(app: App) -> None:
    workflow_id = asyncio.run(timestep.start_run(start_some, {"times": LIMIT + 1}))
    handle: Any = DBOS.retrieve_workflow(workflow_id)
    assert handle.get_result(polling_interval_sec=0.02) == LIMIT + 1
    assert waiting(app) == LIMIT + 1


def test_over_http_it_is_429_with_when_to_come_again(app: App) -> None:
    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            for _ in range(LIMIT):
                answer = await client.post("/api/workflows/wait/runs", json={"queue": "still"})
                assert answer.status_code == 202
            answer = await client.post("/api/workflows/wait/runs", json={"queue": "still"})
            assert "wait in the queue 'still' as may: 3" in problem(answer, 429)
            assert answer.json()["type"] == "urn:timestep:queue-full"
            assert int(answer.headers["retry-after"]) > 0

    asking(work, create_app(config.read(), {"wait": entrypoints.lookup(wait)}))
