"""What a durable turn costs, beside the plain runner and beside the peers.

    pip install '.[benchmarks]'
    python -m tests.benchmarks.turns --out results

Each contender runs the same agent: a model that answers at once, one tool call a turn. It has a
warm process and a database of its own on one embedded PostgreSQL that syncs what it commits
(Temporal: its dev server, with a file). A round goes through the matrix of run lengths, tool
outputs and concurrent runs in a random order, and in each of its places through the contenders in
a random order; overhead is what a turn took over the plain runner's in the same round. A run of n
turns has n model calls and n - 1 tool calls. Round trips and transactions are counted by a proxy
in front of the server, after the rounds, so that counting takes no time from them.

It writes `turns.json` and `turns.png`, and prints the tables. `--quick` is over in half a
minute; the whole takes a quarter of an hour on two cores in three rounds. Temporal's plugin
wants another version of the SDK, so it gets a virtual environment (`--temporal DIR`), made when
it is missing; where it does not install, a line says why and the others go on.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from tests.benchmarks import measures, report, server, temporal
from tests.benchmarks.measures import Cell, Contender
from tests.benchmarks.report import PEER, PLAIN
from timestep import config

NAMES = (PLAIN, "timestep", "timestep-ordinary", PEER, temporal.NAME)
_PACKAGES = ("openai-agents", "dbos", "psycopg", "sqlalchemy", "dbos-openai-agents")
_MOST = 5000
"""Turns at once; more are in the matrix with `--everything` only."""


def matrix(
    turns: Iterable[int], sizes: Iterable[int], concurrency: Iterable[int], *, everything: bool
) -> list[Cell]:
    """The cells; big outputs are not multiplied with long concurrent runs."""
    cells = [Cell(t, size, at_once) for t in turns for size in sizes for at_once in concurrency]
    smallest = min(sizes)
    return [
        cell
        for cell in cells
        if everything
        or cell.concurrency == 1
        or (cell.total <= _MOST and (cell.size == smallest or cell.turns == 10))
    ] + [
        Cell(cell.turns, cell.size, cell.concurrency, processes=2)
        for cell in cells
        if cell.turns == 10 and cell.size == smallest and cell.concurrency >= 10
    ]


def entered(
    stack: ExitStack, postgres: server.Server, names: Sequence[str], home: Path, console: Console
) -> list[Contender]:
    """The contenders that can take part, warm."""
    found = []
    for name in names:
        if name == PEER and importlib.util.find_spec("dbos_openai_agents") is None:
            console.print(f"{name} is left out: it is not installed")
        elif name == "timestep-ordinary" and "ordinary_steps" not in config.told():
            console.print(f"{name} is left out: there is no such setting")
        elif name == temporal.NAME:
            try:
                programs = temporal.prepared(home)
            except temporal.NotInstalledError as error:
                console.print(f"{name} is left out: {error}")
                continue
            worker, process = stack.enter_context(temporal.running(programs))
            found.append(Contender(name, [worker], process))
        else:
            found.append(measures.enter(stack, postgres, name, processes=2))
    for contender in found:
        for worker in contender.workers:
            worker.wait_until_ready()
    return found


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=_numbers, default=[2, 10, 50, 200])
    parser.add_argument("--sizes", type=_numbers, default=[200, 4096])
    parser.add_argument("--concurrency", type=_numbers, default=[1, 10, 50])
    parser.add_argument("--contenders", default=",".join(NAMES), help="some of %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a small matrix, without Temporal")
    parser.add_argument("--everything", action="store_true", help="the longest runs at once, too")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir(), "timestep-turns"))
    parser.add_argument(
        "--temporal",
        type=Path,
        default=Path(tempfile.gettempdir(), "timestep-benchmark-temporal"),
        help="the virtual environment of Temporal's plugin",
    )
    options = parser.parse_args()
    if options.quick:
        options.turns, options.sizes, options.concurrency = [2, 10], [200], [1, 10]
        options.contenders = ",".join(name for name in NAMES if name != temporal.NAME)
        options.repeats = 2
    if unknown := set(options.contenders.split(",")) - set(NAMES):
        parser.error(f"no contender {', '.join(sorted(unknown))}")
    return options


def main() -> None:
    options = _arguments()
    console = Console(width=160)
    cells = matrix(options.turns, options.sizes, options.concurrency, everything=options.everything)
    names = options.contenders.split(",")
    began = time.monotonic()
    with server.running() as postgres, ExitStack() as stack:
        running = entered(stack, postgres, names, options.temporal, console)
        results = measures.rounds(
            postgres, running, cells, options.repeats, options.seed, console.print
        )
        stack.close()
        own = [each.name for each in running if each.name not in (PLAIN, temporal.NAME)]
        counts = measures.counts(postgres, own, options.turns)
    report.show(results, counts, console)
    about = {
        "machine": f"{os.cpu_count()} cores, {platform.platform()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _installed()},
        "temporal": list(temporal.REQUIREMENTS),
        "load": os.getloadavg(),
        "seconds": round(time.monotonic() - began),
        "repeats": options.repeats,
        "seed": options.seed,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "turns.json"
    file.write_text(json.dumps({**about, **report.as_json(results, counts)}, indent=1))
    console.print(f"{about['seconds']} s; {file}")
    if importlib.util.find_spec("matplotlib") is None:
        console.print("there is no picture: matplotlib is not installed")
        return
    from tests.benchmarks import plot

    title = f"{about['machine']}, Python {about['python']}, fsync on, medians of rounds"
    plot.draw(results, counts, title, options.out / "turns.png")
    console.print(options.out / "turns.png")


def _installed() -> list[str]:
    return [
        name for name in _PACKAGES if name != PEER or importlib.util.find_spec("dbos_openai_agents")
    ]


if __name__ == "__main__":
    main()
