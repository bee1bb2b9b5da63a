"""Databases: their URLs, the engines of this process, and their errors in our words."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote_plus

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.exc import ArgumentError, DBAPIError

from timestep import config, embedded, pglite
from timestep.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseRightsError,
    DatabaseTooOldError,
    DatabaseUnreachableError,
)

DRIVER = "postgresql+psycopg"
SCHEMES = ("postgres", "postgresql", DRIVER)
OLDEST = 120000
"""The oldest supported server, as PostgreSQL numbers versions."""

POOL_SIZE = 10
MAX_OVERFLOW = 10
CONNECT_TIMEOUT = 10
"""Seconds until an address that does not answer counts as unreachable."""

_SECRET_PARAMETERS = ("password", "sslpassword", "oauth_client_secret")
_MASK = "***"

_engines: dict[str, sa.Engine] = {}
_engines_lock = threading.Lock()


def parse_url(text: str, source: str = "TIMESTEP_DB_URL") -> sa.URL:
    """Read a PostgreSQL URL in libpq's or SQLAlchemy's spelling.

    Args:
        text: `postgres://`, `postgresql://` or `postgresql+psycopg://`, a unix socket
            (`?host=/dir`) and several hosts included.
        source: What gave it, for messages.

    Returns:
        The URL for SQLAlchemy and psycopg.

    Raises:
        ConfigurationError: it is no PostgreSQL URL, or names no database.
    """
    scheme, separator, rest = text.strip().partition("://")
    if not separator or scheme not in SCHEMES:
        raise _unusable(
            source, text, "not a PostgreSQL URL such as postgresql://user:password@host/name"
        )
    # SQLAlchemy's parser reads neither several hosts nor a socket directory in their place.
    authority = rest.partition("/")[0].rpartition("@")[2].lower()
    try:
        if "," in authority or "%2f" in authority:
            url = _libpq_url(f"postgresql://{rest}")
        else:
            url = sa.make_url(f"{DRIVER}://{rest}")
        _, parameters = url.get_dialect()().create_connect_args(url)
        make_conninfo(**parameters)
    except (ArgumentError, ValueError, psycopg.ProgrammingError):
        # Not chained: a parser's message may quote the password.
        raise _unusable(source, text, "its host, port or parameters cannot be read") from None
    if url.host and "@" in url.host:
        raise _unusable(source, text, "write an @ in the password as %40")
    if not url.database:
        raise _unusable(source, text, "no database is named: add /name")
    return url


def shown(url: sa.URL) -> str:
    """`url` for people: without the driver, and with every password masked."""
    if (path := pglite.path_of(url)) is not None:
        return f"PGlite in {path}"
    masked = {name: _MASK for name in _SECRET_PARAMETERS if name in url.query}
    plain = url.set(drivername="postgresql").update_query_dict(masked)
    return plain.render_as_string(hide_password=True).replace(quote_plus(_MASK), _MASK)


def database_url() -> sa.URL:
    """The database that the environment names; the embedded one is started if needed.

    Raises:
        ConfigurationError: the environment cannot be used.
        EmbeddedDatabaseError: the embedded PostgreSQL cannot start.
        PGliteError: PGlite cannot start.
    """
    settings = config.read()
    if settings.use_pglite:
        if settings.db_url is not None:
            raise ConfigurationError(
                "TIMESTEP_USE_PGLITE=true and TIMESTEP_DB_URL is set, too: unset one of them"
            )
        return pglite.start(settings.pglite_path, settings.home)
    if settings.db_url is not None:
        return parse_url(settings.db_url)
    return embedded.start(settings.home)


def system_database_url() -> str:
    """What DBOS's `system_database_url` is with the database that the environment names.

    With PGlite it is a SQLite file beside PGlite's directory, and else the same database.

    Raises:
        ConfigurationError, EmbeddedDatabaseError: As `database_url` raises them.
    """
    settings = config.read()
    if settings.use_pglite:
        return pglite.system_database(settings.pglite_path).render_as_string()
    return database_url().render_as_string(hide_password=False)


def engine_for(url: sa.URL) -> sa.Engine:
    """The engine of this process for `url`: the same one each time, from any thread.

    Every statement commits by itself unless it is inside an explicit BEGIN. Connecting
    happens at first use. A lost connection shows as an error of the statement; there is no
    ping before it.
    """
    key = url.render_as_string(hide_password=False)
    with _engines_lock:
        engine = _engines.get(key)
        if engine is None:
            engine = _engines[key] = _new_engine(url, POOL_SIZE, MAX_OVERFLOW)
        return engine


def private_engine(url: sa.URL) -> sa.Engine:
    """An engine of the caller's own with one connection, like `engine_for`'s otherwise.

    Whoever asks for it disposes of it.
    """
    return _new_engine(url, 1, 0)


def _new_engine(url: sa.URL, size: int, overflow: int) -> sa.Engine:
    defaults: dict[str, Any] = {
        "application_name": "timestep",
        "connect_timeout": CONNECT_TIMEOUT,
    }
    is_one = pglite.path_of(url) is not None
    if is_one:
        # All connections of PGlite are one session, with one set of prepared statements.
        defaults["prepare_threshold"] = None
    return sa.create_engine(
        url,
        pool_size=1 if is_one else size,
        max_overflow=0 if is_one else overflow,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        connect_args={k: v for k, v in defaults.items() if k not in url.query},
    )


def dispose_all() -> None:
    """Close the idle connections of every engine, and forget the engines."""
    with _engines_lock:
        engines = list(_engines.values())
        _engines.clear()
    for engine in engines:
        engine.dispose()


def check_server(engine: sa.Engine) -> None:
    """Connect, and see that the server is recent enough.

    Raises:
        DatabaseTooOldError: the server is older than PostgreSQL 12.
        DatabaseUnreachableError: there is no connection to be had.
    """
    with translated(engine.url), engine.connect() as connection:
        row = connection.exec_driver_sql(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version')"
        ).one()
    if row[0] < OLDEST:
        raise DatabaseTooOldError(
            f"the server at {shown(engine.url)} is PostgreSQL {row[1]}: Timestep needs "
            f"{OLDEST // 10000} or newer"
        )


@contextmanager
def translated(url: sa.URL | None = None) -> Iterator[None]:
    """Turn the driver's errors inside into Timestep's, one clear line each, `from` them.

    Args:
        url: the database in question; it is named in the message, its password masked.

    Raises:
        DatabaseUnreachableError: there is no connection, or no longer.
        DatabaseRightsError: the user lacks a right.
        DatabaseError: anything else that the server refused.
    """
    try:
        yield
    except DBAPIError as exc:
        if not isinstance(exc.orig, psycopg.Error):
            text = _line(str(exc.orig))
            fix = ": run `timestep migrate`" if "no such table" in text else ""
            raise DatabaseError(f"{_at(url)}{text}{fix}") from exc
        raise _translation(exc.orig, url) from exc
    except psycopg.Error as exc:
        raise _translation(exc, url) from exc


_NOT_MIGRATED = {"42P01", "42703", "3F000"}
"""Undefined table, column, schema."""
_UNREACHABLE = {"57P01", "57P02", "57P03", "57P05", "53300", "3D000"}
"""Shutting down, crashed, starting, idle too long, too many connections, no database."""
_PERMISSION_DENIED = "42501"


def _translation(error: psycopg.Error, url: sa.URL | None) -> DatabaseError:
    state = error.sqlstate
    text = error.diag.message_primary or _line(str(error))
    where = _at(url)
    if state is None and isinstance(error, psycopg.OperationalError):
        return DatabaseUnreachableError(where + _connecting(text, url))
    if state is None:
        return DatabaseError(where + text)
    if state in _UNREACHABLE or state[:2] in ("08", "28"):
        return DatabaseUnreachableError(where + _connecting(text, url))
    if state == _PERMISSION_DENIED:
        user = f"the user {url.username!r}" if url and url.username else "the database's user"
        return DatabaseRightsError(f"{where}{text}: grant that right to {user}")
    if state in _NOT_MIGRATED:
        return DatabaseError(f"{where}{text}: run `timestep migrate`")
    return DatabaseError(where + text)


def _connecting(text: str, url: sa.URL | None) -> str:
    """What a failed connection is about and how to fix it.

    libpq gives no code for it, only the server's text.
    """
    if missing := re.search(r'database "(.+?)" does not exist', text):
        name = missing[1]
        return f"the database {name!r} does not exist: create it with `createdb {name}`"
    if refused := re.search(r"(password authentication failed.*|no password supplied)", text):
        return f"{refused[1]}: check the user and password in its URL"
    if unknown := re.search(r'role ".+?" does not exist', text):
        return f"{unknown[0]}: check the user in its URL"
    if forbidden := re.search(r"(no pg_hba\.conf entry.*|permission denied for database.*)", text):
        return f"{forbidden[1]}: the server does not let this user in"
    return re.sub(r"^connection (failed|is bad): ", "", text)


def _at(url: sa.URL | None) -> str:
    return f"{shown(url)}: " if url is not None else ""


def _line(text: str) -> str:
    return " ".join(text.split()) or "no reason given"


def _libpq_url(text: str) -> sa.URL:
    parameters = {name: str(value) for name, value in conninfo_to_dict(text).items() if value}
    if any(port and not port.isdigit() for port in parameters.get("port", "").split(",")):
        raise ValueError("a port is not a number")
    return sa.URL.create(
        DRIVER,
        username=parameters.pop("user", None),
        password=parameters.pop("password", None),
        database=parameters.pop("dbname", None),
        query=parameters,
    )


def _unusable(source: str, text: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{source}={_masked(text)!r}: {reason}")


def _masked(text: str) -> str:
    """`text` without what may be a password, however broken the URL around it is."""
    text = re.sub(r"(?i)(password|secret)(\s*=\s*)('[^']*'|[^\s&]+)", rf"\1\2{_MASK}", text)
    return re.sub(r"(^(?![^:/@\s]*://)|//)([^:/@\s]*):.*@", rf"\1\2:{_MASK}@", text)
