"""Tells which run, and which of its steps, the caller is part of."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

from timestep.dbos_internals import workflow_scope
from timestep.execution.run import Run
from timestep.serialization import registered_types

STEPS_OF_CALLS = ("tool_calls", "tool_guardrail_results")
"""The tables that hold the outcomes of a turn's calls and of their checks: side by side."""


@dataclass
class StepScope:
    """The step that the caller is inside of."""

    run: Run
    id: uuid.UUID
    usage: object | None = None
    """Where the SDK counts what a call uses."""
    owner: workflow_scope.Owner | None = None
    """The workflow that the step made of itself, where it did."""
    nested: dict[str, int] = field(default_factory=dict)
    """How many runs were started in it, by what they were to do."""
    changes: int = 0
    """How often a session was changed in it."""


_run: ContextVar[Run | None] = ContextVar("timestep_run", default=None)
_step: ContextVar[StepScope | None] = ContextVar("timestep_step", default=None)
_of_call: ContextVar[tuple[Run, int, bool] | None] = ContextVar("timestep_call", default=None)


def current_run() -> Run | None:
    """The durable run that the caller is part of."""
    return _run.get()


def is_replaying() -> bool:
    """Whether the run that the caller is part of repeats what its record holds.

    Hooks, filters and dynamic instructions run again in a recovery. This tells them so: it is
    True as long as the run takes recorded outcomes, and False from the first step that it
    executes; in a hook of a tool, and in the tool, as the outcome of that call is. Outside a
    durable run it is False.
    """
    run = _run.get()
    if run is None:
        return False
    of_call = _of_call.get()
    if of_call is not None and of_call[:2] == (run, run.turn):
        return of_call[2]
    return run.record.is_replaying


def took(run: Run, table: str, *, from_record: bool) -> None:
    """Note that a run takes a step's outcome, or executes the step."""
    run.record.took(from_record=from_record)
    if table in STEPS_OF_CALLS:
        # Calls of a turn go on side by side.
        _of_call.set((run, run.turn, from_record))


def current_step() -> StepScope | None:
    return _step.get()


@contextlib.contextmanager
def entered(run: Run) -> Iterator[None]:
    """While the caller is part of a run: its classes are known, too."""
    # Reset in any case: a workflow awaited directly shares its caller's context.
    token = _run.set(run)
    try:
        with registered_types.known(run.types):
            yield
    finally:
        _run.reset(token)


@contextlib.contextmanager
def inside_step(
    run: Run, id_: uuid.UUID, usage: object | None, owner: workflow_scope.Owner | None = None
) -> Iterator[None]:
    token = _step.set(StepScope(run, id_, usage, owner))
    try:
        yield
    finally:
        _step.reset(token)


@contextlib.contextmanager
def as_loop(around: StepScope | None) -> Iterator[None]:
    """While a step does what the run's loop would do itself, as far as a session can tell.

    Args:
        around: The step that the run's loop is inside of.
    """
    token = _step.set(around)
    try:
        yield
    finally:
        _step.reset(token)
