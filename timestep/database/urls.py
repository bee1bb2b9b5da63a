"""Reads database URLs, and shows them to people without their secrets."""

from __future__ import annotations

import re
from urllib.parse import quote_plus

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy.exc import ArgumentError

from timestep.database.servers import pglite
from timestep.errors import ConfigurationError

DRIVER = "postgresql+psycopg"
SCHEMES = ("postgres", "postgresql", DRIVER)


_SECRET_PARAMETERS = ("password", "sslpassword", "oauth_client_secret")
_MASK = "***"


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
