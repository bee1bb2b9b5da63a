"""Where the time of a turn goes, in one contender's process.

    python -m tests.benchmarks.profile --contender timestep --turns 10

Two looks at the same runs, one after the other: py-spy samples the thread that holds the
interpreter's lock (own time, by package and by function; a thread that waits counts nowhere), and
cProfile counts what the thread with the event loop calls. py-spy needs the right to trace another
process: root's, or `sysctl kernel.yama.ptrace_scope=0`. `--folded FILE` keeps its stacks, for a
flame graph.
"""

from __future__ import annotations

import argparse
import pstats
import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import psutil

from tests.benchmarks import server, workers
from tests.benchmarks.contenders import Done, Task

_RATE = 500
"""Samples a second."""
_ROOT = Path(__file__).parents[2]
_INSTALLED = re.compile(r".*/(site-packages|lib/python3[^/]*)/")
_FRAME = re.compile(r"(?P<name>.+) \((?P<file>[^()]+?)(:\d+)?\)$")
_PACKAGES = {
    "timestep": r"timestep/",
    "SDK": r"(agents|openai)/",
    "DBOS": r"(dbos|dbos_openai_agents)/",
    "SQLAlchemy": r"sqlalchemy/",
    "psycopg": r"psycopg(_binary|_pool)?/",
    "pydantic": r"pydantic(_core)?/",
    "event loop, thread hops": r"asyncio/|concurrent/futures|threading\.py|selectors\.py|queue\.py",
    "json, pickle, copy, uuid": r"json/|pickle\.py|copy\.py|base64\.py|uuid\.py|jsonpickle/",
    "benchmark": r"tests/benchmarks/",
}
_OWNERS = ("timestep", "DBOS", "SDK", "benchmark")
"""Whose doing it is what the other packages do."""
_NOBODY = "nobody"
_COUNTED = {
    "event loop: passes": ("_run_once", "asyncio/base_events.py"),
    "event loop: tasks": ("create_task", "asyncio/base_events.py"),
    "threads: handed over": ("run_in_executor", "asyncio/base_events.py"),
    "deepcopy": ("deepcopy", "copy.py"),
    "JSON: written": ("dumps", "json/__init__.py"),
    "JSON: read": ("loads", "json/__init__.py"),
}


