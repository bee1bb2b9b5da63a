"""What it takes to go on after a crash: one long run, and many short ones.

    python -m tests.benchmarks.recovery

Processes are killed with SIGKILL while a tool is called, and started again, on an embedded
PostgreSQL in a folder of the benchmark's own. The time is from the start of the new process to
the first effect that no earlier process had: the tool's, which is called again. A bare process
imports the application and launches DBOS; the host is `timestep serve`, also under `dbos start`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import psycopg

from timestep.database import engines, migrations
from timestep.database.servers import embedded_postgres

APPLICATION = Path(__file__).with_name("interrupted.py")
WORKER = """\
import time

began = time.monotonic()
from dbos import DBOS

from workflows import interrupted

interrupted.mark("imported")
import os

count = int(os.environ.get("START", "0"))
DBOS(config={"name": "timestep", "system_database_url": os.environ["TIMESTEP_DB_URL"],
             "log_level": "ERROR"})
DBOS.launch()
interrupted.mark("launched")
for _ in range(count):
    DBOS.start_workflow(interrupted.interrupted, int(os.environ["TURNS"]))
while True:
    time.sleep(60)
"""
WAYS: dict[str, list[str]] = {
    "bare": [sys.executable, "worker.py"],
    "timestep serve": [sys.executable, "-m", "timestep", "serve"],
    "dbos start": [str(Path(sys.executable).with_name("dbos")), "start"],
}
MARKS = ("start", "imported", "launched", "workflow", "begin", "begun", "effect")
PHASES = {
    "imports": ("start", "imported"),
    "launch": ("imported", "launched"),
    "until the workflow's body": ("launched", "workflow"),
    "until the run begins": ("workflow", "begin"),
    "the record is read": ("begin", "begun"),
    "replay": ("begun", "effect"),
}
_PATIENCE = 600.0
"""Seconds."""


class Folder:
    """An application, its database, and the process that executes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "workflows").mkdir()
        (path / "workflows" / "__init__.py").touch()
        shutil.copy(APPLICATION, path / "workflows" / "interrupted.py")
        (path / "worker.py").write_text(WORKER)
        (path / "dbos-config.yaml").write_text(
            "name: timestep\nlanguage: python\nruntimeConfig:\n  start:\n"
            f"    - {sys.executable} -m timestep serve\n"
        )
        url = embedded_postgres.start(path / ".timestep")
        migrations.apply(engines.engine_for(url))
        self.url = url.set(drivername="postgresql").render_as_string(hide_password=False)

    def start(self, way: str, **settings: object) -> tuple[subprocess.Popen[bytes], float]:
        """A process of the application, and the moment that it was started."""
        for name in ("effects", "marks", "statements"):
            (self.path / name).unlink(missing_ok=True)
        environment = {
            **os.environ,
            "TIMESTEP_DB_URL": self.url,
            "TIMESTEP_PORT": "0",
            "DBOS__APPVERSION": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **{name: str(value) for name, value in settings.items()},
        }
        environment.pop("OPENAI_API_KEY", None)
        began = time.monotonic()
        process = subprocess.Popen(
            WAYS[way],
            cwd=self.path,
            env=environment,
            stdout=(self.path / "log").open("w"),
            stderr=subprocess.STDOUT,
        )
        return process, began

    def lines(self, name: str) -> list[list[Any]]:
        path = self.path / name
        # The last line may be half written.
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def query(self, text: str) -> int:
        with psycopg.connect(self.url) as connection:
            ((found,),) = connection.execute(text.encode()).fetchall()
        return int(found)

    def forget_workflows(self) -> None:
        """Leave nothing to be recovered to the next process."""
        self.query("WITH gone AS (DELETE FROM dbos.workflow_status RETURNING 1) SELECT 1")

    def until(
        self, condition: Callable[[], bool], process: subprocess.Popen[bytes], pause: float
    ) -> None:
        """Wait for a condition.

        Raises:
            RuntimeError: The process failed, or took too long; it is killed.
        """
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            said = (self.path / "log").read_text()
            if process.poll() is not None or "Traceback" in said or time.monotonic() > deadline:
                kill(process)
                raise RuntimeError(said)
            time.sleep(pause)


@contextmanager
def folder() -> Iterator[Folder]:
    path = Path(tempfile.mkdtemp(prefix="timestep-recovery-"))
    # PostgreSQL, run by root, is another user.
    path.chmod(0o755)
    try:
        yield Folder(path)
    finally:
        embedded_postgres.stop(path / ".timestep")
        shutil.rmtree(path)


def kill(process: subprocess.Popen[bytes]) -> float:
    """Kill a process and those that it started; the seconds of CPU that it had used."""
    used = 0.0
    if process.poll() is None:
        parent = psutil.Process(process.pid)
        for one in [*parent.children(recursive=True), parent]:
            times = one.cpu_times()
            used += times.user + times.system
            one.kill()
    process.wait()
    return used


