"""What the schema's examples, the API, the command line and a host's start ask the database."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, get_args

import sqlalchemy as sa

from timestep.journal import fail_fast_read
from timestep.journal.recorder import recorder
from timestep.operations.queries import interruptions, records, runs, usage
from timestep.store import parked_workflows, run_journal, run_states, streams
from timestep.store.fleet import hosts
from timestep.store.reads import server
from timestep.store.reads.runs import list_items

_ACTIVE = """
    SELECT r.*, a.name as agent_name
    FROM runs r
    JOIN agents a ON r.agent_id = a.id
    WHERE r.agent_id = %(agent)s
      AND r.status IN ('running', 'interrupted')
    ORDER BY r.started_at DESC"""

_STATE = "SELECT state_data FROM run_states WHERE run_id = %(run)s AND is_active = true"

_USAGE = """
    SELECT
      a.name as agent_name,
      SUM(um.input_tokens) as total_input_tokens,
      SUM(um.output_tokens) as total_output_tokens,
      SUM(um.estimated_cost) as total_cost
    FROM usage_metrics um
    JOIN runs r ON um.run_id = r.id
    JOIN agents a ON r.agent_id = a.id
    WHERE r.started_at >= %(now)s::timestamptz - INTERVAL '7 days'
    GROUP BY a.id, a.name"""

_WORDS = """
    SELECT id FROM run_items
    WHERE timestep.search_vector(item_data) @@ to_tsquery('simple', 'w4711 & w17') LIMIT 50"""

_HOLDS = """SELECT id FROM run_items WHERE item_data @> '{"call_id": "call_4711.1.1"}'"""


@dataclass(frozen=True)
class Question:
    """Something that is asked, in one statement or several."""

    name: str
    ask: Callable[[], Any]


def questions(engine: sa.Engine) -> Iterator[Question]:
    """Every question, about rows that the database in question has."""

    def value(sql: str) -> Any:
        with engine.connect() as connection:
            return connection.exec_driver_sql(sql).scalar()

    now = value("SELECT max(started_at) FROM runs")
    common = value("SELECT agent_id FROM runs GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")
    some = (
        f"SELECT {{}} FROM runs WHERE started_at < '{now}'::timestamptz - interval '{{}} days' "
        "AND {} ORDER BY started_at DESC LIMIT 1"
    )
    run = value(some.format("id", 10, "status = 'completed'"))
    workflow = value(some.format("workflow_id", 12, "parent_run_id IS NULL"))
    waiting = value("SELECT workflow_id FROM runs WHERE status = 'interrupted' LIMIT 1")
    long = value("SELECT id FROM runs WHERE current_turn > 100 ORDER BY started_at DESC LIMIT 1")
    session = value(
        "SELECT session_key FROM sessions JOIN runs ON runs.session_id = sessions.id "
        "GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
    )
    rare = value("SELECT name FROM agents JOIN runs ON agent_id = agents.id GROUP BY 1 ORDER BY count(*) LIMIT 1")  # noqa: E501  # fmt: skip
    name = value(f"SELECT name FROM agents WHERE id = '{common}'")

    def statement(sql: str, **parameters: Any) -> Callable[[], Any]:
        def ask() -> Any:
            with engine.connect() as connection:
                return connection.exec_driver_sql(sql, parameters or None).all()

        return ask

    def reading(work: Callable[[sa.Connection], Any]) -> Callable[[], Any]:
        return lambda: fail_fast_read.reading(work)

    def call(work: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
        return lambda: asyncio.run(work())

    def listed(**filters: Any) -> Callable[[], Any]:
        return call(lambda: runs.list_runs(**filters))

    def later(pages: int, **filters: Any) -> Callable[[], Any]:
        cursor = None
        for _ in range(pages):
            cursor = asyncio.run(runs.list_runs(**filters, cursor=cursor)).next_cursor
        return listed(**filters, cursor=cursor)

    def used(by: records.UsageBy, **options: Any) -> Callable[[], Any]:
        return call(lambda: usage.usage_report(by=by, **options))

    async def show(id_: str) -> None:
        found = await runs.get_run(id_)
        cursor: str | None = None
        while True:
            page = await runs.list_items(str(found.id), limit=200, cursor=cursor)
            if (cursor := page.next_cursor) is None:
                break
        await runs.list_tool_calls(str(found.id))

    yield Question("example: active runs of an agent", statement(_ACTIVE, agent=common))
    yield Question("example: state for resuming", statement(_STATE, run=run))
    yield Question("example: usage of 7 days by agent", statement(_USAGE, now=now))
    for by in get_args(records.UsageBy):
        yield Question(f"usage of all runs by {by}", used(by))
    week = now - datetime.timedelta(days=7)
    yield Question("usage of 7 days by agent", used("agent", since=week))
    yield Question(
        "usage of 50 minutes by model", used("model", since=now - datetime.timedelta(minutes=50))
    )
    yield Question("runs", listed())
    yield Question("runs, 200", listed(limit=200))
    yield Question("runs, page 20", later(20))
    for status in records.STATUSES:
        yield Question(f"runs, {status}", listed(status=status))
    yield Question("runs, interrupted, page 5", later(5, status="interrupted"))
    yield Question("runs of a common agent", listed(agent=name))
    yield Question("runs of a common agent, page 5", later(5, agent=name))
    yield Question("runs of a rare agent", listed(agent=rare))
    yield Question("runs of an agent that is not", listed(agent="nobody"))
    yield Question("runs of an entrypoint that is not", listed(entrypoint="nothing"))
    yield Question("runs of a version that is not", listed(version="none"))
    yield Question("runs that say what none does", listed(text="nothing of the kind"))
    yield Question("runs, failed, of a rare agent", listed(agent=rare, status="failed"))
    yield Question("runs, interrupted, of a rare agent", listed(agent=rare, status="interrupted"))
    yield Question("runs of a session", listed(session_id=session))
    yield Question("runs of a workflow", listed(workflow_id=workflow))
    yield Question("show a run", call(lambda: show(str(run))))
    yield Question("show a workflow", call(lambda: show(workflow)))
    yield Question("show a run of 200 turns", call(lambda: show(str(long))))
    yield Question("items of a run, page 2", reading(lambda c: list_items(c, long, after=200, limit=201)))  # noqa: E501  # fmt: skip
    yield Question("approvals", call(interruptions.list_interruptions))
    yield Question("approvals, 50", call(lambda: interruptions.page_of_interruptions(workflow_id=None, resolved=False, limit=50, cursor=None)))  # noqa: E501  # fmt: skip
    yield Question("approvals, decided", call(lambda: interruptions.page_of_interruptions(workflow_id=None, resolved=True, limit=50, cursor=None)))  # noqa: E501  # fmt: skip
    yield Question("approvals of a workflow", call(lambda: interruptions.list_interruptions(workflow_id=waiting)))  # noqa: E501  # fmt: skip
    yield Question("approvals of a run", call(lambda: interruptions.list_interruptions(run_id=run)))
    yield Question(
        "host: undecided workflows", reading(lambda c: parked_workflows.count(c, "dbos"))
    )
    yield Question("host: unfinished workflows", reading(lambda c: hosts.unfinished_workflows(c, "dbos", "timestep", "local")))  # noqa: E501  # fmt: skip
    yield Question("host: sweep of cancelled workflows", lambda: recorder().end_cancelled())
    yield Question("doctor: rights", reading(lambda c: server.missing_rights(c, "dbos")))
    yield Question("recovery: everything of a run of 200 turns", reading(lambda c: run_journal.journal(c, long)))  # noqa: E501  # fmt: skip
    yield Question("live reader: what is new", reading(lambda c: streams.followed(c, "dbos", [streams.Followed(long, None, 10**12)], limit=100, size=1 << 18)))  # noqa: E501  # fmt: skip
    yield Question("live reader: from the beginning", reading(lambda c: streams.followed(c, "dbos", [streams.Followed(long, None, 0)], limit=100, size=1 << 18)))  # noqa: E501  # fmt: skip
    yield Question(
        "state store: the active state", reading(lambda c: run_states.active(c, run, session))
    )
    yield Question("items by words", statement(_WORDS))
    yield Question("items by what they hold", statement(_HOLDS.replace("%", "%%")))
