"""Rounds: each contender runs the same tasks in turn, in an order of its own each time."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from tests.benchmarks import proxy, temporal, workers
from tests.benchmarks.contenders import Task
from tests.benchmarks.server import Server, cpu_of
from tests.benchmarks.workers import TaskFailedError, Worker

SEQUENTIAL_TURNS = 60
"""Runs that are alone are short ones in greater number, about so many turns in all."""
HEAVY = 1500
"""Turns at once; what has more is measured in one round."""
TOO_HEAVY_FOR_TEMPORAL = 1000
TEMPORAL_ROUNDS = 2
_SETTLED = 1.0
"""Seconds, to see what a process asks of its server when it has nothing to do."""


@dataclass(frozen=True, order=True)
class Cell:
    """A place in the matrix."""

    turns: int
    size: int
    """Bytes that a tool puts out."""
    concurrency: int
    processes: int = 1

    @property
    def task(self) -> Task:
        """What each of its processes does."""
        at_once = self.concurrency // self.processes
        runs = max(1, SEQUENTIAL_TURNS // self.turns) if self.concurrency == 1 else at_once
        return Task(runs, self.turns, self.size, at_once)

    @property
    def total(self) -> int:
        """Turns in all."""
        return self.task.runs * self.turns * self.processes


@dataclass(frozen=True)
class Measured:
    """What one contender took in one round of a cell; each of a turn, where it says no other."""

    ms: float
    run_ms: float
    """A run's median."""
    runs_per_second: float
    cpu_ms: float
    """Of the contender's processes."""
    server_cpu_ms: float
    wal_bytes: float
    writes: float
    """Transactions that changed something."""
    peak_mib: float
    """The most that one of its processes had resident."""


@dataclass(frozen=True)
class Talked:
    """What a contender asked of the server, a turn."""

    round_trips: float
    transactions: float


Results = dict[Cell, dict[str, list[Measured]]]
Counts = dict[int, dict[str, Talked]]
"""By turns of a run, and by contender."""


@dataclass(frozen=True)
class Contender:
    """Its processes, all of them warm."""

    name: str
    workers: Sequence[Worker]
    engine: psutil.Process | None = None
    """The server of its own."""

    def takes(self, cell: Cell, number: int) -> bool:
        """Whether it is measured in a round of a cell."""
        if cell.total > HEAVY and number > 0:
            return False
        if self.name == temporal.NAME and (
            number >= TEMPORAL_ROUNDS or cell.total > TOO_HEAVY_FOR_TEMPORAL
        ):
            return False
        return cell.processes <= len(self.workers)


def measure(server: Server, contender: Contender, cell: Cell) -> Measured:
    """Let a contender perform a cell's task."""
    task, engine = cell.task, contender.engine
    working = contender.workers[: cell.processes]
    before = server.counted()
    engine_before = cpu_of(engine) if engine else 0.0
    began = time.perf_counter()
    for worker in working:
        worker.begin(task)
    done = [worker.end() for worker in working]
    wall = time.perf_counter() - began if len(working) > 1 else done[0].wall
    after = server.counted()
    server_cpu = cpu_of(engine) - engine_before if engine else after.cpu - before.cpu
    return Measured(
        ms=wall / cell.total * 1000,
        run_ms=statistics.median(s for each in done for s in each.seconds) * 1000,
        runs_per_second=task.runs * len(working) / wall,
        cpu_ms=sum(each.cpu for each in done) / cell.total * 1000,
        server_cpu_ms=server_cpu / cell.total * 1000,
        wal_bytes=(after.wal - before.wal) / cell.total,
        writes=(after.writes - before.writes) / cell.total,
        peak_mib=max(each.peak for each in done) / 2**20,
    )


def rounds(
    server: Server,
    entered: Sequence[Contender],
    cells: Sequence[Cell],
    repeats: int,
    seed: int,
    say: Callable[[str], None],
) -> Results:
    """Measure all cells, so many times."""
    chance = random.Random(seed)
    found: Results = {cell: {each.name: [] for each in entered} for cell in cells}
    began = time.monotonic()
    for number in range(repeats):
        for place, cell in enumerate(chance.sample(cells, len(cells)), 1):
            for contender in chance.sample(entered, len(entered)):
                if not contender.takes(cell, number):
                    continue
                try:
                    found[cell][contender.name].append(measure(server, contender, cell))
                except TaskFailedError as error:
                    say(f"{contender.name} failed at {cell}: {error}")
            after = time.monotonic() - began
            say(f"round {number + 1} of {repeats}, {place} of {len(cells)}, after {after:.0f} s")
    return found


def counts(server: Server, names: Sequence[str], turns: Sequence[int]) -> Counts:
    """What a turn asks of the server, in runs of so many turns, one after the other.

    What a process asks when it has nothing to do is taken off.
    """
    found: Counts = {each: {} for each in turns}
    with proxy.running(server.socket) as counter:
        for name in names:
            url = server.behind(server.url_of(name), counter.directory)
            worker = workers.started(name, url, executor="counted")
            worker.wait_until_ready()
            traffic = counter.traffic
            before, transactions = traffic.round_trips, traffic.transactions
            time.sleep(_SETTLED)
            idle = (traffic.round_trips - before) / _SETTLED
            idle_transactions = (traffic.transactions - transactions) / _SETTLED
            for each in turns:
                task = Cell(each, 200, 1).task
                before, transactions = traffic.round_trips, traffic.transactions
                wall = worker.perform(task).wall
                total = task.runs * each
                found[each][name] = Talked(
                    (traffic.round_trips - before - idle * wall) / total,
                    (traffic.transactions - transactions - idle_transactions * wall) / total,
                )
            worker.stop()
    return found


def enter(stack: ExitStack, server: Server, name: str, processes: int) -> Contender:
    """Start a contender that is of this environment; it is stopped with the stack."""
    url = server.create(name)
    started = [
        workers.started(name, url, executor=str(number))
        for number in range(1 if name == "plain" else processes)
    ]
    for worker in started:
        stack.callback(worker.stop)
    return Contender(name, started)
