"""How long an answer of `GET /metrics` takes on a database of a million runs.

    python -m tests.benchmarks.big_metrics --home FOLDER [--runs 1000000]

Fills the folder as `big_data` does, once. Prints median milliseconds with nothing new, and with so
many runs that ended since the answer before.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import psycopg

from tests.benchmarks import big_load
from timestep.operations.queries.metrics import read_metrics

# As the triggers write them, which did not see the rows made.
_CHANGES = (
    "SET session_replication_role = replica",
    """INSERT INTO timestep.run_changes (run_id, change, turn, created_at)
        SELECT id, 'run.started', 0, started_at FROM runs ORDER BY started_at""",
    """INSERT INTO timestep.run_changes (run_id, change, turn, cancel_reason, created_at)
        SELECT id, CASE status WHEN 'interrupted' THEN 'run.waiting' ELSE 'run.' || status END,
            current_turn, cancel_reason, updated_at + interval '1 second'
        FROM runs WHERE status <> 'running' ORDER BY updated_at""",
    "VACUUM (ANALYZE) timestep.run_changes",
)
_ALL_IS_COUNTED = """
    UPDATE timestep.metric_cursor SET change = (SELECT last_value FROM timestep.change_sequence),
        entry = (SELECT last_value FROM timestep.event_sequence)"""
_GO_BACK = """
    UPDATE timestep.metric_cursor SET change = change - %(runs)s,
        entry = (SELECT max(sequence) FROM request_usage_entries) - 6 * %(runs)s"""


def milliseconds() -> float:
    began = time.perf_counter()
    read_metrics()
    return (time.perf_counter() - began) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=1_000_000)
    options = parser.parse_args()
    url = big_load.libpq(big_load.made(options.home, options.runs))
    os.environ["TIMESTEP_DB_URL"] = url
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SELECT FROM timestep.run_changes LIMIT 1").fetchone() is None:
            for statement in _CHANGES:
                connection.execute(statement.encode())
            connection.execute(_ALL_IS_COUNTED)
        print(f"{milliseconds():9.1f}  the first")  # noqa: T201
        for runs, times in ((0, 15), (100, 7), (1000, 7), (20_000, 3)):
            found = []
            for _ in range(times):
                if runs:
                    connection.execute(_GO_BACK, {"runs": runs})
                found.append(milliseconds())
            print(f"{statistics.median(found):9.1f}  {runs} runs ended since")  # noqa: T201


if __name__ == "__main__":
    main()
