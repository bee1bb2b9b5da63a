"""Draws DBOS's step numbers, which must not depend on timing.

The task of a workflow's body draws from the workflow's own counter, every other one that runs
agents from a block of its own. A streamed run has numbers set aside, which come before all that its
task draws after it: its reader may leave it and begin another run, and both go on side by side.
"""

from __future__ import annotations

from dbos import DBOS
from dbos._dbos import StepReservation

from timestep.dbos_internals.workflow_scope import dbos_context, in_workflow, scope

BLOCK = 1_000_000
"""Step numbers set aside for each task that runs agents beside another of its workflow."""


_LONG_STREAMS, _MANY_STREAMS = 300_000, 900_000
"""Up to which numbers of a block each streamed run has so many set aside as follows."""
_OF_LONG, _OF_MANY = 1_000, 100


class StepNumbers:
    """Draws the step numbers of the runs of one task.

    Tasks side by side would draw from one counter in an order that depends on timing; each
    but the body's has a block of numbers of its own.
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

    def set_aside(self, begun: int) -> Reserved:
        """Set numbers aside for a streamed run: those that come next.

        Args:
            begun: The number with which the run began, the newest one.
        """
        place = begun % BLOCK
        # A task that came further goes on as if nobody left a stream before its end.
        count = _OF_LONG if place < _LONG_STREAMS else _OF_MANY if place < _MANY_STREAMS else 0
        numbers = range(begun + 1, begun + 1 + count)
        if self._next is None:
            dbos_context().function_id += count
            scope().set_aside.append(numbers)
        else:
            self._next += count
        return Reserved(self, numbers)

    def take_back(self, numbers: range, newest: int) -> None:
        """Take back what was set aside, unless something was drawn since.

        Args:
            numbers: What was set aside.
            newest: The last of them that is in use.
        """
        if self._next is None:
            if dbos_context().function_id == numbers.stop - 1:
                dbos_context().function_id = newest
                scope().set_aside.remove(numbers)
                scope().drawn.update(range(numbers.start, newest + 1))
        elif self._next == numbers.stop - 1:
            self._next = newest

    def newest(self) -> list[int] | None:
        """The newest number of the workflow's own counter, and of the task's; last, of these.

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


class Reserved(StepNumbers):
    """Draws what is set aside for one streamed run; what its task draws, where that is used up.

    Args:
        task: The numbers of the task that began the run.
        numbers: Those that are set aside.
    """

    def __init__(self, task: StepNumbers, numbers: range) -> None:
        self._task = task
        self._numbers = numbers
        self._next: int = numbers.start - 1

    def draw(self) -> StepReservation:
        return self._task.draw() if self._next == self._numbers.stop - 1 else super().draw()

    def give_back(self) -> StepNumbers:
        """The task's own numbers, which a streamed run of an earlier version drew from."""
        self._task.take_back(self._numbers, self._next)
        return self._task

    def newest(self) -> list[int] | None:
        of_task = self._task.newest()
        return None if of_task is None else [*of_task, self._next]

    def go_back_to(self, newest: list[int]) -> None:
        if in_workflow() and len(newest) > 2:
            self._next = newest[2]


__all__ = ["BLOCK", "Reserved", "StepNumbers", "StepReservation"]
