"""Tests that an application's workflow replays from its record alone.

In a process that has launched DBOS on a test database:

    async def test_support() -> None:
        answer = await testing.assert_replays(support, "Where is my order?", times=5, delay=0.01)
        assert answer == "On its way."

A workflow that replays is one that a crash cannot change: whatever was recorded is read, not
done again, and everything around it comes to the same. What usually breaks that is code of the
workflow that depends on the time, on chance or on which of two tasks is first.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dbos import DBOS

from timestep.dbos_internals import executions
from timestep.errors import UnknownRunError
from timestep.execution.replay.replay_check import Replay, watched
from timestep.journal.reads.workflow_records import workflow_record
from timestep.journal.recorder import recorder
from timestep.serialization import exceptions
from timestep.serialization.values import encode
from timestep.store.reads import snapshots

_POLL = 0.01

_MARGIN = 1.0
"""Seconds that a replay may take longer than what it is a replay of until it gives a step up."""


async def assert_replays(
    workflow: Callable[..., Any] | str,
    *args: Any,
    times: int = 1,
    delay: float = 0.0,
    seed: int = 0,
    patience: float = 60.0,
    **kwargs: Any,
) -> Any:
    """Run a workflow, execute it again from its record, and compare.

    In a replay each model, tool, guardrail, session and whatever else a run records as a step
    fails when it is called, and so does what the workflow's code sends over the network. The
    replay must end as the workflow did, leave every row of every table as it was, and have the
    same DBOS steps. Nothing else may write to the database meanwhile.

    Args:
        workflow: A function decorated with `@DBOS.workflow()`, async or not; or the id of a
            workflow that was started, which is waited for.
        args: The workflow's arguments.
        times: How many replays.
        delay: Seconds. Each step of a replay is held up by a random time up to this, so that
            parallel tasks come along in another order each time.
        seed: What the random times are made from.
        patience: Seconds within which each execution must end.
        kwargs: The workflow's keyword arguments.

    Returns:
        What the workflow returned.

    Raises:
        AssertionError: A replay did something anew, or came to something else; the message
            names what.
        UnknownRunError: There is no workflow with this id.
        Exception: What the workflow raised, once every replay raised the same.
    """
    if isinstance(workflow, str):
        workflow_id = workflow
    elif inspect.iscoroutinefunction(workflow):
        handle = await DBOS.start_workflow_async(workflow, *args, **kwargs)
        workflow_id = handle.get_workflow_id()
    else:
        started = await asyncio.to_thread(DBOS.start_workflow, workflow, *args, **kwargs)
        workflow_id = started.get_workflow_id()
    source = random.Random(seed)
    return await asyncio.to_thread(_assert_same, workflow_id, times, delay, source, patience)


def assert_replays_sync(workflow: Callable[..., Any] | str, *args: Any, **options: Any) -> Any:
    """`assert_replays` for a test without an event loop; the same arguments and errors."""
    return asyncio.run(assert_replays(workflow, *args, **options))


@dataclass(frozen=True)
class _Left:
    """What an execution left behind."""

    value: Any
    error: BaseException | None
    rows: dict[str, list[dict[str, Any]]]
    steps: list[tuple[int, str]]


def _assert_same(
    workflow_id: str, times: int, delay: float, source: random.Random, patience: float
) -> Any:
    first = _left(workflow_id, patience)
    replay = Replay(delay, source, holds=min(_took(workflow_id) + _MARGIN, patience / 2))
    for number in range(1, times + 1):
        with watched(workflow_id, replay) as (addresses, told):
            token = _reopen(workflow_id)
            if number == 1:
                # What the workflow left going may have ended until now, when it has no owner.
                first = replace(first, rows=_rows(), steps=_steps(workflow_id))
            executions.execute_again(workflow_id, token)
            second = _left(workflow_id, patience)
        found = [f"  it was about to send something to {address}" for address in addresses]
        found += [f"  {line}" for line in told]
        if found := [*found, *_differences(first, second)]:
            title = f"replay {number} of workflow {workflow_id!r} differs from its first execution:"
            raise AssertionError("\n".join([title, *found])) from second.error
    if first.error is not None:
        raise first.error
    return first.value


def _reopen(workflow_id: str) -> str:
    """Let a workflow be executed again, by an owner with the token that is returned."""
    token = str(uuid.uuid4())
    with recorder().system() as (connection, schema):
        if not snapshots.reopen(connection, schema, workflow_id, token):
            raise AssertionError(
                f"workflow {workflow_id!r} was cancelled, or is not known to DBOS: only one that "
                "ended can be replayed"
            )
    return token


def _took(workflow_id: str) -> float:
    """Seconds from the beginning of a workflow that has ended to its end."""
    status = DBOS.retrieve_workflow(workflow_id).get_status()
    return ((status.updated_at or 0) - (status.created_at or 0)) / 1000


def _rows() -> dict[str, list[dict[str, Any]]]:
    with recorder().engine.connect() as connection:
        return snapshots.rows(connection)


def _steps(workflow_id: str) -> list[tuple[int, str]]:
    with recorder().system() as (connection, schema):
        return snapshots.steps(connection, schema, workflow_id)


def _left(workflow_id: str, patience: float) -> _Left:
    deadline = time.monotonic() + patience
    while (status := _status(workflow_id)) in ("ENQUEUED", "DELAYED", "PENDING"):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"workflow {workflow_id!r} has not ended within {patience:g} s ({status})"
            )
        time.sleep(_POLL)
    value: Any = None
    error: BaseException | None = None
    try:
        value = DBOS.retrieve_workflow(workflow_id).get_result()
    except Exception as raised:  # noqa: BLE001  # compared, and raised to the caller
        error = raised
    return _Left(value, error, _rows(), _steps(workflow_id))


def _status(workflow_id: str) -> str:
    record = workflow_record(workflow_id)
    if record is None:
        raise UnknownRunError(f"there is no workflow {workflow_id!r}")
    return record.status


def _differences(first: _Left, second: _Left) -> list[str]:
    """What is not the same, a line for each."""
    found = []
    if not _is_same_end(first, second):
        found.append(f"  it ended with {_end(second)}, and first with {_end(first)}")
    for table, rows in first.rows.items():
        found.extend(_row_differences(table, rows, second.rows[table]))
    if first.steps != second.steps:
        found.extend(f"  step {number} {name!r} is new" for number, name in _new(second, first))
        found.extend(f"  step {number} {name!r} is gone" for number, name in _new(first, second))
    return found


def _new(of: _Left, other: _Left) -> list[tuple[int, str]]:
    return [step for step in of.steps if step not in other.steps]


def _is_same_end(first: _Left, second: _Left) -> bool:
    if first.error is not None and second.error is not None:
        return exceptions.seal(first.error) == exceptions.seal(second.error)
    if first.error is not None or second.error is not None:
        return False
    return bool(first.value == second.value) or encode(first.value) == encode(second.value)


def _end(left: _Left) -> str:
    if left.error is None:
        return repr(left.value)
    return f"{exceptions.name_of(left.error)}: {exceptions.one_line(left.error)}"


def _row_differences(
    table: str, before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> list[str]:
    was, now = _by_key(before), _by_key(after)
    found = [f"  {table}: row {key} is new: {now[key]}" for key in now.keys() - was.keys()]
    found += [f"  {table}: row {key} is gone: {was[key]}" for key in was.keys() - now.keys()]
    for key in was.keys() & now.keys():
        for column, value in now[key].items():
            if value != was[key][column]:
                found.append(
                    f"  {table}: row {key}: {column} is {value!r} and was {was[key][column]!r}"
                )
    return sorted(found)


def _by_key(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows by their id; those of tables that only link others, by all they hold."""
    return {str(row.get("id") or row): row for row in rows}
