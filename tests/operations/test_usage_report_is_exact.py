"""The usage report says what a plain sum over all rows says, whoever writes meanwhile."""

from __future__ import annotations

import asyncio
import datetime
import random
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from agents import Agent, Runner
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.usage import Usage

import timestep
from tests.support.dbos_app import App
from timestep.database.migrations import directory
from timestep.errors import InvalidQueryError
from timestep.operations.queries.metrics import read_metrics
from timestep.operations.queries.usage import usage_report, usage_sql
from timestep.store.reads import usage

NOW = datetime.datetime(2026, 3, 1, 12, 20, tzinfo=datetime.UTC)

PLAIN = """
    SELECT a.name, sum(e.requests)::bigint, sum(e.input_tokens)::bigint, sum(e.estimated_cost)
    FROM request_usage_entries e JOIN runs r ON r.id = e.run_id
    JOIN agents a ON a.id = coalesce(e.agent_id, r.agent_id)
    WHERE r.started_at >= %(since)s::timestamptz GROUP BY 1
    ORDER BY coalesce(sum(e.estimated_cost), 0) DESC, sum(e.total_tokens) DESC, 1"""

ENTRY = """
    INSERT INTO request_usage_entries (id, run_id, usage_metrics_id, model, requests, input_tokens,
        estimated_cost, agent_id)
    SELECT gen_random_uuid(), %s, id, %s, 1, %s, %s, %s FROM usage_metrics WHERE run_id = %s"""


class Books:
    """Runs with usage, and the report of them."""

    def __init__(self, engine: sa.Engine, url: str) -> None:
        self.url = url
        self.changes = engine.execution_options(isolation_level="READ COMMITTED")
        self.snapshots = engine.execution_options(isolation_level="REPEATABLE READ")
        self.agents = [uuid.uuid4() for _ in range(3)]
        with psycopg.connect(url) as connection:
            for number, id_ in enumerate(self.agents):
                connection.execute(
                    "INSERT INTO agents (id, name, version, instructions_type) "
                    "VALUES (%s, %s, %s, 'none')",
                    (id_, f"agent {number // 2}", number + 1),
                )

    def run(self, connection: psycopg.Connection, minutes: float = 0) -> uuid.UUID:
        id_ = uuid.uuid4()
        connection.execute(
            "INSERT INTO runs (id, root_run_id, agent_id, status, input, sdk_version, started_at) "
            "VALUES (%s, %s, %s, 'running', '[]', '0', %s)",
            (id_, id_, random.choice(self.agents), NOW - datetime.timedelta(minutes=minutes)),
        )
        connection.execute("INSERT INTO usage_metrics (run_id) VALUES (%s)", (id_,))
        return id_

    def use(self, connection: psycopg.Connection, run: uuid.UUID, tokens: int) -> None:
        model = random.choice(["a", "b", None])
        cost = tokens / 1000 if model else None
        # Old entries have no agent of their own.
        agent = random.choice([None, *self.agents])
        connection.execute(ENTRY, (run, model, tokens, cost, agent, run))

    def move_on(self) -> None:
        with self.changes.begin() as connection:
            usage.move_on(connection)

    def check(self, since: datetime.datetime | None = None) -> int:
        """See that the report is right, and give how many tokens it tells of."""
        with self.snapshots.begin() as connection:
            told = usage.report(connection, "agent", since)
            plain = connection.exec_driver_sql(PLAIN, {"since": since or "-infinity"}).all()
            others = [usage.report(connection, by, since) for by in ("model", "day", "entrypoint")]
        names = ("name", "requests", "input_tokens", "estimated_cost")
        assert [tuple(row[name] for name in names) for row in told] == [tuple(row) for row in plain]
        tokens = sum(row["input_tokens"] for row in told)
        assert [sum(row["input_tokens"] for row in rows) for rows in others] == [tokens] * 3
        return int(tokens)

    def summed(self) -> int:
        """Tokens in the sums alone."""
        with psycopg.connect(self.url) as connection:
            query = (
                "SELECT coalesce(sum(input_tokens), 0) FROM timestep.usage_sums WHERE unit = 'day'"
            )
            return int((connection.execute(query).fetchone() or (0,))[0])


