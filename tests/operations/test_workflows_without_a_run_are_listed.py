"""Workflows that failed, were cancelled, or wait before their first run are in the list of runs."""

from __future__ import annotations

import asyncio
import datetime
import json
import time
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from agents import Agent
from agents.testing import ScriptedModel, assistant_message
from click.testing import CliRunner
from dbos import DBOS, SetWorkflowID
from fastapi import FastAPI

import timestep
from tests.support.api_client import asking, client_of
from tests.support.dbos_app import App, run_it
from tests.support.run_rows import record_run
from timestep.cli import main
from timestep.operations.overview import counts
from timestep.operations.overview.counts import count_runs
from timestep.operations.queries.records import Run
from timestep.store.reads import runs
from timestep.store.reads.overview import without_run

_QUEUE = "nobody-listens"

_WORKFLOW = """
    INSERT INTO dbos.workflow_status (workflow_uuid, status, name, created_at, updated_at, priority,
        queue_name, application_version, parent_workflow_id, delay_until_epoch_ms,
        recovery_attempts)
    VALUES (%(id)s, %(status)s, %(name)s, %(at)s, %(at)s, 0, %(queue)s, %(version)s, %(parent)s,
        %(delay)s, %(attempts)s)"""


def record_workflow(app: App, id_: str, status: str, at: int, **given: Any) -> None:
    """Write DBOS's row of a workflow."""
    usual = dict.fromkeys(("queue", "version", "parent", "delay"))
    row = {"id": id_, "status": status, "at": at, "name": "answer", "attempts": 0, **usual}
    app.execute(_WORKFLOW, {**row, **given})


@pytest.fixture(autouse=True)
def database(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)


def listed(**filters: Any) -> list[Run]:
    """All that is found, page by page."""
    found: list[Run] = []
    cursor: str | None = None
    while True:
        page = asyncio.run(timestep.list_runs(**filters, cursor=cursor))
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


def names(**filters: Any) -> list[str | None]:
    return [run.workflow_id for run in listed(**filters)]


def counted(**filters: Any) -> dict[str, str]:
    found = asyncio.run(count_runs(**filters))
    return {status: told for status in found.by_status if (told := found.shown(status)) != "0"}


def test_what_failed_or_waits_before_its_first_run_is_listed_once(app: App) -> None:
    async def raises() -> None:
        raise RuntimeError("no such <town>")

    async def has_a_plain_function() -> None:
        agent: Any = Agent(name="Ann", model=ScriptedModel([]), tools=[print])  # type: ignore[list-item]
        await timestep.run_agent(agent, "go")

    async def fails_after_its_run() -> None:
        agent = Agent(name="Ann", model=ScriptedModel([[assistant_message("done")]]))
        await timestep.run_agent(agent, "go")
        raise RuntimeError("later")

    async def starts_another() -> None:
        with SetWorkflowID("inside"):
            handle = await DBOS.start_workflow_async(run_it, "raises")
        await handle.get_result()

    async def nothing() -> None:
        pass

    for body in (raises, has_a_plain_function, fails_after_its_run, starts_another):
        with pytest.raises(Exception):  # noqa: B017, PT011  # each its own
            app.run(body, body.__name__)
    app.run(nothing, "nothing")
    record_workflow(app, "queued/1", "ENQUEUED", int(time.time() * 1000) + 1000, queue=_QUEUE)

    failed = {run.workflow_id: run for run in listed(status="failed")}
    assert list(failed) == ["starts_another", "has_a_plain_function", "raises"]
    raised = failed["raises"]
    assert (raised.id, raised.workflow_name) == (None, run_it.__qualname__)
    assert raised.error is not None
    assert (raised.error.type, raised.error.message) == ("RuntimeError", "no such <town>")
    assert failed["has_a_plain_function"].error is not None
    (waits,) = listed(status="running")
    assert waits.workflow_id == "queued/1"
    assert waits.status == "running"
    everything = ["queued/1", "starts_another", "fails_after_its_run"]
    everything += ["has_a_plain_function", "raises"]
    for limit in (1, 50):
        assert names(limit=limit) == everything
    assert counted() == {"running": "1", "completed": "1", "failed": "3"}

    at_terminal = CliRunner().invoke(main, ["runs", "--json", "--status", "failed"])
    found = json.loads(at_terminal.stdout)["items"]
    assert [run["workflow_id"] for run in found] == list(failed)
    told = CliRunner().invoke(main, ["show", "raises", "--traceback"])
    assert told.exit_code == 0, told.output
    assert "before its first run" in told.stdout
    assert "RuntimeError: no such <town>" in told.stdout

    async def over_http(web: FastAPI) -> None:
        async with client_of(web) as client:
            answer = await client.get("/api/runs", params={"status": "failed"})
            assert [run["workflow_id"] for run in answer.json()["items"]] == list(failed)
            page = await page_of(client, "/")
            assert '<a href="/runs/queued%2F1">answer</a>' in page
            assert "RuntimeError: no such &lt;town&gt;" in page
            assert "waits in the queue" in page
            assert '<span class="many">3</span>' in page

    asking(over_http)


