"""Keeps where the ends of DBOS's own operations stand among those of a workflow's runs.

A place is a time, in milliseconds since 1970, which no other end of the workflow has: DBOS's record
of an operation holds it as the time of its completion. In a replay an end comes after all whose
recorded places are before its own. What an operation was called with decides its number, so an
operation with a number that was drawn already, and that does not go on, does not come any more.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from timestep.dbos_internals.ends import records
from timestep.dbos_internals.ends.records import GET_RESULT, SLEEP, Recorded
from timestep.dbos_internals.step_numbers import BLOCK

_NEVER = 2**63
"""A place after all others."""


class Order(Protocol):
    """The order that the ends of operations are told in, with those of runs."""

    operations: Operations

    @property
    def is_crowded(self) -> bool: ...

    def enter(self) -> None: ...

    def leave(self) -> None: ...

    def place(self, what: str, due: int | None, *, is_told: bool) -> int:
        """Draw a place for the end of an operation, which somebody is told of or not."""

    def forget(self, position: int) -> None: ...

    async def hand_over(self, position: int, what: str) -> None: ...

    async def until_past(self, what: str, workflow_id: str) -> None: ...


class Operations:
    """What one execution knows of its workflow's operations, and of those of earlier ones."""

    def __init__(self) -> None:
        self.newest = 0
        """The highest place that is recorded of what has ended."""
        self._under_way: dict[int, str | None] = {}
        """The children whose results are awaited, or none, by the numbers of what goes on."""
        self._recorded_as: dict[int, int | None] = {}
        """The numbers with which it is recorded; None: its own is recorded of something else."""
        self._reading, self._changing = threading.Lock(), threading.Lock()
        self._is_read = False
        self._places: dict[int, int] = {}
        self._of_child: dict[str, set[int]] = {}
        """The numbers of the results of a child that nobody asked for yet."""
        self._results: set[int] = set()
        """Those of all children."""
        self._left: deque[tuple[int, int]] = deque()
        """Places and numbers, in their order, of what may come yet."""
        self._of_runs: list[tuple[int, int]] = []
        """Places and numbers, in their order, of the steps of runs that have numbers of the
        workflow's own counter."""
        self.made_at = 0
        """When the workflow was made, in milliseconds since 1970."""
        self._copied_until = 0
        """Where what a fork has copied ends. What it does itself comes after that, though its runs
        may end anew that first ended before."""
        self._told: set[int] = set()
        """Numbers and places of what was handed over."""
        self.newest_number: Callable[[], int] = lambda: 0
        """The newest number that the workflow's code has drawn."""

    def begin(self, number: int, child: str | None) -> None:
        """Note that an operation begins.

        It need not have the number with which it is recorded: `asyncio.as_completed` awaits what it
        is given in any order, and earlier versions drew other numbers for the results of children.

        Args:
            number: The operation's.
            child: Whose result it gives.
        """
        with self._changing:
            self._under_way[number] = child
            if self._is_read:
                self._find(number)

    def _find(self, number: int) -> None:
        child = self._under_way[number]
        recorded: int | None = number
        if child is not None and self._of_child:
            numbers = self._of_child.get(child, set())
            if number not in numbers:
                is_of_other = number in self._results
                # A higher one may be that of the same child's next result: this was given up.
                found = (one for one in numbers if is_of_other or one < number)
                recorded = min(found, default=None if is_of_other else number)
            numbers.discard(recorded or 0)
        self._recorded_as[number] = recorded

    def leave(self, number: int) -> None:
        """Note that an operation has ended, or was given up: it is not waited for any more."""
        with self._changing:
            del self._under_way[number]
            recorded = self._recorded_as.pop(number, number)
        if recorded is not None:
            self.tell(recorded)

    def tell(self, told: int) -> None:
        """Note that the end with a number, or a place, is not waited for any more."""
        self._told.add(told)

    def nothing_is_recorded(self) -> None:
        """Note that nothing is recorded of the workflow."""
        self._is_read = True

    @property
    def are_known(self) -> bool:
        """Whether it is known what earlier executions recorded."""
        return self._is_read

    def know(self, workflow_id: str) -> None:
        """Read what is recorded of a workflow's operations, once; blocks."""
        with self._reading:
            if self._is_read:
                return
            everything = records.recorded(workflow_id)
            made = records.made(workflow_id) if everything else None
            with self._changing:
                self._read(everything)
                if made is not None:
                    self.made_at = made.at
                    self._copied_until = made.at if made.is_fork else 0
                for number in self._under_way:
                    self._find(number)
                self._is_read = True

    def come_after(self, newest: int) -> None:
        """Note the newest place of what has ended, which is known before all the others are."""
        self.newest = max(self.newest, newest)

    def _read(self, everything: list[Recorded]) -> None:
        of_runs = [one for one in everything if one.is_of_run and one.number < BLOCK]
        self._of_runs = sorted((one.completed_at, one.number) for one in of_runs)
        found = [one for one in everything if not one.is_of_run]
        for one in found:
            self._places[one.number] = one.completed_at
            if one.name == GET_RESULT and one.child is not None:
                self._of_child.setdefault(one.child, set()).add(one.number)
                self._results.add(one.number)
            if one.name != SLEEP:
                self.newest = max(self.newest, one.completed_at)
        self._left.extend(sorted((one.completed_at, one.number) for one in found))

    def place_of(self, number: int) -> int | None:
        """Where the end of an operation that goes on stands, if it is recorded."""
        recorded = self._recorded_as.get(number, number)
        return None if recorded is None else self._places.get(recorded)

    def first_before(self, place: int, *, is_repeated: bool) -> int | None:
        """The number of the first operation that ended before a place, and comes yet.

        Args:
            place: The place.
            is_repeated: Whether what has not begun will.
        """
        with self._changing:
            while self._left and self._is_past(*self._left[0], is_repeated=is_repeated):
                self._left.popleft()
            if self._left and self._left[0][0] <= self._copied_until < place:
                left = (one for one in self._left if one[0] > self._copied_until)
                left = (one for one in left if not self._is_past(*one, is_repeated=is_repeated))
                first = next(left, None)
            else:
                first = self._left[0] if self._left else None
            return first[1] if first is not None and first[0] < place else None

    def left(self, *, is_repeated: bool) -> tuple[int, int] | None:
        """The place and the number of something that is recorded, and comes yet.

        Args:
            is_repeated: Whether what has not begun will.
        """
        if (number := self.first_before(_NEVER, is_repeated=is_repeated)) is not None:
            return self._places[number], number
        newest = self.newest_number()
        of_runs = (one for one in self._of_runs if is_repeated and one[1] > newest)
        return next(of_runs, None)

    @property
    def are_over(self) -> bool:
        """Whether the workflow has ended: DBOS's counter of it is there no more."""
        return self.newest_number() < 0

    def _is_past(self, place: int, number: int, *, is_repeated: bool) -> bool:
        if place in self._told or number in self._told:
            return True
        return not self._comes(number, is_repeated=is_repeated)

    def _comes(self, number: int, *, is_repeated: bool) -> bool:
        if number in self._recorded_as.values():
            return True
        return is_repeated and self.newest_number() < number < BLOCK