def interrupt(place: Folder, runs: int, turns: int, at: int) -> None:
    """Start runs in a bare process, and kill it when all of them call the tool of turn `at`."""
    place.forget_workflows() if place.query(_HAS_DBOS) else None
    process, _ = place.start("bare", START=runs, TURNS=turns, HOLD_AT=at)

    def arrived() -> bool:
        effects = place.path / "effects"
        text = effects.read_text() if effects.exists() else ""
        return text.count(f'"tool", {at}, ') == runs

    place.until(arrived, process, 0.1)
    kill(process)


_HAS_DBOS = "SELECT count(*) FROM pg_tables WHERE schemaname = 'dbos'"


def recover_one(place: Folder, way: str, turns: int, at: int) -> dict[str, Any]:
    """Kill a run in turn `at`, and time its recovery."""
    interrupt(place, 1, turns, at)
    process, began = place.start(way)
    place.until(lambda: any(m[0] == "effect" for m in place.lines("marks")), process, 0.005)
    marks = {name: (wall, cpu) for name, wall, cpu in place.lines("marks")}
    kill(process)
    assert [effect[1:3] for effect in place.lines("effects")][:1] == [["tool", at]]
    known = {"start": (began, 0.0), **marks}
    return {name: known[name] for name in MARKS if name in known}


def count_statements(place: Folder, turns: int, at: int) -> Counter[str]:
    """What is asked of the database from the workflow's body to the first new effect."""
    interrupt(place, 1, turns, at)
    process, _ = place.start("bare", COUNT=1)
    place.until((place.path / "statements").exists, process, 0.05)
    kill(process)
    return Counter(json.loads((place.path / "statements").read_text()))


def recover_many(place: Folder, runs: int, turns: int, at: int) -> dict[str, Any]:
    """Kill many runs, all in turn `at`, and let one process end them."""
    interrupt(place, runs, turns, at)
    first = _effects(place)
    process, began = place.start("bare")
    ended = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS'"
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    most = 0

    def all_ended() -> bool:
        nonlocal most
        most = max(most, place.query(sessions) - 1)
        return place.query(ended) == runs

    place.until(all_ended, process, 0.5)
    seconds = time.monotonic() - began
    memory = psutil.Process(process.pid).memory_info().rss
    cpu = kill(process)
    both = first + _effects(place)
    wanted = {("model", turn) for turn in range(1, turns + 1)}
    wanted |= {("tool", turn) for turn in range(1, turns)}
    doubled = Counter(effect[1:] for effect, times in both.items() if times != 1)
    assert doubled == {("tool", at): runs}, doubled
    assert Counter(effect[1:] for effect in both) == dict.fromkeys(wanted, runs)
    return {
        "runs": runs,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "memory_mib": round(memory / 2**20),
        "sessions": most,
        "effects_in_flight_repeated": runs,
        "other_effects_repeated": 0,
    }


def _effects(place: Folder) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(line[:3]) for line in place.lines("effects"))


def report(way: str, found: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Print a table of medians, wall and CPU, of each phase; the medians in all."""
    print(f"{way}: {len(found)} recoveries, medians")  # noqa: T201  # what it is for
    names = [name for name in MARKS if name in found[0]]
    labels = {ends: label for label, ends in PHASES.items()}
    for ends in pairwise(names):
        label = labels.get(ends, f"{ends[0]} to {ends[1]}")
        wall, cpu = (_median(one[ends[1]][k] - one[ends[0]][k] for one in found) for k in (0, 1))
        print(f"  {label:28} {wall * 1000:7.0f} ms   cpu {cpu * 1000:6.0f} ms")  # noqa: T201
    wall = _median(one["effect"][0] - one["start"][0] for one in found)
    cpu = _median(one["effect"][1] for one in found)
    print(f"  {'to the first new effect':28} {wall * 1000:7.0f} ms   cpu {cpu * 1000:6.0f} ms")  # noqa: T201
    return {"seconds": round(wall, 3), "cpu_seconds": round(cpu, 3)}


def _median(values: Iterator[float]) -> float:
    return statistics.median(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="short runs; 0: none")
    parser.add_argument("--times", type=int, default=5, help="recoveries of the long run")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=list(WAYS))
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}")  # noqa: T201  # what it is for
    with folder() as place:
        for way in options.ways:
            # The first one compiles, and fills caches of the system's.
            found = [recover_one(place, way, 200, 150) for _ in range(options.times + 1)][1:]
            report(way, found)
        for at in (20, 150):
            counts = dict(count_statements(place, 200, at))
            print(f"statements of a recovery in turn {at}: {counts}")  # noqa: T201  # what it is for
        if options.runs:
            print(json.dumps(recover_many(place, options.runs, 5, 3), indent=2))  # noqa: T201
    print(f"load {os.getloadavg()[0]:.1f}")  # noqa: T201  # what it is for


if __name__ == "__main__":
    main()
