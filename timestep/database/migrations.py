"""Applies the numbered SQL files that a database lacks.

Each file also runs with plain `psql -f`, carries its own transaction and may run twice. What
was applied is recorded after the file has committed: where a process dies between the two,
the next one runs the file again, which changes nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from timestep.database import engines, error_translation
from timestep.database.servers import pglite
from timestep.errors import DatabaseRightsError, MigrationError
from timestep.store import dbos_mirror

LOCK = 7470263211650385
"""Advisory lock, held by the one migrator of a database. The files take another one."""

_FILE = re.compile(r"(\d+)_\w+")
_SHORT = 12


@dataclass(frozen=True)
class Migration:
    """One file of `migrations/`."""

    version: int
    """The number that its name begins with."""
    name: str
    """The file's name without `.sql`."""
    sql: str
    checksum: str
    """SHA-256 of the text, in hexadecimal."""


@dataclass(frozen=True)
class _Recorded:
    name: str
    checksum: str


def directory() -> Path:
    """Where the SQL files are: in the installed package, or beside it in a checkout.

    Raises:
        MigrationError: they are in neither place.
    """
    package = Path(__file__).resolve().parents[1]
    for candidate in (package / "migrations", package.parent / "migrations"):
        if candidate.is_dir():
            return candidate
    raise MigrationError(f"the migrations are missing from {package}: install Timestep again")


def available() -> list[Migration]:
    """The migrations of this version of Timestep, oldest first.

    Raises:
        MigrationError: there are none, a file is not named NNN_words.sql, or two files have
            one number.
    """
    found: dict[int, Migration] = {}
    for path in sorted(directory().glob("*.sql")):
        match = _FILE.fullmatch(path.stem)
        if match is None:
            raise MigrationError(f"the migration {path} is not named NNN_words.sql: rename it")
        version = int(match[1])
        if version in found:
            raise MigrationError(
                f"the migrations {found[version].name}.sql and {path.name} have the same "
                "number: rename one"
            )
        # Universal newlines: a checkout with CRLF has the same checksum.
        text = path.read_text(encoding="utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found[version] = Migration(version, path.stem, text, checksum)
    if not found:
        raise MigrationError(f"there is no migration in {directory()}: install Timestep again")
    return [found[version] for version in sorted(found)]


def pending(engine: sa.Engine) -> list[Migration]:
    """The migrations that `engine`'s database lacks, oldest first. Changes nothing.

    Raises:
        MigrationError: the database is newer than this version of Timestep, or the files are
            not those it was migrated with.
        DatabaseError: the database refused; see `timestep.database.translated`.
    """
    with _connected(engine) as connection:
        return _pending(connection)


def apply(engine: sa.Engine, *, dry_run: bool = False) -> list[Migration]:
    """Bring `engine`'s database to this version's schema. Several at once are safe.

    Args:
        dry_run: only tell; change nothing at all.

    Returns:
        The migrations applied, or with `dry_run` those that would be, oldest first.

    Raises:
        MigrationError: see `pending`.
        DatabaseRightsError: the user lacks a right; the message has the GRANT.
        DatabaseError: the database refused; what a file began is rolled back.
    """
    if dry_run:
        return pending(engine)
    with _connected(engine) as connection:
        if pglite.path_of(engine.url) is None:
            # The session has the lock: a server that does not hear of its end keeps it for hours.
            for setting in ("idle = 10", "interval = 5", "count = 3"):
                connection.exec_driver_sql(f"SET tcp_keepalives_{setting}")
        connection.execute(sa.select(sa.func.pg_advisory_lock(LOCK)))
        waiting = _pending(connection)
        if waiting:
            _check_rights(connection)
            _make_log(connection)
        for migration in waiting:
            _run(connection, migration)
        if pglite.path_of(engine.url) is not None:
            dbos_mirror.create(connection)
        return waiting


@contextmanager
def _connected(engine: sa.Engine) -> Iterator[sa.Connection]:
    engines.check_server(engine)
    with error_translation.translated(engine.url), engine.connect() as connection:
        # Not back to the pool: closing it is what gives the lock back in every case.
        connection.detach()
        yield connection


def _pending(connection: sa.Connection) -> list[Migration]:
    files = {migration.version: migration for migration in available()}
    recorded = _recorded(connection)
    newest = max(files)
    for version, record in sorted(recorded.items(), reverse=True):
        file = files.get(version)
        if version > newest:
            raise MigrationError(
                f"the database is at version {version} ({record.name}) and this Timestep knows "
                f"versions up to {newest} ({files[newest].name}): install a newer Timestep"
            )
        if file is None:
            raise MigrationError(
                f"the database was migrated with {record.name}.sql, which is missing from "
                f"{directory()}: restore the file"
            )
        if file.checksum != record.checksum:
            raise MigrationError(
                f"{file.name}.sql is not the file that the database was migrated with (checksum "
                f"{file.checksum[:_SHORT]}, recorded {record.checksum[:_SHORT]}): restore the "
                "file, and make changes in a new one"
            )
    return [file for version, file in sorted(files.items()) if version not in recorded]


def _recorded(connection: sa.Connection) -> dict[int, _Recorded]:
    exists = sa.text("SELECT to_regclass('timestep.migrations') IS NOT NULL")
    if not connection.execute(exists).scalar_one():
        return {}
    rows = connection.execute(sa.text("SELECT version, name, checksum FROM timestep.migrations"))
    return {row.version: _Recorded(row.name, row.checksum) for row in rows}


def _check_rights(connection: sa.Connection) -> None:
    """Say which right is missing before a statement trips over it."""
    row = connection.execute(
        sa.text(
            """
            SELECT current_user AS "user",
                current_database() AS database,
                quote_ident(current_user) AS quoted_user,
                quote_ident(current_database()) AS quoted_database,
                has_database_privilege(current_database(), 'CREATE') AS on_database,
                has_schema_privilege(to_regnamespace('public'), 'CREATE') AS on_public,
                has_schema_privilege(to_regnamespace('timestep'), 'CREATE') AS on_timestep
            """
        )
    ).one()
    missing: list[str] = []
    grants: list[str] = []
    if not row.on_database:
        missing.append(f"CREATE on database {row.database!r}")
        grants.append(f"GRANT CREATE ON DATABASE {row.quoted_database} TO {row.quoted_user};")
    # Null where there is no such schema: timestep is made, and for public the server's own
    # error says it better.
    for schema, allowed in (("public", row.on_public), ("timestep", row.on_timestep)):
        if allowed is False:
            missing.append(f"CREATE on schema {schema!r}")
            grants.append(f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {row.quoted_user};")
    if missing:
        raise DatabaseRightsError(
            f"the user {row.user!r} lacks {' and '.join(missing)}: run, as a user who may, "
            f"{' '.join(grants)}"
        )


def _make_log(connection: sa.Connection) -> None:
    connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS timestep"))
    connection.execute(
        sa.text(
            """
            CREATE TABLE IF NOT EXISTS timestep.migrations (
                version integer PRIMARY KEY,
                name text NOT NULL,
                checksum text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            )
            """
        )
    )


def _run(connection: sa.Connection, migration: Migration) -> None:
    # Without parameters psycopg sends a simple query, which may hold many statements.
    connection.exec_driver_sql(migration.sql, execution_options={"no_parameters": True})
    connection.execute(
        sa.text(
            "INSERT INTO timestep.migrations (version, name, checksum) "
            "VALUES (:version, :name, :checksum)"
        ),
        {
            "version": migration.version,
            "name": migration.name,
            "checksum": migration.checksum,
        },
    )