@pytest.fixture
def books(engine: sa.Engine, database_url: str) -> Books:
    random.seed(5)
    return Books(engine, database_url)


def test_a_report_has_what_is_not_in_the_sums_and_what_is(books: Books) -> None:
    with psycopg.connect(books.url) as connection:
        runs = [books.run(connection, minutes) for minutes in (0, 10, 50, 100, 3000)]
        for number, run in enumerate(runs):
            books.use(connection, run, 10**number)
    assert (books.check(), books.summed()) == (11111, 0)

    books.move_on()

    assert (books.check(), books.summed()) == (11111, 11111)
    with psycopg.connect(books.url) as connection:
        books.use(connection, runs[0], 500000)
    assert (books.check(), books.summed()) == (511111, 11111)
    # Within an hour, at its beginning, and in another one.
    ago = [NOW - datetime.timedelta(minutes=minutes) for minutes in (5, 20, 50, 60, 200, 4000)]
    found = [books.check(since) for since in ago]
    assert found == [500001, 500011, 500111, 500111, 501111, 511111]


def test_what_is_written_late_is_not_lost(books: Books) -> None:
    with psycopg.connect(books.url) as late, psycopg.connect(books.url, autocommit=True) as other:
        run = books.run(other)
        books.use(late, run, 1)
        for tokens in (10, 100, 1000):
            books.use(other, run, tokens)
            books.move_on()
            books.check()
        assert books.summed() == 0
        late.commit()
        books.move_on()

        assert (books.check(), books.summed()) == (1111, 1111)


def test_one_that_always_writes_holds_nothing_up(books: Books) -> None:
    with psycopg.connect(books.url) as one, psycopg.connect(books.url) as two:
        run = books.run(one)
        one.commit()
        for writer, other in [(one, two), (two, one)] * 2:
            books.use(writer, run, 1)
            books.move_on()
            other.commit()
            books.move_on()
        assert books.summed() >= 2
        assert books.check() == 3


def test_sums_follow_what_people_change(books: Books) -> None:
    with psycopg.connect(books.url, autocommit=True) as connection:
        runs = [books.run(connection, minutes) for minutes in (0, 70, 140)]
        for number, run in enumerate(runs):
            books.use(connection, run, 10**number)
        books.move_on()
        for number, run in enumerate(runs):
            books.use(connection, run, 1000 * 10**number)
        connection.execute("UPDATE request_usage_entries SET estimated_cost = 7, model = 'c'")
        assert books.check() == 111111
        connection.execute("UPDATE runs SET agent_id = %s", (books.agents[0],))
        assert books.check() == 111111
        connection.execute("UPDATE request_usage_entries SET agent_id = %s", (books.agents[1],))
        assert books.check() == 111111
        connection.execute("UPDATE runs SET started_at = %s WHERE id = %s", (NOW, runs[2]))
        assert books.check(NOW) == 101101
        connection.execute("DELETE FROM runs WHERE id = %s", (runs[0],))
        assert books.check() == 110110
        connection.execute("DELETE FROM usage_metrics WHERE run_id = %s", (runs[1],))
        assert books.check() == 100100
        books.move_on()
        assert (books.check(), books.summed()) == (100100, 100100)
        connection.execute("TRUNCATE runs CASCADE")
        assert (books.check(), books.summed()) == (0, 0)


def test_it_is_right_at_every_moment(books: Books) -> None:
    over = threading.Event()

    def write(seed: int) -> None:
        draw = random.Random(seed)
        runs: list[uuid.UUID] = []
        with psycopg.connect(books.url) as connection:
            for _ in range(60):
                if not runs or draw.random() < 0.3:
                    runs.append(books.run(connection, draw.random() * 200))
                books.use(connection, draw.choice(runs), draw.randrange(1000))
                if draw.random() < 0.1:
                    gone = runs.pop(draw.randrange(len(runs)))
                    connection.execute("DELETE FROM runs WHERE id = %s", (gone,))
                if draw.random() < 0.8:
                    connection.rollback() if draw.random() < 0.1 else connection.commit()
                    runs = runs[:0]
                else:
                    over.wait(draw.random() * 0.01)

    def ask(draw: random.Random) -> None:
        while not over.is_set():
            books.move_on()
            books.check(NOW - datetime.timedelta(minutes=draw.random() * 200))

    with ThreadPoolExecutor(6) as threads:
        asking = [threads.submit(ask, random.Random(n)) for n in range(2)]
        for writer in [threads.submit(write, n) for n in range(4)]:
            writer.result()
        over.set()
        for one in asking:
            one.result()
    books.move_on()
    assert books.check() == books.summed() > 0


