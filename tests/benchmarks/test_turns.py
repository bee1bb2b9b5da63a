"""The benchmark of turns still measures: a small matrix, with whom the tests' packages bring."""

from __future__ import annotations

from contextlib import ExitStack

from rich.console import Console

from tests.benchmarks import measures, report
from tests.benchmarks.measures import Cell
from tests.benchmarks.server import Server
from timestep import database


def test_a_turn_is_measured_beside_the_plain_runner(server: str) -> None:
    postgres = Server(database.parse_url(server))
    cell = Cell(turns=2, size=200, concurrency=2)
    with ExitStack() as stack:
        entered = [measures.enter(stack, postgres, name, 1) for name in ("plain", "timestep")]
        for contender in entered:
            contender.workers[0].wait_until_ready()
        results = measures.rounds(postgres, entered, [cell], 1, 1, lambda said: None)
    (plain,), (timestep,) = results[cell]["plain"], results[cell]["timestep"]
    assert plain.writes == plain.wal_bytes == 0 < timestep.writes < timestep.wal_bytes
    assert 0 < plain.ms < timestep.ms

    counts = measures.counts(postgres, ["timestep"], [2])
    talked = counts[2]["timestep"]
    assert timestep.writes <= talked.transactions <= talked.round_trips

    console = Console(width=160, record=True, quiet=True)
    report.show(results, counts, console)
    found = report.as_json(results, counts)
    assert [row["contender"] for row in found["measured"]] == ["plain", "timestep"]
    postgres.close()