class Samples:
    """Stacks that were seen, and how often."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.total = 0
        self.own = Counter[str]()
        self.packages = Counter[str]()
        self.owners = Counter[tuple[str, str]]()
        self.inside = Counter[str]()
        """By the innermost function of Timestep."""
        self.threads = dict[str, float]()
        """Seconds of CPU, as the system counts them."""
        for line in lines:
            stack, _, count = line.rpartition(" ")
            frames = [_frame(text) for text in stack.split(";") if _FRAME.match(text)]
            if frames:
                self._add(frames, int(count))

    def _add(self, frames: list[tuple[str, str]], count: int) -> None:
        packages = [_package(file) for _, file in frames]
        self.total += count
        self.own["{} ({})".format(*frames[-1])] += count
        self.packages[packages[-1]] += count
        owner = next((name for name in reversed(packages) if name in _OWNERS), _NOBODY)
        self.owners[owner, packages[-1]] += count
        if "timestep" in packages:
            innermost = len(packages) - 1 - packages[::-1].index("timestep")
            self.inside["{} ({})".format(*frames[innermost])] += count


def _frame(text: str) -> tuple[str, str]:
    """The function, and its file from its package on."""
    match = _FRAME.match(text)
    assert match is not None
    file = _INSTALLED.sub("", match["file"].removeprefix(f"{_ROOT}/"))
    return match["name"], file


def _package(file: str) -> str:
    return next((name for name, pattern in _PACKAGES.items() if re.match(pattern, file)), "other")


def sampled(worker: workers.Worker, task: Task, folded: Path) -> tuple[Done, Samples]:
    """Perform a task while py-spy looks on."""
    command = ["py-spy", "record", f"--pid={worker.pid}", "--format=raw", f"--output={folded}"]
    spy = subprocess.Popen(
        [*command, f"--rate={_RATE}", "--gil", "--function", "--full-filenames"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    time.sleep(1)
    before = _by_thread(worker.pid)
    done = worker.perform(task)
    after = _by_thread(worker.pid)
    spy.send_signal(signal.SIGINT)
    said, _ = spy.communicate()
    if not folded.exists():
        raise RuntimeError(f"py-spy wrote nothing: {said}")
    samples = Samples(folded.read_text().splitlines())
    samples.threads = {id_: after[id_] - before.get(id_, 0) for id_ in after}
    return done, samples


def _by_thread(pid: int) -> dict[str, float]:
    """Seconds of CPU; the first thread is the one with the event loop."""
    return {
        "with the event loop" if thread.id == pid else f"thread {thread.id}": (
            thread.user_time + thread.system_time
        )
        for thread in psutil.Process(pid).threads()
    }


def report(samples: Samples, done: Done, task: Task, top: int) -> Iterable[str]:
    turns = task.runs * task.turns
    ms = done.cpu / turns * 1000
    yield f"{ms:.2f} ms of CPU a turn ({done.wall / turns * 1000:.2f} ms by the clock, traced)"

    def table(title: str, counts: Counter[str], most: int | None = None) -> Iterable[str]:
        yield f"\n{title}"
        for name, count in counts.most_common(most):
            share = count / samples.total
            yield f"  {share:6.1%}  {share * ms:7.3f} ms  {name}"

    yield "\nBy thread (as the system counts it)"
    for name, seconds in sorted(samples.threads.items(), key=lambda item: -item[1])[:6]:
        yield f"  {seconds / done.cpu:6.1%}  {seconds / turns * 1000:7.3f} ms  {name}"
    yield from table("By the package that the time is spent in", samples.packages)
    whose = Counter[str]()
    for (owner, _), count in samples.owners.items():
        whose[owner] += count
    yield from table("By the nearest caller that is one of these", whose)
    detail = Counter({f"{a}: in {b}": count for (a, b), count in samples.owners.items()})
    yield from table("The same, by what it spends it in", detail, 20)
    yield from table("By function, its own time", samples.own, top)
    yield from table(
        "By the innermost function of Timestep, all that it calls", samples.inside, top
    )


def calls(file: Path, turns: int, top: int) -> Iterable[str]:
    """What a profile of the event loop's thread says."""
    stats = pstats.Stats(str(file)).stats  # type: ignore[attr-defined]  # not in its stub
    named = {
        (name, _frame(f"{name} ({path})")[1] if path != "~" else ""): value
        for (path, _, name), value in stats.items()
    }
    yield "\nCalls a turn in the thread with the event loop"
    for title, key in _COUNTED.items():
        yield f"  {named.get(key, (0, 0))[1] / turns:8.2f}  {title}"
    yield "\nBy function in that thread, by cProfile: calls a turn, own ms, ms with what it calls"
    by_own = sorted(named.items(), key=lambda item: -item[1][2])
    for (name, file_), (_, count, own, whole, _) in by_own[:top]:
        figures = f"{count / turns:8.2f}  {own / turns * 1000:7.3f}  {whole / turns * 1000:7.3f}"
        yield f"  {figures}  {name} ({file_})" if file_ else f"  {figures}  {name}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--contender", default="timestep")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--top", type=int, default=30)
    parser.add_argument("--folded", type=Path)
    options = parser.parse_args()
    task = Task(options.runs, options.turns, options.size, options.concurrency)
    turns = task.runs * task.turns
    with server.running() as postgres, tempfile.TemporaryDirectory() as scratch:
        worker = workers.started(options.contender, postgres.create(options.contender))
        worker.wait_until_ready()
        done, samples = sampled(worker, task, options.folded or Path(scratch, "folded"))
        profile = Path(scratch, "profile")
        worker.perform(Task(task.runs, task.turns, task.size, task.concurrency, str(profile)))
        worker.stop()
        lines = [*report(samples, done, task, options.top), *calls(profile, turns, options.top)]
    print(f"{options.contender}, {task.runs} runs of {task.turns} turns, {task.size} B")  # noqa: T201
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
