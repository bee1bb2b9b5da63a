"""Draws DBOS's step numbers, which must not depend on timing."""

from __future__ import annotations

from dbos import DBOS
from dbos._dbos import StepReservation

from timestep.dbos_internals.workflow_scope import dbos_context, in_workflow, scope

BLOCK = 1_000_000
"""Step numbers set aside for each task that runs agents beside another of its workflow."""


class StepNumbers:
    """Draws the step numbers of the runs of one task.

    Tasks side by side would draw from one counter in an order that depends on timing; each
    but the first has a block of numbers of its own.
    """

    def __init__(self, *, block: int) -> None:
        self._next = block * BLOCK if block else None

    def draw(self) -> StepReservation:
        if self._next is None:
            own = DBOS.reserve_step()
            scope().drawn.add(own.step_id)
            return own
        context = dbos_context()
        drawn = context.function_id
        reserved = context.snapshot_step_ctx()
        context.function_id = drawn
        self._next += 1
        reserved.function_id = self._next
        return StepReservation(reserved)

    def newest(self) -> list[int] | None:
        """The newest number of the workflow's own counter, and of these numbers.

        None where the workflow has ended: nothing follows.
        """
        if not in_workflow():
            return None
        own = int(dbos_context().function_id)
        return [own, own if self._next is None else self._next]

    def go_back_to(self, newest: list[int]) -> None:
        """Draw what comes after `newest`: the first execution had drawn no more."""
        if not in_workflow():
            return
        if self._next is None:
            dbos_context().function_id = newest[1]
            scope().drawn = {number for number in scope().drawn if number <= newest[1]}
        else:
            self._next = newest[1]


__all__ = ["BLOCK", "StepNumbers", "StepReservation"]
