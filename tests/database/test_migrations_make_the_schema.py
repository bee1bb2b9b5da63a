"""The migrations, applied in every way, and the schema they make."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from tests.support.conditions import until
from timestep.database import engines, migrations, urls
from timestep.database.servers import postgres_programs
from timestep.errors import (
    DatabaseError,
    DatabaseRightsError,
    DatabaseUnreachableError,
    MigrationError,
)
from timestep.store.reads import server
from timestep.store.tables import metadata

TABLES = [
    "agent_guardrails",
    "agent_handoffs",
    "agent_mcp_servers",
    "agent_tools",
    "agents",
    "guardrail_results",
    "guardrails",
    "handoff_configs",
    "interruptions",
    "mcp_servers",
    "model_responses",
    "model_settings",
    "request_usage_entries",
    "run_items",
    "run_states",
    "runs",
    "session_items",
    "sessions",
    "tool_calls",
    "tool_guardrail_results",
    "tool_guardrails",
    "tools",
    "usage_metrics",
]

CATALOGS = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
            pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attcollation
        FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
    """,
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
}


@pytest.fixture
def empty(empty_database_url: str) -> sa.Engine:
    """An engine on an empty database."""
    return engines.engine_for(urls.parse_url(empty_database_url))


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the migrations that a test may change."""
    copy = tmp_path / "migrations"
    shutil.copytree(migrations.directory(), copy)
    monkeypatch.setattr(migrations, "directory", lambda: copy)
    return copy


def _catalog(engine: sa.Engine, name: str) -> set[tuple[object, ...]]:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(CATALOGS[name]).all()
    assert len(rows) == len(set(rows)) > 20
    return {tuple(row) for row in rows}


def _names(engine: sa.Engine, query: str) -> list[str]:
    with engine.connect() as connection:
        return list(connection.exec_driver_sql(query).scalars())


def _schema(engine: sa.Engine) -> list[str]:
    """Everything outside the system's own schemas, and DBOS's."""
    return _names(
        engine,
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace NOT IN (SELECT oid FROM "
        "pg_namespace WHERE nspname ~ '^pg_|^information_schema$|^dbos$') "
        "UNION ALL SELECT nspname FROM pg_namespace WHERE nspname <> 'dbos' ORDER BY 1",
    )


def _log(engine: sa.Engine) -> list[str]:
    return _names(engine, "SELECT name FROM timestep.migrations ORDER BY version")


def test_from_nothing_to_the_newest(empty: sa.Engine) -> None:
    everything = migrations.available()
    assert migrations.pending(empty) == everything

    assert migrations.apply(empty) == everything

    assert migrations.pending(empty) == []
    assert _log(empty) == [migration.name for migration in everything]
    assert (
        _names(empty, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        == TABLES
    )


def test_a_second_time_changes_nothing(empty: sa.Engine) -> None:
    migrations.apply(empty)
    before = _schema(empty), _log(empty)

    assert migrations.apply(empty) == []

    assert (_schema(empty), _log(empty)) == before


def test_two_migrators_at_once(empty: sa.Engine) -> None:
    waiting = sa.text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted "
        "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with ThreadPoolExecutor(2) as threads, empty.connect() as holder:
        holder.execute(sa.select(sa.func.pg_advisory_lock(migrations.LOCK)))
        migrators = [threads.submit(migrations.apply, empty) for _ in range(2)]
        until(lambda: holder.execute(waiting).scalar_one() == 2)
        holder.execute(sa.select(sa.func.pg_advisory_unlock(migrations.LOCK)))
        applied = [migrator.result(timeout=60) for migrator in migrators]

    assert sorted(applied, key=len) == [[], migrations.available()]


def test_the_lock_is_given_back_by_one_that_fails(
    empty: sa.Engine, empty_database_url: str, files: Path
) -> None:
    (files / "900_broken.sql").write_text("BEGIN; CREATE TABLE half (); SELECT 1 / 0; COMMIT;")
    with pytest.raises(DatabaseError, match="division by zero"):
        migrations.apply(empty)

    assert _log(empty) == [migration.name for migration in migrations.available()[:-1]]
    assert "half" not in _schema(empty)
    with psycopg.connect(empty_database_url) as connection:
        lock = connection.execute("SELECT pg_try_advisory_lock(%s)", [migrations.LOCK]).fetchone()
        assert lock == (True,)

    (files / "900_broken.sql").write_text("BEGIN; CREATE TABLE whole (); COMMIT;")
    assert [migration.name for migration in migrations.apply(empty)] == ["900_broken"]
    assert "whole" in _schema(empty)


def test_one_that_is_cut_off_is_repeated_by_the_next(empty: sa.Engine, files: Path) -> None:
    end = "SELECT pg_terminate_backend(pg_backend_pid())"
    (files / "900_cut.sql").write_text(f"BEGIN; CREATE TABLE half (); {end}; COMMIT;")
    with pytest.raises(DatabaseUnreachableError):
        migrations.apply(empty)
    assert "half" not in _schema(empty)

    (files / "900_cut.sql").write_text("BEGIN; CREATE TABLE whole (); COMMIT;")
    assert [migration.name for migration in migrations.apply(empty)] == ["900_cut"]


def test_a_dry_run_changes_nothing(empty: sa.Engine) -> None:
    before = _schema(empty)

    assert migrations.apply(empty, dry_run=True) == migrations.available()

    assert _schema(empty) == before
    assert migrations.pending(empty) == migrations.available()


def test_plain_psql_twice_and_then_migrate(
    empty: sa.Engine, empty_database_url: str, database_url: str
) -> None:
    psql = postgres_programs.directory_for(postgres_programs.account_for(None)) / "psql"
    for path in sorted(migrations.directory().glob("*.sql")) * 2:
        done = subprocess.run(
            [psql, "-v", "ON_ERROR_STOP=1", "-q", empty_database_url, "-f", path],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "ERROR" not in done.stderr

    assert migrations.apply(empty) == migrations.available()

    migrated = engines.engine_for(urls.parse_url(database_url))
    assert _schema(empty) == _schema(migrated)


def test_a_newer_database_is_refused(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO timestep.migrations VALUES (999, '999_future', 'abc')"
        )

    for attempt in (migrations.pending, migrations.apply):
        with pytest.raises(MigrationError, match=r"999 \(999_future\) .* up to \d+ \(\d+_\w+\)"):
            attempt(engine)


def test_a_changed_file_is_refused(engine: sa.Engine, files: Path) -> None:
    file = files / "001_initial_schema.sql"
    recorded = migrations.available()[0].checksum
    file.write_text(file.read_text() + "\n-- changed\n")
    changed = migrations.available()[0].checksum

    with pytest.raises(MigrationError, match=r"001_initial_schema\.sql is not") as caught:
        migrations.apply(engine)

    assert changed[:12] in caught.value.message
    assert recorded[:12] in caught.value.message


def test_a_missing_file_is_refused(engine: sa.Engine, files: Path) -> None:
    (files / "900_more.sql").write_text("SELECT 1")
    migrations.apply(engine)
    (files / "001_initial_schema.sql").unlink()

    with pytest.raises(MigrationError, match=r"001_initial_schema\.sql, which is missing"):
        migrations.apply(engine)


def test_line_endings_do_not_change_a_checksum(files: Path) -> None:
    file = files / "001_initial_schema.sql"
    before = migrations.available()

    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))

    assert migrations.available() == before


@pytest.mark.parametrize(
    ("name", "reason"), [("first.sql", "not named NNN"), ("1_again.sql", "same number")]
)
def test_files_are_numbered(name: str, reason: str, files: Path) -> None:
    (files / name).write_text("SELECT 1")

    with pytest.raises(MigrationError, match=reason):
        migrations.available()


@pytest.fixture
def limited(server: str) -> Iterator[str]:
    """A user without rights, whose name has to be quoted."""
    name = "limited-user"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name)))
        yield name
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def test_missing_rights_are_named_with_what_gives_them(
    limited: str, empty: sa.Engine, empty_database_url: str
) -> None:
    url = urls.parse_url(empty_database_url).set(username=limited)

    with pytest.raises(DatabaseRightsError) as caught:
        migrations.apply(engines.engine_for(url))

    assert f"CREATE on database {url.database!r} and CREATE on schema 'public'" in str(caught.value)
    assert _schema(empty).count("timestep") == 0

    with empty.connect() as connection:
        connection.exec_driver_sql(caught.value.message.partition("a user who may, ")[2])
    assert migrations.apply(engines.engine_for(url)) == migrations.available()


def test_somebody_elses_schema_is_told(
    limited: str, empty: sa.Engine, empty_database_url: str
) -> None:
    url = urls.parse_url(empty_database_url).set(username=limited)
    with empty.connect() as connection:
        connection.exec_driver_sql(f'GRANT CREATE ON DATABASE {url.database} TO "{limited}"')
        connection.exec_driver_sql(f'GRANT CREATE ON SCHEMA public TO "{limited}"')
        connection.exec_driver_sql("CREATE SCHEMA timestep")

    with pytest.raises(DatabaseRightsError, match="schema timestep"):
        migrations.apply(engines.engine_for(url))


def test_a_migrated_database_asks_for_no_rights(limited: str, database_url: str) -> None:
    url = urls.parse_url(database_url).set(username=limited)
    with psycopg.connect(database_url) as connection:
        name = sql.Identifier(limited)
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA timestep TO {}").format(name))
        connection.execute(sql.SQL("GRANT SELECT ON timestep.migrations TO {}").format(name))

    assert migrations.apply(engines.engine_for(url)) == []


def test_rights_are_asked_for_in_each_of_our_schemas(limited: str, database_url: str) -> None:
    url = urls.parse_url(database_url).set(username=limited)
    rights = "GRANT USAGE ON SCHEMA {0} TO {1}; GRANT ALL ON ALL TABLES IN SCHEMA {0} TO {1}"
    with psycopg.connect(database_url) as connection:
        for schema in ("public", "dbos", "timestep"):
            names = (sql.Identifier(schema), sql.Identifier(limited))
            connection.execute(sql.SQL(rights).format(*names))
        revoked = "REVOKE DELETE ON timestep.setbacks FROM {}"
        connection.execute(sql.SQL(revoked).format(sql.Identifier(limited)))

    with engines.engine_for(url).connect() as asking:
        assert server.missing_rights(asking, "dbos") == ["timestep.setbacks"]


@pytest.mark.parametrize("catalog", CATALOGS)
def test_the_migrated_database_equals_the_metadata(
    catalog: str, engine: sa.Engine, empty: sa.Engine
) -> None:
    migrations.apply(empty)
    with empty.connect() as connection:
        # What is left are the functions, which the metadata has no words for.
        connection.exec_driver_sql(f"DROP TABLE {', '.join(TABLES)} CASCADE")
    metadata.create_all(empty)

    assert _catalog(engine, catalog) == _catalog(empty, catalog)
