"""Fills an embedded PostgreSQL with a large database, once a folder."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import sqlalchemy as sa
from dbos import DBOS

from tests.benchmarks import big_rows
from timestep.database import engines, migrations
from timestep.database.servers import embedded_postgres

_log = logging.getLogger("big_data")

_SEED = 20

_LOADING = {
    "shared_buffers": "1GB",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "maintenance_work_mem": "1GB",
    "work_mem": "256MB",
}
"""While a folder is filled that is thrown away when that fails."""

_SERVING = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
"""What somebody with a database of this size sets; all else is PostgreSQL's default."""

_FOREIGN_KEYS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE contype = 'f' AND (conrelid = ANY(%(tables)s::regclass[])
        OR confrelid = ANY(%(tables)s::regclass[]))"""

_INDEXES = """
    SELECT i.indrelid::regclass::text, i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid),
        c.conname, c.contype::text
    FROM pg_index i LEFT JOIN pg_constraint c
        ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u')
    WHERE i.indrelid = ANY(%(tables)s::regclass[])
    ORDER BY pg_relation_size(i.indrelid) DESC, i.indexrelid"""


def made(home: Path, runs: int) -> sa.URL:
    """The URL of the database in `home`, which is filled first where it is not yet."""
    done = home / "filled.json"
    if not done.exists():
        began = time.monotonic()
        url = _configured(home, _LOADING)
        migrations.apply(engines.engine_for(url))
        DBOS.migrate(url.render_as_string(hide_password=False))
        counts = _fill(libpq(url), runs)
        url = _configured(home, _SERVING)
        with psycopg.connect(libpq(url), autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        done.write_text(json.dumps({"runs": runs, "seconds": time.monotonic() - began, **counts}))
    url = embedded_postgres.start(home)
    migrations.apply(engines.engine_for(url))
    return url


def libpq(url: sa.URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _configured(home: Path, settings: dict[str, str]) -> sa.URL:
    with psycopg.connect(libpq(embedded_postgres.start(home)), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM RESET ALL")
        for name, value in settings.items():
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
    engines.dispose_all()
    embedded_postgres.stop(home)
    return embedded_postgres.start(home)


def _fill(url: str, runs: int) -> dict[str, int]:
    tables = [f"public.{name}" for name in big_rows.TABLES] + ["dbos.workflow_status"]
    with psycopg.connect(url, autocommit=True) as connection:
        (now,) = connection.execute("SELECT now()::text").fetchone() or ("",)
        foreign = connection.execute(_FOREIGN_KEYS, {"tables": tables}).fetchall()
        indexes = connection.execute(_INDEXES, {"tables": tables}).fetchall()
        for table, name, _ in foreign:
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
        for table, index, _, constraint, _ in indexes:
            what = f"ALTER TABLE {table} DROP CONSTRAINT {constraint}" if constraint else None
            connection.execute((what or f"DROP INDEX {index}").encode())
        for statement in big_rows.plans(runs, _SEED, now):
            _run(connection, statement)
    fillers = big_rows.fillers(_SEED)
    _work(url, [fillers.pop("run_items")], fillers.values())
    _work(url, [definition for _, _, definition, _, _ in indexes])
    with psycopg.connect(url, autocommit=True) as connection:
        for table, index, _, constraint, kind in indexes:
            if constraint:
                key = "PRIMARY KEY" if kind == "p" else "UNIQUE"
                name = index.split(".")[-1]
                _run(
                    connection,
                    f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {key} USING INDEX {name}",
                )
        for table, name, definition in foreign:
            # The rows fit: looking at each of them would take longer than making them.
            _run(connection, f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID")
        connection.execute("UPDATE pg_constraint SET convalidated = true WHERE NOT convalidated")
        connection.execute("DROP SCHEMA drawn CASCADE")
        _run(connection, "VACUUM (ANALYZE)")
        return {
            name: connection.execute(f"SELECT count(*) FROM {name}".encode()).fetchone()[0]  # type: ignore[index]
            for name in tables
        }


def _work(url: str, *lines: Iterable[str]) -> None:
    """Run statements with two connections, each line of them in its order."""
    waiting = [iter(line) for line in lines] if len(lines) > 1 else [iter([*lines[0]])] * 2

    def work(line: Iterable[str]) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            for statement in line:
                _run(connection, statement)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(work, line) for line in waiting]:
            done.result()


def _run(connection: psycopg.Connection, statement: str) -> None:
    began = time.monotonic()
    connection.execute(statement.encode())
    _log.info("%6.1f s  %s", time.monotonic() - began, " ".join(statement.split())[:90])
