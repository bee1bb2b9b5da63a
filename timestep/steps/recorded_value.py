"""Makes a step of whatever gives a value that no table of the schema holds.

What a session answered, which tools an MCP server has: a replay must see the same, and people
do not query it. The value is recorded like any other step's outcome.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from timestep.dbos_internals.step_numbers import StepReservation
from timestep.execution.run import Rows, Run
from timestep.serialization.ids import derived
from timestep.serialization.values import (
    decode,
    encode,
    exact_text,
    plain_text,
    restored,
    storable,
    survives,
)
from timestep.steps.perform import perform
from timestep.steps.step import Step


async def recorded(
    run: Run,
    name: str,
    effect: Callable[[], Awaitable[Any]],
    *,
    number: StepReservation | None = None,
    may_follow_end: bool = False,
) -> Any:
    """What `effect` gave, or raised, the first time that the run came here.

    Args:
        run: The run it is done for.
        name: What is done. The same thing may be done several times: the first time here is
            the first time in the record.
        effect: Does it.
        number: DBOS's number, where it is a step of the workflow, too.
        may_follow_end: Whether it is still to be done when the record holds what ended the run.
    """
    return (await outcome_of(run, name, effect, number=number, may_follow_end=may_follow_end)).value


async def outcome_of(
    run: Run,
    name: str,
    effect: Callable[[], Awaitable[Any]],
    *,
    number: StepReservation | None = None,
    may_follow_end: bool = False,
) -> Outcome:
    """As `recorded`, for who does something else where the outcome comes from the record."""
    step = _ValueStep(run, name, effect, number)
    step.may_follow_end = may_follow_end
    value = await perform(step)
    return Outcome(value, step.id, is_new=step.is_executed)


@dataclass(frozen=True)
class Outcome:
    """What a step gave."""

    value: Any
    id: uuid.UUID
    is_new: bool
    """Whether this execution did what the step is for."""


class _ValueStep(Step[Any]):
    table = "step_values"

    def __init__(
        self,
        run: Run,
        name: str,
        effect: Callable[[], Awaitable[Any]],
        number: StepReservation | None,
    ) -> None:
        self.run = run
        self.name = name
        self.id = _row_id(run, name, run.counters.next_of(f"value:{name}"))
        self.number = number
        self._effect = effect

    async def effect(self) -> Any:
        return survives(await self._effect())

    def rows(self, value: Any, duration_ms: int) -> Rows:
        encoded = encode(value)
        row = {**self._row(), "value": storable(encoded), "value_text": exact_text(encoded)}
        return {"step_values": [row]}

    def failed_rows(self, envelope: dict[str, Any], duration_ms: int) -> Rows:
        return {"step_values": [{**self._row(), "error": storable(dict(envelope))}]}

    def _row(self) -> dict[str, Any]:
        return {"id": str(self.id), "run_id": str(self.run.id), "name": plain_text(self.name)}

    def replayed(self, row: dict[str, Any]) -> Any:
        return _value_of(row)


def recorded_value(run: Run, name: str) -> Any:
    """What was recorded the first time that a run did this; None if it did not."""
    row = run.record.find("step_values", _row_id(run, name, 0))
    return None if row is None else _value_of(row)


def _row_id(run: Run, name: str, count: int) -> uuid.UUID:
    return derived(run.id, f"value:{name}:{count}")


def _value_of(row: dict[str, Any]) -> Any:
    exact = row["value_text"]
    return decode(restored(row["value"]) if exact is None else json.loads(exact))
