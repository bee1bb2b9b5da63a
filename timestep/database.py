"""Temporary: engines for one database."""
from __future__ import annotations
import contextlib, os, threading
from collections.abc import Iterator
import sqlalchemy as sa
from timestep.errors import ConfigurationError, DatabaseError
_engines: dict[sa.URL, sa.Engine] = {}
def parse_url(text: str) -> sa.URL:
    return sa.make_url(text.replace("postgresql://","postgresql+psycopg://",1) if text.startswith("postgresql://") else text)
def shown(url: sa.URL) -> str:
    return url.render_as_string(hide_password=True)
def database_url() -> sa.URL:
    return parse_url(os.environ["TIMESTEP_DB_URL"])
def engine_for(url: sa.URL) -> sa.Engine:
    if url not in _engines:
        _engines[url] = sa.create_engine(url, isolation_level="AUTOCOMMIT", pool_size=10, pool_reset_on_return=None)
    return _engines[url]
@contextlib.contextmanager
def translated() -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as e:
        raise DatabaseError(str(e)) from e
