"""Tells of the ends of a run's calls, and of checks of calls, in the order in which they ended."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import AsyncIterator, Iterable
from typing import Any, Protocol

from timestep.execution.record import RunRecord
from timestep.execution.replay.end_order import PATIENCE, EndOrder


class OrderedStep(Protocol):
    """A step whose end has a position."""

    name: str
    end_position: int | None
    """None until it ends, or where an earlier version recorded it."""


class CallOrder(EndOrder):
    """Hands over the ends of a run's calls, and of the checks of calls.

    Those of a turn go on side by side. What is recorded of earlier turns is not replayed where
    a run goes on from a checkpoint.

    Args:
        record: What is recorded of the run.
    """

    def __init__(self, record: RunRecord) -> None:
        super().__init__()
        self._record = record
        self._turn: int | None = None

    @contextlib.asynccontextmanager
    async def beside(self, step: OrderedStep, turn: int) -> AsyncIterator[None]:
        """Hand a step's outcome over in its turn, or what it raised.

        Args:
            step: The step, which is performed meanwhile.
            turn: The turn of the run's loop that it is of.
        """
        if turn != self._turn:
            self._turn = turn
            self._read(turn)
        self.enter()
        try:
            try:
                yield
            except Exception:
                await self._hand_over(step)
                raise
            await self._hand_over(step)
        finally:
            if step.end_position is not None:
                self.forget(step.end_position)
            self.leave()

    async def _hand_over(self, step: OrderedStep) -> None:
        if step.end_position is not None:
            await self.hand_over(step.end_position, f"{step.name!r} ends")

    def _read(self, turn: int) -> None:
        """Wait for what the record holds of a turn, and draw what comes after all it holds."""
        # What an earlier turn did not come to, it will not come to any more.
        for left in list(self._open):
            self._close(left)
        calls = {row["id"]: row for row in self._record.all("tool_calls")}
        self.patience = PATIENCE + _took(row for row in calls.values() if row["turn"] == turn)
        checks = self._record.all("tool_guardrail_results")
        for row in (*calls.values(), *checks):
            if (position := row.get("end_position")) is None:
                continue
            self.newest = max(self.newest, position)
            call = row if row["id"] in calls else calls.get(row["tool_call_id"], row)
            if call.get("turn") == turn:
                name = call["tool_name"] if call is row else row["guardrail_name"]
                self.expect(position, f"{name!r} ends")


def _took(rows: Iterable[dict[str, Any]]) -> float:
    """How many seconds recorded calls took together, with the hooks before them."""
    ended = [row for row in rows if isinstance(row.get("completed_at"), str)]
    if not ended:
        return 0.0
    first = min(datetime.datetime.fromisoformat(row["created_at"]) for row in ended)
    last = max(datetime.datetime.fromisoformat(row["completed_at"]) for row in ended)
    return (last - first).total_seconds()
