"""The PostgreSQL server that the contenders share, and what it counts."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import sqlalchemy as sa
from psycopg import sql

from timestep.database import engines, migrations
from timestep.database.servers import embedded_postgres

_SETTINGS = {
    "max_connections": "400",
    # A page's first change after a checkpoint is logged whole: none comes amid the measurements.
    "checkpoint_timeout": "1d",
    "max_wal_size": "100GB",
}


@dataclass(frozen=True)
class Counted:
    """What the server did until now."""

    wal: int
    """Bytes."""
    writes: int
    """Transactions that changed something."""
    cpu: float
    """Seconds, of all its processes."""


class Server:
    """A server with fsync, and a database for each contender."""

    def __init__(self, url: sa.URL) -> None:
        self.url = url
        self._connection = psycopg.connect(libpq(url), autocommit=True)
        pid = self._connection.info.backend_pid
        self._postmaster = psutil.Process(psutil.Process(pid).ppid())
        if self._one("SHOW fsync") != "on" or self._one("SHOW synchronous_commit") != "on":
            raise RuntimeError("the server does not sync what it commits")

    def close(self) -> None:
        """End its own connection."""
        self._connection.close()

    def create(self, contender: str) -> str:
        """The URL of a new database; with Timestep's schema, where it is for Timestep."""
        name = _name(contender)
        self._connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url = self.url.set(database=name)
        if contender.startswith("timestep"):
            migrations.apply(engines.engine_for(url))
            engines.dispose_all()
        return libpq(url)

    def url_of(self, contender: str) -> str:
        """The URL of the database that was created for a contender."""
        return libpq(self.url.set(database=_name(contender)))

    def behind(self, url: str, directory: Path) -> str:
        """The URL of the same database where a proxy listens in a directory."""
        return libpq(sa.make_url(url).update_query_dict({"host": str(directory)}))

    @property
    def socket(self) -> Path:
        """Where the server listens."""
        directory, port = (self.url.query[name] for name in ("host", "port"))
        return Path(str(directory), f".s.PGSQL.{port}")

    def counted(self) -> Counted:
        row = self._connection.execute(
            "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint, "
            "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
        ).fetchone()
        assert row is not None
        return Counted(int(row[0]), int(row[1]), cpu_of(*self._postmaster.children()))

    def _one(self, query: str) -> object:
        row = self._connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]


@contextmanager
def running() -> Iterator[Server]:
    """A server of its own for as long as this lasts, on a disk, not in memory."""
    # Run by root, PostgreSQL runs as another user, who has to get there.
    home = Path(tempfile.mkdtemp(prefix="timestep-benchmark-", dir="/var/tmp"))
    home.chmod(0o755)
    try:
        url = embedded_postgres.start(home).set(database="postgres")
        with psycopg.connect(libpq(url), autocommit=True) as connection:
            for name, value in _SETTINGS.items():
                connection.execute(
                    sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value)
                )
        embedded_postgres.stop(home)
        server = Server(embedded_postgres.start(home).set(database="postgres"))
        yield server
        server.close()
    finally:
        embedded_postgres.stop(home)
        shutil.rmtree(home)


def cpu_of(*processes: psutil.Process) -> float:
    """Seconds that processes have computed; one that ended counts no more."""
    seconds = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


def _name(contender: str) -> str:
    return f"benchmark-{contender}"


def libpq(url: sa.URL) -> str:
    """The URL as libpq and DBOS spell it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
