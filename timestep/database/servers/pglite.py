"""Runs PGlite, PostgreSQL compiled to WebAssembly, in a Node.js child of this process.

A PGlite directory is one process's. That process, its holder, has a lock on a file in it, which
the child has too: the directory is free when both are gone, however they ended. The child ends
with the holder, and is started again where it ends alone. Other processes reach the database
through the holder's socket, where connections take turns; they are not told from one another
otherwise, so nothing that belongs to a connection (prepared statements, advisory locks of a
session, settings, LISTEN) may be used.

What was committed survives the end of a process, but not that of the machine: PGlite does not
wait for the disk. It is for local development.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import sqlalchemy as sa

from timestep.database.servers import nodejs, postgres_programs
from timestep.database.servers.socket_directory import PORT, directory_for, socket_in
from timestep.errors import PGliteError
from timestep.runtime import logs, process_state
from timestep.runtime.process_state import PerProcess

START_SECONDS = 120
HANDOVER_SECONDS = 15.0
"""How long the next holder waits for the one before it to end."""

_POLL = 0.05
_STOP_SECONDS = 10
_LONGEST_PAUSE = 5.0
_LOG_LINES = 4
_SOURCE = Path(__file__).with_name("pglite_server")

_log = logs.logger()


class _Server:
    """A PGlite directory as this process reaches it."""

    def __init__(self, path: Path, sockets: Path, lock: int | None) -> None:
        self.path = path
        self.sockets = sockets
        self.lock = lock
        """The descriptor of the locked file; None: another process is the holder."""
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = threading.Event()
        self.watcher: threading.Thread | None = None
        """Starts the child again; None: another process is the holder."""

    @property
    def url(self) -> sa.URL:
        query = {"host": str(self.sockets), "port": str(PORT)}
        return sa.URL.create("postgresql+psycopg", "postgres", database="postgres", query=query)


class Servers(PerProcess):
    """A process reaches, or holds, one PGlite for each directory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[Path, _Server] = {}

    def entered(self, path: Path, home: Path, *, alone: bool) -> _Server:
        """The PGlite of a directory, which this process becomes the holder of if it has to."""
        path = _absolute(path)
        with self._lock:
            server = self._servers.get(path)
            if server is None or (alone and server.lock is None):
                try:
                    server = _enter(path, home, alone)
                except OSError as exc:
                    raise PGliteError(
                        f"the PGlite directory {path} cannot be used: {exc}; set "
                        "TIMESTEP_PGLITE_PATH to a directory that this user may write"
                    ) from exc
                self._servers[path] = server
                # A child that outlives this process would keep the directory from the next one.
                atexit.unregister(self.close)
                atexit.register(self.close)
            return server

    def find(self, url: sa.URL) -> _Server | None:
        for server in list(self._servers.values()):
            if url.query.get("host") == str(server.sockets):
                return server
        return None

    def close(self) -> None:
        with self._lock:
            servers = list(self._servers.values())
            self._servers.clear()
        for server in servers:
            _stop(server)

    def is_kept_in_child(self) -> bool:
        """A fork of the holder is not the holder: it closes its descriptor of the lock."""
        for server in self._servers.values():
            if server.lock is not None:
                os.close(server.lock)
        atexit.unregister(self.close)
        return False


def start(path: Path, home: Path) -> sa.URL:
    """Reach the PGlite of a directory: its holder's, or as its holder from now on.

    Args:
        path: PGlite's data directory; created if missing.
        home: Timestep's home directory, where PGlite's packages are, or are installed.

    Returns:
        The URL of its database.

    Raises:
        ConfigurationError: Node.js or npm is missing, or npm failed.
        PGliteError: It cannot start.
    """
    return process_state.of(Servers).entered(path, home, alone=False).url


def hold(path: Path, home: Path) -> None:
    """Be the holder of a directory until this process ends, as `start` otherwise.

    Raises:
        PGliteError: Another process is, and does not end within a few seconds.
    """
    process_state.of(Servers).entered(path, home, alone=True)


def exists(path: Path) -> bool:
    """Whether a directory holds a database of PGlite."""
    return (_absolute(path) / "PG_VERSION").exists()


def holds(url: sa.URL) -> bool:
    """Whether this process is the holder of the PGlite that is reached by `url`."""
    server = process_state.of(Servers).find(url)
    return server is not None and server.lock is not None


def path_of(url: sa.URL) -> Path | None:
    """The directory of the PGlite that is reached by `url`; None: it is none of PGlite's."""
    server = process_state.of(Servers).find(url)
    return None if server is None else server.path


