"""The benchmark of turns still measures: a small matrix, with whom the tests' packages bring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest
from psycopg import sql
from rich.console import Console

from tests.benchmarks import measures, proxy, report
from tests.benchmarks.measures import Cell
from tests.benchmarks.server import Server
from tests.support.conditions import until
from timestep.database import urls


@pytest.fixture
def syncing(server: str) -> Iterator[str]:
    """The server, which syncs what it commits for as long as this lasts."""
    _sync(server, "on")
    yield server
    _sync(server, "off")


def _sync(server: str, state: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            change = sql.SQL("ALTER SYSTEM SET {} = {}")
            connection.execute(change.format(sql.Identifier(name), state))
        connection.execute("SELECT pg_reload_conf()")
    until(lambda: _synchronous_commit(server) == state)


def _synchronous_commit(server: str) -> str:
    with psycopg.connect(server) as connection:
        row = connection.execute("SHOW synchronous_commit").fetchone()
    return "" if row is None else str(row[0])


def test_a_turn_is_measured_beside_the_plain_runner(syncing: str) -> None:
    cell = Cell(turns=2, size=200, concurrency=2)
    with ExitStack() as stack:
        postgres = stack.enter_context(closing(Server(urls.parse_url(syncing))))
        entered = [measures.enter(stack, postgres, name, 1) for name in ("plain", "timestep")]
        for contender in entered:
            contender.workers[0].wait_until_ready()
        results = measures.rounds(postgres, entered, [cell], 1, 1, lambda said: None)
    (plain,), (timestep,) = results[cell]["plain"], results[cell]["timestep"]
    assert plain.writes < 1 <= timestep.writes
    assert plain.wal_bytes < timestep.wal_bytes
    assert min(plain.ms, timestep.ms) > 0

    console = Console(width=160, record=True, quiet=True)
    report.show(results, {}, console)
    found = report.as_json(results, {})
    assert [row["contender"] for row in found["measured"]] == ["plain", "timestep"]


def test_what_a_client_asks_is_counted(syncing: str) -> None:
    with (
        closing(Server(urls.parse_url(syncing))) as postgres,
        proxy.running(postgres.socket) as counter,
        psycopg.connect(postgres.behind(syncing, counter.directory)) as connection,
    ):
        traffic = counter.traffic
        begun = (traffic.round_trips, traffic.transactions)
        connection.execute("SELECT 1")  # preceded by BEGIN
        connection.execute("SELECT repeat('x', 1000000)")
        connection.commit()
        assert (traffic.round_trips - begun[0], traffic.transactions - begun[1]) == (4, 1)
        connection.autocommit = True
        connection.execute("SELECT 1")
        with connection.pipeline():
            connection.execute("SELECT 1")
            connection.execute("SELECT 1")
        assert traffic.transactions - begun[1] == 3
        assert traffic.round_trips - begun[0] == 6