class OperationEnd:
    """The end of one operation, which begins.

    Args:
        order: The order of the ends beside it.
        workflow_id: Whose it is.
        number: Its own.
        what: What it is, for people.
        child: The workflow whose result it gives, if it does.
    """

    def __init__(
        self, order: Order, workflow_id: str, number: int, what: str, child: str | None
    ) -> None:
        self._order = order
        self._workflow_id = workflow_id
        self._number = number
        self._what = f"step {number} ({what}) ends"
        self._lock = threading.Lock()
        self._place: int | None = None
        self._mistaken: int | None = None
        """A place that was drawn, though an earlier execution had recorded another one."""
        self._is_over = False
        order.operations.begin(number, child)
        order.enter()

    def stamp(self, due: int | None, newest: Callable[[], int]) -> int:
        """Its place, which is drawn now if none was."""
        order = self._order
        if order.is_crowded and not order.operations.are_known:
            order.operations.come_after(newest())
        with self._lock:
            if self._place is None:
                # Where its caller was cancelled, DBOS records it all the same.
                self._place = order.place(self._what, due, is_told=not self._is_over)
            return self._place

    def take_back(self) -> None:
        """Forget the place that was drawn, when the loop comes to its end."""
        with self._lock:
            self._mistaken, self._place = self._place, None

    async def may_begin(self) -> None:
        """Return when the operation may begin, of which no end need be recorded."""
        operations = self._order.operations
        if not operations.are_known:
            await asyncio.to_thread(operations.know, self._workflow_id)
        if operations.place_of(self._number) is None:
            await self._order.until_past(self._what, self._workflow_id)

    async def hand_over(self) -> None:
        """Return when it is the turn of the end; at once where none is recorded.

        Raises:
            ReplayError: A run that ended before it, as the record holds, did not come again.
        """
        place, operations = self._place, self._order.operations
        if self._mistaken is not None:
            self._order.forget(self._mistaken)
        if not operations.are_known and (place is None or self._order.is_crowded):
            await asyncio.to_thread(operations.know, self._workflow_id)
        if place is None:
            place = operations.place_of(self._number)
        if place is not None:
            await self._order.hand_over(place, self._what)
            operations.tell(place)

    def leave(self) -> None:
        """Let nobody wait for the end any more."""
        with self._lock:
            self._is_over, place = True, self._place or self._mistaken
        self._order.operations.leave(self._number)
        if place is not None:
            self._order.forget(place)
        self._order.leave()
