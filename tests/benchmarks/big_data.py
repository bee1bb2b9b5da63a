"""How long people's questions take on a database of a million runs and 20 million items.

    python -m tests.benchmarks.big_data --home FOLDER [--runs 1000000] [--plans plans.txt]

Fills an embedded PostgreSQL in the folder, once: about 12 minutes and 25 GB. Then asks what
the schema's examples, the HTTP API, the command line and a host's start ask, with a warm cache,
and prints the median milliseconds of each: in the database, and altogether. The plans, as
EXPLAIN (ANALYZE, BUFFERS) tells them, go to a file.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.benchmarks import big_load, big_questions
from tests.benchmarks.big_questions import Question
from timestep.database import engines

BAR = 50.0
"""Milliseconds in the database that a question may take at the median."""


@dataclass
class Asked:
    """The statements of one question, and how long each took."""

    statements: list[tuple[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


@contextmanager
def heard(engine: sa.Engine) -> Iterator[Asked]:
    """What is asked of the database meanwhile."""
    asked = Asked()

    def before(*given: Any) -> None:
        asked.statements.append((given[2], given[3]))
        given[4].began = time.perf_counter()

    def after(*given: Any) -> None:
        asked.seconds += time.perf_counter() - given[4].began

    sa.event.listen(engine, "before_cursor_execute", before)
    sa.event.listen(engine, "after_cursor_execute", after)
    try:
        yield asked
    finally:
        sa.event.remove(engine, "before_cursor_execute", before)
        sa.event.remove(engine, "after_cursor_execute", after)


def timed(engine: sa.Engine, question: Question, times: int) -> tuple[float, float, Asked]:
    """Median milliseconds in the database and altogether, and what was asked the last time."""
    inside, whole = [], []
    for attempt in range(times + 2):
        began = time.perf_counter()
        with heard(engine) as asked:
            question.ask()
        if attempt >= 2:
            whole.append((time.perf_counter() - began) * 1000)
            inside.append(asked.seconds * 1000)
    return statistics.median(inside), statistics.median(whole), asked


def plans(engine: sa.Engine, asked: Asked) -> Iterator[str]:
    """The plan of each statement. What changes rows is undone."""
    for sql, parameters in asked.statements:
        with engine.connect() as connection:
            connection = connection.execution_options(isolation_level="READ COMMITTED")
            try:
                found = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {sql}", parameters)
                lines = list(found.scalars())
            finally:
                connection.rollback()
        yield "\n".join([" ".join(sql.split()), f"-- {parameters}", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--plans", type=Path, default=Path("plans.txt"))
    parser.add_argument("--results", type=Path, help="A JSON file.")
    parser.add_argument("--only", default="", help="Questions whose names contain this.")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger("big_data").setLevel(logging.INFO)
    url = big_load.made(options.home, options.runs)
    os.environ["TIMESTEP_DB_URL"] = big_load.libpq(url)
    engine = engines.engine_for(engines.database_url())
    results: dict[str, dict[str, float]] = {}
    with options.plans.open("w") as file:
        for question in big_questions.questions(engine):
            if options.only not in question.name:
                continue
            inside, whole, asked = timed(engine, question, options.times)
            results[question.name] = {"database_ms": round(inside, 2), "ms": round(whole, 2)}
            mark = "" if inside < BAR else "   over the bar"
            print(f"{inside:9.2f} {whole:9.2f}  {question.name}{mark}", flush=True)  # noqa: T201
            for plan in plans(engine, asked):
                file.write(f"== {question.name}: {inside:.2f} ms\n{plan}\n\n")
    if options.results:
        options.results.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
