"""The processes that the contenders run in, as the benchmark drives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import Done, Task

_ROOT = Path(__file__).parents[2]
_ALWAYS = {"PYTHONPATH": str(_ROOT), "OPENAI_AGENTS_DISABLE_TRACING": "1"}


class TaskFailedError(Exception):
    """Why a contender cannot do what it was told."""


class Worker:
    """A process that performs tasks; `wait_until_ready` before the first."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("TIMESTEP_", "OPENAI_", "DBOS"))
        }
        self._process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**inherited, **_ALWAYS, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def wait_until_ready(self) -> None:
        """Wait until it is warm."""
        if self._answer() != "ready":
            raise RuntimeError(f"{self.name} is not ready")

    def begin(self, task: Task) -> None:
        """Let it begin a task; `end` waits for it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(task)) + "\n")
        self._process.stdin.flush()

    def end(self) -> Done:
        """What the task took.

        Raises:
            TaskFailedError: One of its runs failed.
        """
        answer = self._answer()
        if "failed" in answer:
            raise TaskFailedError(answer["failed"])
        return Done(**answer)

    def perform(self, task: Task) -> Done:
        self.begin(task)
        return self.end()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self._process.wait()}")
        return json.loads(line)

    def stop(self) -> None:
        """Wait for its end."""
        with self._process:
            pass


def started(name: str, url: str, executor: str = "1") -> Worker:
    """A contender of this environment, on a database of its own."""
    environment = {"DBOS__VMID": executor}
    if name == "timestep-ordinary":
        environment["TIMESTEP_ORDINARY_STEPS"] = "true"
    command = [sys.executable, "-m", "tests.benchmarks.contenders", name, url]
    return Worker(name, command, environment)
