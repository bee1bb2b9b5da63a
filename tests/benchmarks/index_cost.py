"""What each index costs a turn: bytes of WAL, and the server's CPU with and without it.

    python -m tests.benchmarks.index_cost [--without INDEX]... [--runs 100] [--turns 10]

Runs an agent with one tool call of 200 bytes a turn on an embedded PostgreSQL of its own, and
reads from the WAL what was written for which table and index (with the extension pg_walinspect).
Bytes are those of a server whose checkpoint is long ago: without full page images, whose number
depends on how often it makes one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import psutil
import psycopg
from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from tests.benchmarks.big_load import libpq
from timestep.database import engines, migrations
from timestep.database.servers import embedded_postgres

# No record is of two relations; one of two blocks is counted once.
_BY_RELATION = """
    SELECT coalesce(n.nspname || '.' || c.relname, '(none)') AS relation,
        sum(r.record_length - r.fpi_length) AS bytes, count(*) AS records
    FROM pg_get_wal_records_info(%(start)s, %(end)s) r
    LEFT JOIN LATERAL (SELECT (regexp_match(r.block_ref, 'rel \\d+/\\d+/(\\d+)'))[1]::oid AS node) b
        ON true
    LEFT JOIN pg_class c ON pg_relation_filenode(c.oid) = b.node
    LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
    GROUP BY 1 ORDER BY 2 DESC"""

_MERGE = """
    SELECT gin_clean_pending_list(c.oid::regclass) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
    WHERE a.amname = 'gin' AND c.relnamespace = 'public'::regnamespace"""

_UPDATES = """
    SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables
    WHERE n_tup_upd > 0 ORDER BY n_tup_upd DESC"""

_words = random.Random(1)


@function_tool
def look_up(n: int) -> str:
    """Finds 200 bytes."""
    text = " ".join(f"w{int(6000 * _words.random() ** 3)}" for _ in range(60))
    return text[:200]


@DBOS.workflow()
async def talk(turns: int) -> str:
    calls = [[function_call("look_up", {"n": n}, call_id=f"call_{n}")] for n in range(turns - 1)]
    agent = Agent(
        "Finder", model=ScriptedModel([*calls, [assistant_message("done")]]), tools=[look_up]
    )
    return str((await Runner.run(agent, "find it", max_turns=turns + 1)).final_output)


async def _talk(runs: int, turns: int, at_once: int) -> None:
    free = asyncio.Semaphore(at_once)

    async def one() -> None:
        async with free:
            await talk(turns)

    await asyncio.gather(*(one() for _ in range(runs)))


def measured(home: Path, options: argparse.Namespace) -> dict[str, Any]:
    url = embedded_postgres.start(home)
    text = libpq(url)
    os.environ["TIMESTEP_DB_URL"] = text
    migrations.apply(engines.engine_for(url))
    set_tracing_disabled(True)
    timestep.install()
    DBOS(config={"name": "index-cost", "system_database_url": text, "log_level": "ERROR"})
    DBOS.launch()
    try:
        with psycopg.connect(text, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
            for index in options.without:
                connection.execute(f"DROP INDEX {index}".encode())
            for statement in options.sql:
                connection.execute(statement.encode())
            asyncio.run(_talk(max(3, options.runs // 10), options.turns, options.at_once))
            connection.execute("CHECKPOINT")
            start, cpu = _place(connection), _server_cpu(home)
            asyncio.run(_talk(options.runs, options.turns, options.at_once))
            # What waits in a GIN index's list is written once more when it is merged.
            connection.execute(_MERGE.encode())
            connection.execute(
                "SELECT pg_logical_emit_message(true, 'index_cost', 'all is written')"
            )
            cpu = _server_cpu(home) - cpu
            place = {"start": start, "end": _place(connection)}
            count = options.runs * options.turns
            found = connection.execute(_BY_RELATION.encode(), place).fetchall()
            return {
                "turns": count,
                "wal_bytes_a_turn": round(sum(int(row[1]) for row in found) / count),
                "server_cpu_ms_a_turn": round(cpu * 1000 / count, 3),
                "bytes_a_turn": {row[0]: round(int(row[1]) / count) for row in found},
                "updates": {
                    name: f"{hot} of {all_} hot"
                    for name, all_, hot in connection.execute(_UPDATES).fetchall()
                },
            }
    finally:
        DBOS.destroy()
        embedded_postgres.stop(home)


def _place(connection: psycopg.Connection) -> str:
    row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    return str(row[0])


def _server_cpu(home: Path) -> float:
    """Seconds of CPU of the server's processes."""
    data = home / "postgres"
    if (pointer := home / "postgres.location").exists():
        data = Path(pointer.read_text().strip())
    server = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
    times = [process.cpu_times() for process in [server, *server.children()]]
    return sum(one.user + one.system + one.children_user + one.children_system for one in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without", action="append", default=[], metavar="INDEX")
    parser.add_argument("--sql", action="append", default=[], help="Run before the measurement.")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="timestep-") as name:
        Path(name).chmod(0o755)
        print(json.dumps(measured(Path(name), options), indent=1))  # noqa: T201  # what it is for


if __name__ == "__main__":
    main()
