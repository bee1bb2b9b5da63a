"""What was measured, as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter

from tests.benchmarks.measures import Cell, Counts, Results
from tests.benchmarks.report import PEER, PLAIN, median, overhead

_COLOURS = {
    "timestep": "#1f77b4",
    "timestep-ordinary": "#7fb3dd",
    PEER: "#d6841f",
    "temporal": "#7a4fa3",
    PLAIN: "#8a8a8a",
}
_SIZE = 200


def draw(results: Results, counts: Counts, title: str, file: Path) -> None:
    """Draw overhead, throughput, WAL, and what is asked of the server."""
    figure, ((a, b), (c, d)) = pyplot.subplots(2, 2, figsize=(13, 9))
    _lines(a, results, "overhead")
    a.set(title="Overhead over the plain runner, one run at a time", ylabel="ms a turn")
    a.set_yscale("log")
    a.yaxis.set_major_formatter(ScalarFormatter())
    a.yaxis.set_minor_formatter(ScalarFormatter())
    _throughput(b, results)
    _lines(c, results, "wal")
    c.set(title="Write-ahead log", ylabel="KiB a turn", ylim=(0, None))
    _counts(d, counts)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _names(results: Results) -> list[str]:
    return [name for name in _COLOURS if any(by.get(name) for by in results.values())]


def _lines(axes: Axes, results: Results, what: str) -> None:
    turns = sorted({cell.turns for cell in results})
    for size in sorted({cell.size for cell in results}):
        for name in _names(results):
            if name == PLAIN or (what == "wal" and name == "temporal"):
                continue
            points = []
            for each in turns:
                by = results.get(Cell(each, size, 1), {})
                if not by.get(name):
                    continue
                value = (
                    median(by[name], "wal_bytes") / 1024 if what == "wal" else overhead(by, name)
                )
                if value is not None and value > 0:
                    points.append((each, value))
            if points:
                style = "-" if size == _SIZE else "--"
                label = f"{name}, {size} B"
                axes.plot(
                    *zip(*points, strict=True), style, marker="o", color=_COLOURS[name], label=label
                )
    axes.set_xscale("log")
    axes.set_xticks(turns, [str(each) for each in turns])
    axes.minorticks_off()
    axes.set_xlabel("turns of a run")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)


def _throughput(axes: Axes, results: Results) -> None:
    cells = [cell for cell in sorted(results) if cell.turns == 10 and cell.size == _SIZE]
    names = _names(results)
    width = 0.8 / max(1, len(names))
    for number, name in enumerate(names):
        shown = [
            (x, results[cell][name]) for x, cell in enumerate(cells) if results[cell].get(name)
        ]
        places = [x + number * width for x, _ in shown]
        heights = [median(of, "runs_per_second") for _, of in shown]
        bars = axes.bar(places, heights, width, color=_COLOURS[name], label=name)
        axes.bar_label(bars, fmt="%.0f", fontsize=7)
    labels = [
        f"{cell.concurrency} at once"
        + (f"\nin {cell.processes} processes" if cell.processes > 1 else "")
        for cell in cells
    ]
    axes.set_xticks([x + 0.4 - width / 2 for x in range(len(cells))], labels)
    axes.set(title=f"Throughput, runs of 10 turns, {_SIZE} B", ylabel="runs a second")
    axes.legend(fontsize=7)


def _counts(axes: Axes, counts: Counts) -> None:
    axes.set(title="Asked of the server", ylabel="a turn")
    if not counts:
        return
    turns = 10 if 10 in counts else max(counts)
    names = list(counts[turns])
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        talked = counts[turns][name]
        places = [x + number * width for x in range(2)]
        heights = [talked.round_trips, talked.transactions]
        bars = axes.bar(places, heights, width, color=_COLOURS[name], label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    axes.set_xticks([0.4 - width / 2, 1.4 - width / 2], ["round trips", "transactions"])
    axes.set_title(f"Asked of the server, runs of {turns} turns")
    axes.legend(fontsize=7)
