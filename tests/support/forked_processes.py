"""Processes like those of `subprocess`, forked by `tests/support/fork_server.py`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from filelock import FileLock

ROOT = Path(__file__).parents[2]

_addresses: dict[str, str] = {}
"""Where the server of this session listens, once it is known."""


def serve_in(directory: Path, session: int) -> None:
    """Have the server of a session, whose first user starts it, in a directory of all workers."""
    _addresses["address"] = str(directory / "fork.socket")
    _addresses["session"] = str(session)


def address() -> str:
    """Where the server listens; it is started if it is not there yet."""
    place = _addresses["address"]
    if os.path.exists(place):
        return place
    with FileLock(f"{place}.lock"):
        if os.path.exists(place):
            return place
        # It imports from here, whatever the directory of whoever comes first.
        begin = "from tests.support.fork_server import main; main()"
        code = f"import sys; sys.path[0] = {str(ROOT)!r}; {begin}"
        with open(f"{place}.log", "w+") as log:
            command = [sys.executable, "-c", code, place, _addresses["session"]]
            # It ends where the server has begun.
            done = subprocess.run(command, stdout=log, stderr=log, check=False)
            log.seek(0)
            assert done.returncode == 0, log.read()
    return place


def close() -> None:
    """End the server, if it was started."""
    pid = Path(f"{_addresses['address']}.pid")
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)


def command(*arguments: str) -> dict[str, object]:
    """A command and its arguments that do what `python ARGUMENTS` does."""
    client = str(ROOT / "tests" / "support" / "forked_python.py")
    return {"command": sys.executable, "args": ["-I", "-S", client, address(), *arguments]}


class Forked:
    """A forked process, with what `subprocess.Popen` tells of one."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
    ) -> None:
        """Run `python ARGUMENTS`, which are `-m MODULE ...` or `-c CODE ...`."""
        request = {
            "arguments": arguments,
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
        }
        self.args = arguments
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address())
        with open(os.devnull, "r+b") as null:
            streams = [_number(stream, null.fileno()) for stream in (None, stdout, stderr)]
            text = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(self._connection, [text], streams)
            self._connection.sendall(text[sent:])
            self._answers = self._connection.makefile("r")
            self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        """Its exit status, or None while it runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self._end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has one."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._end()
        assert self.returncode is not None
        return self.returncode

    def _end(self) -> None:
        self.returncode = int(self._answers.readline())
        self._answers.close()
        self._connection.close()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    *arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """What `python ARGUMENTS` wrote, and its exit status."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = Forked(*arguments, cwd=cwd, env=env, stdout=out, stderr=err)
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(arguments, status, out.read(), err.read())


@contextlib.contextmanager
def running(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Forked]:
    """A process that is killed at the end."""
    process = Forked(*arguments, env=env)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _number(stream: int | IO[str] | None, null: int) -> int:
    if stream is None:
        return null
    return stream if isinstance(stream, int) else stream.fileno()
