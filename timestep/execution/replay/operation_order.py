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


class Operations:
    """What one execution knows of its workflow's operations, and of those of earlier ones."""

    def __init__(self) -> None:
        self.newest = 0
        """The highest place that is recorded of what has ended."""
        self.under_way: set[int] = set()
        self._lock = threading.Lock()
        self._is_read = False
        self._places: dict[int, int] = {}
        self._of_child: dict[str, dict[int, int]] = {}
        self._left: deque[tuple[int, int]] = deque()
        """Places and numbers, in their order, of what may come yet."""
        self._copied_until = 0
        """Where what a fork has copied ends. What it does itself comes after that, though its runs
        may end anew that first ended before."""
        self._told: set[int] = set()
        """Numbers and places of what was handed over."""
        self.newest_number: Callable[[], int] = lambda: 0
        """The newest number that the workflow's code has drawn."""

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
        with self._lock:
            if self._is_read:
                return
            self._read(records.recorded(workflow_id))
            if self._left:
                self._copied_until = records.copied_until(workflow_id)
            self._is_read = True

    def come_after(self, newest: int) -> None:
        """Note the newest place of what has ended, which is known before all the others are."""
        self.newest = max(self.newest, newest)

    def _read(self, found: list[Recorded]) -> None:
        for one in found:
            self._places[one.number] = one.completed_at
            if one.name == GET_RESULT and one.child is not None:
                self._of_child.setdefault(one.child, {})[one.number] = one.completed_at
            if one.name != SLEEP:
                self.newest = max(self.newest, one.completed_at)
        self._left.extend(sorted((one.completed_at, one.number) for one in found))

    def place_of(self, number: int, child: str | None) -> int | None:
        """Where the end of an operation stands, as is recorded.

        Args:
            number: The operation's.
            child: Whose result it gives: earlier versions drew other numbers for that.
        """
        if child is not None and (places := self._of_child.get(child)):
            return places.pop(number if number in places else min(places))
        return self._places.get(number)

    def first_before(self, place: int, *, is_repeated: bool) -> int | None:
        """The number of the first operation that ended before a place, and comes yet.

        Args:
            place: The place.
            is_repeated: Whether what has not begun will.
        """
        while self._left and self._is_past(*self._left[0], is_repeated=is_repeated):
            self._left.popleft()
        if self._left and self._left[0][0] <= self._copied_until < place:
            left = (one for one in self._left if one[0] > self._copied_until)
            left = (one for one in left if not self._is_past(*one, is_repeated=is_repeated))
            first = next(left, None)
        else:
            first = self._left[0] if self._left else None
        return first[1] if first is not None and first[0] < place else None

    def _is_past(self, place: int, number: int, *, is_repeated: bool) -> bool:
        if place in self._told or number in self._told:
            return True
        return not self._comes(number, is_repeated=is_repeated)

    def _comes(self, number: int, *, is_repeated: bool) -> bool:
        if number in self.under_way:
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
        self._child = child
        self._lock = threading.Lock()
        self._place: int | None = None
        self._mistaken: int | None = None
        """A place that was drawn, though an earlier execution had recorded another one."""
        self._is_over = False
        order.operations.under_way.add(number)
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
            place = operations.place_of(self._number, self._child)
        if place is not None:
            await self._order.hand_over(place, self._what)
            operations.tell(place)

    def leave(self) -> None:
        """Let nobody wait for the end any more."""
        with self._lock:
            self._is_over, place = True, self._place or self._mistaken
        self._order.operations.under_way.discard(self._number)
        self._order.operations.tell(self._number)
        if place is not None:
            self._order.forget(place)
        self._order.leave()