def test_a_report_of_runs(app: App) -> None:
    spent = Usage(requests=1, input_tokens=100, output_tokens=10, total_tokens=110)

    async def body() -> Any:
        model = ScriptedModel([ModelStep([assistant_message("hello")], usage=spent)] * 2)
        agent = Agent("Speaker", model=model)
        await Runner.run(agent, "one")
        return (await Runner.run(agent, "two")).final_output

    timestep.install()
    try:
        app.run(body, "w-1")
        asyncio.run(usage_report())
        app.run(body, "w-2")
        app.replay("w-2")
        (row,) = asyncio.run(usage_report())
    finally:
        timestep.uninstall()

    assert (row.name, row.requests, row.input_tokens) == ("Speaker", 4, 400)
    assert row.input_tokens == sum(one["input_tokens"] for one in app.rows("usage_metrics"))
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)
    assert asyncio.run(usage_report(since=later)) == []


@pytest.mark.parametrize("options", [{"by": "colour"}, {"since": datetime.datetime(2026, 1, 1)}])
def test_a_report_that_cannot_be_made(options: dict[str, Any], app: App) -> None:
    with pytest.raises(InvalidQueryError):
        asyncio.run(usage_report(**options))


def test_what_is_used_after_a_handoff_is_the_other_agents(app: App) -> None:
    spent = Usage(requests=1, input_tokens=100, output_tokens=10, total_tokens=110)

    async def body() -> Any:
        said = ModelStep([assistant_message("done")], usage=spent)
        specialist = Agent("Specialist", model=ScriptedModel([said]))
        call = function_call("transfer_to_specialist", {}, call_id="h")
        front = Agent("Front", model=ScriptedModel([ModelStep([call], usage=spent)]))
        front.handoffs = [specialist]
        return (await timestep.run_agent(front, "go")).final_output

    app.run(body)
    app.execute(
        """UPDATE request_usage_entries e SET estimated_cost = CASE a.name WHEN 'Front' THEN 1
        ELSE 2 END FROM agents a WHERE a.id = e.agent_id"""
    )
    rows = asyncio.run(usage_report(by="agent"))
    # What costs most comes first.
    assert [(row.name, row.input_tokens, row.cost) for row in rows] == [
        ("Specialist", 100, 2.0), ("Front", 100, 1.0)
    ]  # fmt: skip
    told = [tuple(row[:3]) for row in app.execute(usage_sql(by="agent"))]
    assert told == [(row.name, row.requests, row.input_tokens) for row in rows]
    requests = read_metrics()["timestep_model_requests_total"]
    assert {agent: count for (agent, _), count in requests.items()} == {"Specialist": 1, "Front": 1}


def test_sums_of_earlier_versions_are_made_anew_once(books: Books) -> None:
    with psycopg.connect(books.url, autocommit=True) as connection:
        run = books.run(connection)
        books.use(connection, run, 1)
        connection.execute("UPDATE request_usage_entries SET agent_id = %s", (books.agents[2],))
        connection.execute("UPDATE runs SET agent_id = %s", (books.agents[0],))
        books.move_on()
        # As they were: by the agent that a run began with.
        connection.execute("UPDATE timestep.usage_sums SET agent_id = %s", (books.agents[0],))
        connection.execute((directory() / "003_usage_report_and_indexes.sql").read_bytes())
        newest = (directory() / "020_usage_by_who_acted.sql").read_bytes()
        connection.execute(newest)
        assert (books.check(), books.summed()) == (1, 0)
        books.move_on()
        connection.execute(newest)
        assert (books.check(), books.summed()) == (1, 1)