def test_a_delayed_start_says_when_it_may_begin(app: App) -> None:
    record_workflow(app, "later", "DELAYED", 1, queue=_QUEUE, delay=9_000_000_000_000)
    told = CliRunner().invoke(main, ["show", "later"]).stdout
    begins = datetime.datetime.fromtimestamp(9e9, datetime.UTC).astimezone()
    assert f"  begins     {begins:%b %d %H:%M:%S} or later\n" in told


async def page_of(client: httpx.AsyncClient, path: str) -> str:
    answer = await client.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_filters_and_pages_know_workflows_without_a_run(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = 1_767_225_600_000  # 2026-01-01, in milliseconds.

    def hour(number: int) -> datetime.datetime:
        return datetime.datetime(2026, 1, 1, number, tzinfo=datetime.UTC)

    hours = 3_600_000
    record_workflow(app, "e0", "ERROR", begin)
    record_workflow(app, "e2", "ERROR", begin + 2 * hours, name="other", version="v2")
    for id_ in ("c4 B", "c4 a", "c4 ä"):
        record_workflow(app, id_, "CANCELLED", begin + 4 * hours)
    record_workflow(app, "q5", "ENQUEUED", begin + 5 * hours, queue=_QUEUE)
    record_workflow(app, "d6", "DELAYED", begin + 6 * hours, queue=_QUEUE, delay=9 * 10**12)
    # It ended its host, again and again.
    record_workflow(
        app, "d1", "DELAYED", begin + hours // 2, queue=_QUEUE, delay=9 * 10**12, attempts=2
    )
    app.execute(
        """INSERT INTO timestep.process_ends (workflow_id, ends, recorded, delay_until)
        VALUES ('d1', 3, '', 9000000000000)"""
    )
    record_workflow(app, "m7", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", begin + 7 * hours)
    # Not of these: one that other code waits for, those of Timestep and DBOS, and a parked one.
    record_workflow(app, "child", "ERROR", begin + hours, parent="e0")
    record_workflow(app, "call", "ERROR", begin + hours, name="timestep.tool_call")
    record_workflow(app, "step", "ERROR", begin + hours, name="<temp>.step")
    record_workflow(app, "parked", "DELAYED", begin + hours, queue=_QUEUE, attempts=1)
    record_workflow(app, "done", "SUCCESS", begin + hours)
    for number, status in ((1, "completed"), (3, "failed"), (4, "completed")):
        id_ = f"r{number}"
        record_run(app, id_, status, started_at=hour(number))
        record_workflow(app, id_, "ERROR", begin + number * hours - 1)
    app.execute(
        """UPDATE dbos.workflow_status SET attributes = '{"team": "a"}'
        WHERE workflow_uuid = 'q5'"""
    )

    ((source,),) = app.execute("SELECT id FROM runs WHERE workflow_id = 'r3'")
    app.execute(
        """INSERT INTO timestep.continuations (workflow_id, lane, ordinal, kind, run_id,
            source_run_id, turn) VALUES ('q5', 0, 0, 'forked', gen_random_uuid(), %s, 2)""",
        (source,),
    )
    (fork,) = listed(workflow_id="q5")
    assert (fork.forked_from_run_id, fork.forked_at_turn) == (str(source), 2)

    same = ["r4", "c4 ä", "c4 a", "c4 B"]
    every = ["m7", "d6", "q5", *same, "r3", "e2", "r1", "d1", "e0"]
    for looked_through, limit in ((runs.LOOKED_THROUGH, 50), (runs.LOOKED_THROUGH, 2), (2, 3)):
        monkeypatch.setattr(runs, "LOOKED_THROUGH", looked_through)
        monkeypatch.setattr(without_run, "LOOKED_THROUGH", looked_through)
        for filters, expected in (
            ({}, every),
            ({"status": "failed"}, ["m7", "r3", "e2", "e0"]),
            ({"status": "running"}, ["d6", "q5", "d1"]),
            ({"status": "cancelled"}, same[1:]),
            ({"status": "completed"}, ["r4", "r1"]),
            ({"entrypoint": "other"}, ["e2"]),
            ({"version": "v2"}, ["e2"]),
            ({"since": hour(2), "until": hour(4)}, ["r3", "e2"]),
            ({"workflow_id": "q5"}, ["q5"]),
            ({"text": "C4"}, same[1:]),
            ({"text": "r3"}, ["r3"]),
            ({"tag": "team:a"}, ["q5"]),
            ({"agent": "Ann"}, ["r4", "r3", "r1"]),
            ({"session_id": "none"}, []),
        ):  # fmt: skip
            assert names(**filters, limit=limit) == expected, (looked_through, limit, filters)
    monkeypatch.undo()
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    assert counted() == {"running": "3", "failed": "4", "completed": "2", "cancelled": "3"}
    assert counted(since=hour(5)) == {"running": "2", "failed": "1"}
    monkeypatch.setattr(without_run, "LOOKED_THROUGH", 2)
    assert counted()["cancelled"] == "2+"
    monkeypatch.setattr(counts, "MOST", 1)
    assert counted()["failed"] == "1+"
    (given_up,) = [run for run in listed(status="failed") if run.workflow_id == "m7"]
    assert "recovered too many times" in str(given_up.error)
    assert given_up.is_stuck


def test_sqlite_is_asked_alike() -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    names = ", ".join(without_run._COLUMNS)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE workflow_status ({names})")
        for row in (
            ("e1", "ERROR", "answer", 1, None, "v", None, 1, '{"team": "a"}'),
            ("e2", "ERROR", "answer", 1, "e1", "v", None, 1, None),
            ("ä", "CANCELLED", "timestep.tool_call", 1, None, "v", None, 1, None),
            ("d3", "DELAYED", "other", 1, None, "v", 5, 0, None),
            ("d4", "DELAYED", "other", 4, None, "v", 5, 1, None),
            ("q5", "ENQUEUED", "other", 5, None, "v", None, 0, None),
        ):
            connection.exec_driver_sql(
                f"INSERT INTO workflow_status ({names}) VALUES (?,?,?,?,?,?,?,?,?)", row
            )

        def ids(before: without_run.Created | None = None, **filters: Any) -> list[str]:
            asked = runs.Filters(**filters)
            found, is_more = without_run.candidates(connection, "main", asked, before=before)
            assert not is_more
            return [one.workflow_id for one in found]

        assert ids() == ["q5", "e1", "d3"]
        assert ids(without_run.Created(1, "e1")) == ["d3"]
        assert ids(tags=(("team", "a"),)) == ["e1"]
        assert ids(text="Q", status="running") == ["q5"]
