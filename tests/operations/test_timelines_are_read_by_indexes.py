"""A part of a run's timeline is found by indexes: nothing reads a table as a whole for it."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.dbos_app import App
from tests.support.recorded_runs import long_run
from timestep.journal.reads.database import database
from timestep.operations.overview import inbox
from timestep.operations.queries import runs
from timestep.operations.queries.story import family, standing, timeline
from timestep.store.reads.overview import inbox as store
from timestep.store.reads.overview import led_to


def test_no_table_is_read_as_a_whole(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    long_run(app.url, "long", turns=200, failed=(7,))
    run = asyncio.run(runs.get_run("long"))
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith("EXPLAIN"):
            asked.append((statement, parameters))

    async def read() -> None:
        of: dict[str, Any] = {"run_id": str(run.id), "goes_on": False}
        await timeline.part_of(**of, workflow_id="long")
        await timeline.part_of(**of, workflow_id=None, which="turn", place=90)
        await timeline.part_of(**of, workflow_id=None, which="before", place=200)
        for only, text in (("failed", None), ("pending", None), ("approvals", "look"), (None, "9")):
            await timeline.matches_of(**of, only=only, text=text, cursor=None)
        await family.family_of(str(run.id))
        await inbox.waiting()
        await inbox.decided()
        with database().engine.connect() as connection:
            store.of_workflows(connection, ["long"], 20)
            store.named(connection, [uuid.UUID(run.id)])
            for of_runs in (led_to.items, led_to.runs, led_to.inputs, led_to.sessions):
                of_runs(connection, [uuid.UUID(run.id)])
        await standing.standing_of(dataclasses.replace(run, status="running"))

    engine = database().engine
    sa.event.listen(engine, "before_cursor_execute", note)
    asyncio.run(read())
    sa.event.remove(engine, "before_cursor_execute", note)
    tables = [one for one in asked if " FROM " in " ".join(one[0].split())]
    assert len(tables) > 40
    # With the second, what an index can serve is served by one, however few rows there are.
    for setting, unwanted in (("on", "hashed SubPlan"), ("off", "Seq Scan")):
        with engine.connect() as connection:
            connection.exec_driver_sql(f"SET enable_seqscan = {setting}")
            for statement, parameters in tables:
                plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()
                assert [line for line in plan if unwanted in line] == [], statement
            connection.exec_driver_sql("RESET enable_seqscan")
