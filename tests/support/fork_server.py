"""Forks the processes of the tests out of one that has imported everything.

Importing the SDK, DBOS and Timestep takes seconds, and many tests need a process of their own.
A forked one does what `python ARGUMENTS` would: in its own directory and environment, with its own
standard streams, to the end of the interpreter. Whoever asks is told the process id, then the
exit status; if he hangs up before, the process is killed.

It ends once nobody can ask any more.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import agents.tracing

IMPORTED = (
    "agents",
    "dbos",
    "genai_prices.data",
    "httpx",
    "mcp.server.mcpserver",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "timestep",
    "timestep.cli",
    "timestep.host",
    "timestep.offline",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
)
LIFE_SECONDS = 2.0
"""Seconds between two looks whether the session is still there."""

Request = dict[str, Any]


def main() -> None:
    """Serve at an address, as long as a process is there; `sys.argv` has both."""
    address, session = sys.argv[1], int(sys.argv[2])
    for name in IMPORTED:
        importlib.import_module(name)
    # It makes a client, which reads all certificates.
    agents.tracing.get_trace_provider()
    # Nobody's garbage: to look through it would copy every page of it.
    gc.collect()
    gc.freeze()
    request = _served(address, session)
    if request is not None:
        _run(request)


def _served(address: str, session: int) -> Request | None:
    """Serve until the session is over; in a forked process, what it has to do."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{address}.new")
        server.listen(64)
        os.rename(f"{address}.new", address)
        if os.fork():
            # The server is nobody's child.
            os._exit(0)
        Path(f"{address}.pid").write_text(str(os.getpid()))
        # Nobody waits for those who keep the processes.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while _lives(session):
            ready, _, _ = select.select([server], [], [], LIFE_SECONDS)
            if not ready:
                continue
            connection, _ = server.accept()
            with connection:
                if os.fork() == 0:
                    server.close()
                    return _kept(connection)
    return None


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _kept(connection: socket.socket) -> Request:
    """Fork the process that is asked for. Only that one returns, with what it has to do."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    text, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    while not text.endswith(b"\n"):
        text += connection.recv(1 << 20)
    pid = os.fork()
    if pid == 0:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        return dict(json.loads(text))
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    connection.sendall(f"{pid}\n".encode())
    threading.Thread(target=_kill_when_gone, args=(connection, pid), daemon=True).start()
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _kill_when_gone(connection: socket.socket, pid: int) -> None:
    with contextlib.suppress(OSError):
        connection.recv(1)
    os.kill(pid, signal.SIGKILL)


def _run(request: Request) -> None:
    """What `python ARGUMENTS` does."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [request["cwd"], *(path for path in paths if path)]
    sys.orig_argv[:] = [sys.executable, *request["arguments"]]
    kind, what, *arguments = request["arguments"]
    sys.argv = [kind, *arguments]
    if kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
