"""What was measured, as tables for people and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from operator import attrgetter
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.benchmarks import temporal
from tests.benchmarks.measures import Cell, Counts, Measured, Results

PLAIN = "plain"
PEER = "dbos-openai-agents"


def median(of: Sequence[Measured], figure: str) -> float:
    return float(statistics.median(map(attrgetter(figure), of)))


def overhead(by: dict[str, list[Measured]], name: str, figure: str = "ms") -> float | None:
    """The median of what a turn took more than the plain runner's in the same round."""
    both = list(zip(by.get(name, []), by.get(PLAIN, []), strict=False))
    if name == PLAIN or not both:
        return None
    read = attrgetter(figure)
    return float(statistics.median(read(own) - read(plain) for own, plain in both))


def ratios(results: Results) -> Iterator[dict[str, Any]]:
    """Timestep beside its peers: less is better for the overhead, more for the throughput."""
    for cell, by in sorted(results.items()):
        for name in by:
            if not name.startswith("timestep") or not by[name]:
                continue
            found: dict[str, Any] = {"contender": name, **asdict(cell)}
            mine, peers = overhead(by, name), overhead(by, PEER)
            if mine and peers:
                found["overhead_to_peer"] = mine / peers
                found["cpu_overhead_to_peer"] = _divided(
                    overhead(by, name, "cpu_ms"), overhead(by, PEER, "cpu_ms")
                )
            if by.get(PEER):
                found["throughput_to_peer"] = _in_rounds(by[name], by[PEER], "runs_per_second")
                found["wal_to_peer"] = _in_rounds(by[name], by[PEER], "wal_bytes")
            theirs = overhead(by, temporal.NAME)
            if mine and theirs:
                found["temporal_overhead_to_it"] = theirs / mine
            yield found


def _divided(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def _in_rounds(own: list[Measured], other: list[Measured], figure: str) -> float:
    read = attrgetter(figure)
    quotients = [read(a) / read(b) for a, b in zip(own, other, strict=False) if read(b)]
    return float(statistics.median(quotients))


def growth(results: Results, figure: str) -> Iterator[tuple[str, int, float, float]]:
    """What a turn takes late in a run and early: contender, size, from turn 2 to 10, 50 to 200."""
    for size in sorted({cell.size for cell in results}):
        cells = [results.get(Cell(turns, size, 1)) for turns in (2, 10, 50, 200)]
        for name in cells[0] or ():
            runs = [
                median(by[name], figure) * turns
                for by, turns in zip(cells, (2, 10, 50, 200), strict=True)
                if by and by.get(name)
            ]
            if len(runs) == 4:
                yield name, size, (runs[1] - runs[0]) / 8, (runs[3] - runs[2]) / 150


def as_json(results: Results, counts: Counts) -> dict[str, Any]:
    return {
        "measured": [
            {
                "contender": name,
                **asdict(cell),
                "runs": cell.task.runs * cell.processes,
                "overhead_ms": overhead(by, name),
                "median": {key: median(of, key) for key in asdict(of[0])},
                "rounds": [asdict(each) for each in of],
            }
            for cell, by in sorted(results.items())
            for name, of in by.items()
            if of
        ],
        "asked_of_the_server": [
            {"contender": name, "turns": turns, **asdict(talked)}
            for turns, by in counts.items()
            for name, talked in by.items()
        ],
        "ratios": list(ratios(results)),
    }


def show(results: Results, counts: Counts, console: Console) -> None:
    """Print the medians, what is asked of the server, and the ratios."""
    table = Table(title="A turn (medians of rounds; the rest of a run shared among its turns)")
    for name in ("turns", "bytes", "at once", "contender", "rounds"):
        table.add_column(name, justify="left" if name == "contender" else "right")
    for name in ("ms", "over plain", "run ms", "runs/s", "CPU ms", "server CPU", "WAL KiB"):
        table.add_column(name, justify="right")
    for name in ("writing tx", "peak MiB"):
        table.add_column(name, justify="right")
    for cell, by in sorted(results.items()):
        at_once = f"{cell.concurrency}" + (f" in {cell.processes}" if cell.processes > 1 else "")
        place = [str(cell.turns), str(cell.size), at_once]
        for name, of in by.items():
            if not of:
                continue
            over = overhead(by, name)
            table.add_row(
                *place,
                name,
                str(len(of)),
                f"{median(of, 'ms'):.2f}",
                "" if over is None else f"{over:.2f}",
                f"{median(of, 'run_ms'):.1f}",
                f"{median(of, 'runs_per_second'):.1f}",
                f"{median(of, 'cpu_ms'):.2f}",
                f"{median(of, 'server_cpu_ms'):.2f}",
                f"{median(of, 'wal_bytes') / 1024:.2f}",
                f"{median(of, 'writes'):.2f}",
                f"{median(of, 'peak_mib'):.0f}",
            )
            place = ["", "", ""]
        table.add_section()
    console.print(table)
    if counts:
        console.print(_asked(counts))
    console.print(_ratios(results))
    late = [
        (what, *row)
        for what, figure in (("WAL bytes", "wal_bytes"), ("CPU ms", "cpu_ms"))
        for row in growth(results, figure)
    ]
    if late:
        console.print(_late(late))


def _asked(counts: Counts) -> Table:
    table = Table(title="What a turn asks of the server, one run after the other")
    table.add_column("turns", justify="right")
    table.add_column("contender")
    table.add_column("round trips", justify="right")
    table.add_column("transactions", justify="right")
    for turns, by in counts.items():
        for name, talked in by.items():
            table.add_row(
                str(turns), name, f"{talked.round_trips:.2f}", f"{talked.transactions:.2f}"
            )
    return table


def _ratios(results: Results) -> Table:
    table = Table(title="Timestep beside its peers")
    for name in ("turns", "bytes", "at once", "processes", "contender"):
        table.add_column(name, justify="left" if name == "contender" else "right")
    keys = {
        "overhead_to_peer": "overhead / peer's",
        "cpu_overhead_to_peer": "CPU over plain / peer's",
        "throughput_to_peer": "throughput / peer's",
        "wal_to_peer": "WAL / peer's",
        "temporal_overhead_to_it": "Temporal's overhead / its",
    }
    for title in keys.values():
        table.add_column(title, justify="right")
    for row in ratios(results):
        place = [str(row[key]) for key in ("turns", "size", "concurrency", "processes")]
        figures = [row.get(key) for key in keys]
        shown = ["" if figure is None else f"{figure:.2f} x" for figure in figures]
        table.add_row(*place, row["contender"], *shown)
    return table


def _late(rows: Sequence[tuple[str, str, int, float, float]]) -> Table:
    table = Table(title="A turn early and late in a run (differences between runs of two lengths)")
    for name in ("what", "contender", "bytes", "turns 3 to 10", "turns 51 to 200", "late / early"):
        table.add_column(name, justify="left" if name in ("what", "contender") else "right")
    for what, name, size, early, late in rows:
        ratio = f"{late / early:.2f} x" if early > 0 and name != PLAIN else ""
        table.add_row(what, name, str(size), f"{early:.2f}", f"{late:.2f}", ratio)
    return table
