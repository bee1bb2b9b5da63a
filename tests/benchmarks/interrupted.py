"""The application of the benchmark of recoveries: runs that stop in a turn until they are killed.

It is copied into a folder of its own as `workflows/interrupted.py`, for a host, and executed by
`worker.py` beside it, a process that only launches DBOS. Everything it is told comes from the
environment; what it did goes to files of that folder, a line at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg
from agents import Agent, Model, ModelResponse, Usage, function_tool, set_tracing_disabled
from agents.testing import assistant_message, function_call
from dbos import DBOS

from timestep import DurableRunner
from timestep.database.async_pool import Sender
from timestep.journal import begin_or_recover

EFFECTS, MARKS = Path("effects"), Path("marks")
HOLD_AT = int(os.environ.get("HOLD_AT", "0"))
"""The turn whose tool waits for ever; 0: none does."""

OUTPUT = "x" * 200

set_tracing_disabled(True)
_statements: Counter[str] = Counter()
_is_marked: set[str] = set()


def _append(path: Path, *fields: object) -> None:
    with path.open("a") as file:
        file.write(json.dumps([*fields, time.monotonic(), time.process_time()]) + "\n")


def mark(name: str) -> None:
    """Note when this process first came to a point."""
    if name not in _is_marked:
        _is_marked.add(name)
        _append(MARKS, name)


def _effect(kind: str, turn: int) -> None:
    _append(EFFECTS, DBOS.workflow_id, kind, turn)
    if "effect" not in _is_marked:
        mark("effect")
        Path("statements").write_text(json.dumps(_statements))


def _count_statements() -> None:
    """Count what this process asks the database: ours, by our connections' name, and DBOS's."""
    execute, send = psycopg.Cursor.execute, Sender.execute

    def counted(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        name = self.connection.info.parameter_status("application_name")
        # Looks that come by the clock have threads of their own, and are no part of a recovery.
        if threading.current_thread().name.startswith("dbos-executor"):
            _statements["ours" if name == "timestep" else "DBOS's"] += 1
        return execute(self, query, *args, **kwargs)

    async def counted_too(self: Sender, *args: Any) -> Any:
        _statements["ours, of steps"] += 1
        return await send(self, *args)

    setattr(psycopg.Cursor, "execute", counted)  # noqa: B010  # for the count alone
    setattr(Sender, "execute", counted_too)  # noqa: B010


def _time_beginnings() -> None:
    begin = begin_or_recover.begin

    async def timed(*args: Any, **kwargs: Any) -> Any:
        mark("begin")
        found = await begin(*args, **kwargs)
        mark("begun")
        return found

    setattr(begin_or_recover, "begin", timed)  # noqa: B010  # for the time alone


class Scripted(Model):
    """Answers at once: a call of the tool in each turn, and then a text."""

    def __init__(self, turns: int) -> None:
        self.turns = turns

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        given = kwargs["input"]
        turn = 1 + sum(item.get("type") == "function_call_output" for item in given)
        _effect("model", turn)
        said = (
            function_call("look", {"turn": turn}, call_id=f"call-{turn}")
            if turn < self.turns
            else assistant_message("done")
        )
        return ModelResponse([said], Usage(requests=1), f"response-{turn}")

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


@function_tool
async def look(turn: int) -> str:
    """Look something up."""
    _effect("tool", turn)
    if turn == HOLD_AT:
        await asyncio.get_running_loop().create_future()
    return OUTPUT


@DBOS.workflow()
async def interrupted(turns: int) -> str:
    """Runs an agent of so many turns."""
    if "workflow" not in _is_marked:
        _statements.clear()
    mark("workflow")
    agent = Agent("Looker", tools=[look], model=Scripted(turns))
    return str((await DurableRunner.run(agent, "look", max_turns=turns + 1)).final_output)


_time_beginnings()
if os.environ.get("COUNT"):
    _count_statements()