def system_database(path: Path) -> sa.URL:
    """Where DBOS's tables are: a SQLite file beside the PGlite directory."""
    path = _absolute(path)
    return sa.URL.create("sqlite", database=str(path.with_name(f"{path.name}.dbos.sqlite")))


def _absolute(path: Path) -> Path:
    return path.expanduser().resolve()


def _enter(path: Path, home: Path, alone: bool) -> _Server:
    path.mkdir(parents=True, exist_ok=True)
    # As PostgreSQL has it: PGlite makes its files for everyone.
    path.chmod(0o700)
    account = postgres_programs.current_account()
    file = path / "timestep.lock"
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + (HANDOVER_SECONDS if alone else START_SECONDS)
        while not _is_locked(lock):
            pid, sockets = _holder(file)
            if sockets is not None and not alone and _listens(sockets):
                os.close(lock)
                return _Server(path, sockets, None)
            if time.monotonic() > deadline:
                raise _in_use(path, pid)
            time.sleep(_POLL)
        pid, sockets = _holder(file)
        if pid not in (None, os.getpid()) and sockets is None and _is_there(pid):
            # Node.js has no such lock: the JavaScript package writes who it is.
            raise _in_use(path, pid)
        server = _Server(path, directory_for(path, account), lock)
        os.truncate(lock, 0)
        _spawn(server, home)
        os.pwrite(lock, json.dumps([os.getpid(), str(server.sockets)]).encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    server.watcher = threading.Thread(
        target=_watch, args=(server, home), name="pglite", daemon=True
    )
    server.watcher.start()
    return server


def _in_use(path: Path, pid: int | None) -> PGliteError:
    who = "another process" if pid is None else f"process {pid}"
    return PGliteError(
        f"the PGlite directory {path} is in use by {who}, and it is one process's: stop that one, "
        "or set TIMESTEP_PGLITE_PATH to another directory"
    )


def _is_locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: Path) -> tuple[int | None, Path | None]:
    """The holder and its socket's directory; it has written neither before its child listens.

    A holder that has no socket is one of the JavaScript package.
    """
    text = file.read_text()
    if not text:
        return None, None
    pid, sockets = json.loads(text)
    is_served = sockets is not None and _is_there(pid)
    return pid, Path(sockets) if is_served else None


def _is_there(pid: int) -> bool:
    import psutil  # only needed where PGlite is used

    return psutil.pid_exists(pid)


def _listens(sockets: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(socket_in(sockets)))
        except OSError:
            return False
        return True


def _spawn(server: _Server, home: Path) -> None:
    """Start the child, and wait until it listens."""
    found = nodejs.find()
    program = nodejs.installed(_SOURCE, home, found)
    address = socket_in(server.sockets)
    address.unlink(missing_ok=True)
    assert server.lock is not None  # Only a holder starts one.
    log = server.path / "timestep.log"
    with log.open("wb") as output:
        server.process = process = subprocess.Popen(
            [found.program, program / "server.mjs", server.path, address, str(os.getpid())],
            cwd=program,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Signals of the terminal and of `dbos start` are for this process.
            start_new_session=True,
            pass_fds=[server.lock],
            umask=0o077,
        )
    deadline = time.monotonic() + START_SECONDS
    while not _listens(server.sockets):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise PGliteError(
                f"PGlite does not start in {server.path}: {_told(log)}; see {log}, or set "
                "TIMESTEP_PGLITE_PATH to another directory"
            )
        time.sleep(_POLL)


def _told(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[:_LOG_LINES]) or "it gave no reason"


def _watch(server: _Server, home: Path) -> None:
    """Start the child again whenever it ends by itself."""
    pause = _POLL
    while server.process is not None:
        status = server.process.wait()
        if server.stopping.is_set():
            return
        _log.error("PGlite of %s ended (status %s) and is started again", server.path, status)
        if server.stopping.wait(pause):
            return
        pause = min(pause * 2, _LONGEST_PAUSE)
        try:
            _spawn(server, home)
        except Exception as error:  # noqa: BLE001  # said, and tried again
            _log.error("%s", error)
        else:
            pause = _POLL
            if server.stopping.is_set():
                server.process.terminate()


def stop_all() -> None:
    """Give back every directory that this process holds, its child ended cleanly."""
    process_state.of(Servers).close()


def _stop(server: _Server) -> None:
    server.stopping.set()
    if server.process is not None:
        server.process.terminate()
        try:
            server.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
    if server.watcher is not None:
        server.watcher.join(_STOP_SECONDS)
    if server.lock is not None:
        socket_in(server.sockets).unlink(missing_ok=True)
        os.close(server.lock)
