"""Runs a scenario in a process, kills it, recovers it in another, and tells what is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg import sql

from tests.support.forked_processes import Forked
from timestep.store.tables import metadata

WORKFLOW_ID = "crash"

Way = Literal["joint", "ordinary"]
"""Whether a step's rows and DBOS's record of it are one statement, or DBOS records it itself."""

Step = tuple[int, str, str | None, str | None, str | None]
"""DBOS's record of a step: number, name, output, error, serialization."""

_VOLATILE = {"created_at", "updated_at", "started_at", "completed_at", "duration_ms", "deleted_at"}
_VOLATILE |= {"resolved_at", "sequence"}
# Which of parallel calls changed the context first; what it is then, a scenario's answer tells.
_VOLATILE |= {"context_change", "context_position"}
# Which of parallel calls ended first.
_VOLATILE |= {"end_position"}
# Whether what went on beside the step that ended a run had drawn a number by then.
_VOLATILE |= {"cancel_steps"}


@dataclass
class Outcome:
    """What one life, or several, of a scenario left behind."""

    result: Any
    rows: dict[str, list[dict[str, Any]]]
    steps: list[Step]
    log: list[str]

    def doubled(self) -> list[str]:
        """Effects that happened twice although the first was committed, or three times."""
        return _doubled(self.log)


class Zygote:
    """A process that forks processes which run scenarios."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = str(folder / "zygote.socket")
        self.process = Forked("-m", "tests.crash.zygote", self.address)
        while not os.path.exists(self.address):
            if self.process.poll() is not None:
                raise RuntimeError("the zygote died while importing")
            time.sleep(0.02)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def live(
        self,
        workflow: str,
        url: str,
        log: Path,
        kill_at: str | None = None,
        decisions: dict[str, dict[str, Any]] | None = None,
        *,
        workflow_id: str = WORKFLOW_ID,
        fork: tuple[str, int] | None = None,
        way: Way = "joint",
    ) -> Any:
        """One life of a workflow: its result, or None if it was killed.

        `decisions` are the arguments of `resume_workflow` for each call that asks for one;
        `fork` is the workflow, and the turn, with which it begins; `way` is how its steps are
        recorded.
        """
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        request = {
            "workflow": workflow,
            "id": workflow_id,
            "fork": fork,
            "way": way,
            "url": url,
            "log": str(log),
            "kill_at": kill_at,
            "decisions": decisions or {},
            "result": str(result),
        }
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(self.address)
            connection.sendall(json.dumps(request).encode() + b"\n")
            status = int(connection.makefile().readline())
        if os.WIFSIGNALED(status):
            if os.WTERMSIG(status) != signal.SIGKILL:
                raise RuntimeError(f"killed by signal {os.WTERMSIG(status)}")
            return None
        if status != 0:
            raise RuntimeError(f"{workflow} failed with status {status}")
        return json.loads(result.read_text())


@contextlib.contextmanager
def database(server: str, name: str, template: str) -> Iterator[str]:
    """A database of its own, made from a migrated one, and its URL."""
    with psycopg.connect(server, autocommit=True) as connection:
        made, source = sql.Identifier(name), sql.Identifier(template)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(made))
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        connection.execute(create.format(made, source))
        try:
            yield _with_database(server, name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(made))


def _with_database(server: str, name: str) -> str:
    start, _, query = server.partition("?")
    head = start.rpartition("/")[0]
    return f"{head}/{name}" + (f"?{query}" if query else "")


def observed(url: str, log: Path, result: Any) -> Outcome:
    """The rows, steps and log that a finished scenario left."""
    with psycopg.connect(url) as connection:
        rows = {
            table.name: sorted(
                (_stable(row[0]) for row in connection.execute(_dump(table.name))),
                key=lambda row: json.dumps(row, sort_keys=True),
            )
            for table in metadata.sorted_tables
        }
        steps = connection.execute(
            "SELECT function_id, function_name, output, error, serialization "
            "FROM dbos.operation_outputs "
            "WHERE workflow_uuid = %s ORDER BY function_id",
            (WORKFLOW_ID,),
        ).fetchall()
    lines = log.read_text().splitlines()
    return Outcome(result=result, rows=rows, steps=steps, log=lines)


def _dump(table: str) -> sql.Composed:
    return sql.SQL("SELECT to_jsonb(t) FROM public.{} t").format(sql.Identifier(table))


def _stable(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what differs between two runs that went the same way."""
    stable = {name: value for name, value in row.items() if name not in _VOLATILE}
    if "guardrail_name" in row and "position" in row:
        stable.pop("position")  # The order in which parallel checks ended.
    if isinstance(row.get("error"), dict):
        # An error that comes out of the record has another way behind it.
        stable["error"] = {k: v for k, v in row["error"].items() if k != "traceback"}
    if isinstance(row.get("ends"), list):
        # Each with its time, which differs.
        stable["ends"] = [end[0] if isinstance(end, list) else end for end in row["ends"]]
    if row.get("failed_attempts"):
        # Their times differ.
        stable["failed_attempts"] = [
            (failed["number"], failed["followed_ms"] is None, failed["error"])
            for failed in row["failed_attempts"]
        ]
    if "state_data" in row:
        stable["state_data"] = _without_trace(row["state_data"])
    return stable


def _without_trace(document: Any) -> Any:
    """A state without the ids that the SDK makes at random."""
    if isinstance(document, dict):
        return {
            key: _without_trace(value)
            for key, value in document.items()
            if key not in ("trace", "generated_prompt_cache_key")
        }
    if isinstance(document, list):
        return [_without_trace(value) for value in document]
    return document


def labels(log: list[str]) -> list[str]:
    """The boundaries that a run passes, each once."""
    return [line for line in dict.fromkeys(log) if not line.startswith(("effect ", "kept "))]


def _doubled(log: list[str]) -> list[str]:
    kept: set[str] = set()
    counts: dict[str, int] = {}
    bad = []
    for line in log:
        kind, _, name = line.partition(" ")
        if kind == "effect":
            counts[name] = counts.get(name, 0) + 1
            if counts[name] > 2 or name in kept:
                bad.append(name)
        elif kind == "kept":
            kept.add(name)
    return bad
