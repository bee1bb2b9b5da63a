"""Draws DBOS's step numbers, which must not depend on timing.

The task of a workflow's body draws from the workflow's own counter, every other one that runs
agents from a block of its own. A streamed run has numbers set aside, which come before all that its
task draws after it: its reader may leave it and begin another run, and both go on side by side.

Any other run of the body's task keeps the numbers that come next until it ends: what another task
draws meanwhile, as its steps do that follow each other, comes after them, however far the run has
come. Where nothing is drawn beside it, nothing is left out.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dbos import DBOS
from dbos._context import DBOSContext
from dbos._dbos import StepReservation

from timestep.dbos_internals.workflow_scope import dbos_context, in_workflow, newest_of, scope
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess

BLOCK = 1_000_000
"""Step numbers set aside for each task that runs agents beside another of its workflow."""


_LONG_STREAMS, _MANY_STREAMS = 300_000, 900_000
"""Up to which numbers of a block each run has so many set aside, or keeps, as follows."""
_OF_LONG, _OF_MANY = 1_000, 100

_KEPT = "timestep_kept_numbers"
"""Where a context of DBOS has the `KeptNumbers` after which the next number is drawn."""


@dataclass
class Keeping:
    """Whether the runs of a workflow's body keep numbers: not in what earlier versions recorded."""

    ask: Callable[[], bool]
    """Finds it out; blocks."""
    is_known: bool | None
    """What is known already: None where something may be recorded that was not looked at yet."""

    def asked(self) -> bool:
        """Whether they do; asks, where that is not known yet."""
        if self.is_known is None:
            self.is_known = self.ask()
        return self.is_known


class StepNumbers:
    """Draws the step numbers of the runs of one task.

    Tasks side by side would draw from one counter in an order that depends on timing; each
    but the body's has a block of numbers of its own.

    Args:
        block: Which one; 0: the task has the workflow's own counter.
        keeping: Whether the runs of a task that has that counter keep numbers.
    """

    def __init__(self, *, block: int, keeping: Keeping | None = None) -> None:
        self._next = block * BLOCK if block else None
        self.keeping = keeping

    def draw(self) -> StepReservation:
        if self._next is None:
            own = DBOS.reserve_step()
            scope().drawn.add(own.step_id)
            return own
        self._next += 1
        # A copy draws nothing from the workflow's counter.
        context = copy.copy(dbos_context())
        vars(context).pop(_KEPT, None)
        context.function_id = self._next - 1
        return StepReservation(context.snapshot_step_ctx())

    def keep(self) -> StepNumbers:
        """The numbers of a run, not streamed, that begins or goes on after it has stopped."""
        if self.keeping is None or self.keeping.is_known is False:
            return self
        return KeptNumbers(self, self.keeping)

    def keep_no_more(self) -> None:
        """Note that a run has ended, or stopped: what comes after it draws what it has left."""

    def keep_on(self) -> None:
        """Note that the task waits for what a run needs that has stopped just now."""

    def set_aside(self, begun: int) -> Reserved:
        """Set numbers aside for a streamed run: those that come next.

        Args:
            begun: The number with which the run began, the newest one.
        """
        numbers = _after(begun)
        count = len(numbers)
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
            if newest_of(dbos_context()) == numbers.stop - 1:
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
        own = newest_of(dbos_context())
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
        self.keeping = None
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


def _after(begun: int) -> range:
    """What is set aside, or kept, for a run: the numbers that come next."""
    place = begun % BLOCK
    # A task that came further goes on as if nothing went on beside its runs.
    count = _OF_LONG if place < _LONG_STREAMS else _OF_MANY if place < _MANY_STREAMS else 0
    return range(begun + 1, begun + 1 + count)


class KeptNumbers(StepNumbers):
    """Draws what a run of the body's task keeps; what the task draws, where that is used up.

    Until something else is drawn from the workflow's counter, that is where the run is.

    Args:
        task: The numbers of the body's task.
        keeping: Whether runs keep any.
    """

    def __init__(self, task: StepNumbers, keeping: Keeping) -> None:
        process_state.of(_Counters)
        context = dbos_context()
        # A run around this one, as in a hook, draws what comes before it from now on.
        context.function_id += 0
        self._task = task
        self._keeping = keeping
        self._numbers = _after(newest_of(context))
        self._next: int = self._numbers.start - 1
        self._has_ended = False
        self._is_next = True
        """Whether nothing else was drawn until it ended."""
        vars(context)[_KEPT] = self

    def draw(self) -> StepReservation:
        if self._keeping.is_known is False or self._next == self._numbers.stop - 1:
            return self._task.draw()
        drawn = super().draw()
        self._be_at_newest()
        return drawn

    def _be_at_newest(self) -> None:
        """Let the workflow's counter be where the run is, if nothing else was drawn from it."""
        context = dbos_context()
        if vars(context).get(_KEPT) is self:
            vars(context)["function_id"] = self._next
            scope().drawn.add(self._next)

    def newest_beside(self, context: DBOSContext) -> int:
        """After which number something beside the run draws the next one."""
        return self._numbers.stop - 1 if self._keeping.asked() else newest_of(context)

    def come_before(self) -> None:
        """Note that something beside the run has drawn a number, unless the workflow ends."""
        if in_workflow() and self._keeping.asked():
            scope().set_aside.append(self._numbers)

    def keep(self) -> StepNumbers:
        return self._task.keep() if self._has_ended else self

    def keep_no_more(self) -> None:
        self._has_ended = True
        self._is_next = in_workflow() and vars(dbos_context()).get(_KEPT) is self
        if self._is_next:
            del vars(dbos_context())[_KEPT]

    def keep_on(self) -> None:
        self._has_ended = False
        if self._is_next:
            vars(dbos_context())[_KEPT] = self

    def newest(self) -> list[int] | None:
        of_task = self._task.newest()
        if of_task is None or self._keeping.is_known is False:
            return of_task
        return [*of_task, self._next]

    def go_back_to(self, newest: list[int]) -> None:
        if len(newest) == 2:
            self._task.go_back_to(newest)
        elif in_workflow():
            self._next = newest[2]
            self._be_at_newest()
            scope().drawn -= {number for number in self._numbers if number > self._next}


class _Counters(PerProcess):
    """A process has DBOS draw what comes next after the numbers that runs keep."""

    def __init__(self) -> None:
        DBOSContext.function_id = _Counter()  # type: ignore[assignment]  # it gives the same

    def close(self) -> None:
        del DBOSContext.function_id  # type: ignore[misc]  # as above


class _Counter:
    """In the place of the attribute of DBOS's contexts, which have the value as before."""

    def __get__(self, context: DBOSContext | None, owner: Any = None) -> Any:
        if context is None:
            return self
        kept: KeptNumbers | None = vars(context).get(_KEPT)
        return newest_of(context) if kept is None else kept.newest_beside(context)

    def __set__(self, context: DBOSContext, value: int) -> None:
        kept: KeptNumbers | None = vars(context).pop(_KEPT, None)
        if kept is not None:
            kept.come_before()
        vars(context)["function_id"] = value


__all__ = ["BLOCK", "Keeping", "Reserved", "StepNumbers", "StepReservation"]
