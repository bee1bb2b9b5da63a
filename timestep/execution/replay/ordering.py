"""Keeps the orders that a replay must repeat: steps begin as called, guardrails end as recorded.

DBOS looks a step up in a thread before it begins, so of two that were called one after the
other either may be through first. Effects begin in the order of the calls, as they do where
nothing is looked up: a guardrail that trips at once is heard before the model is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

from timestep.errors import ReplayError
from timestep.execution.record import RunRecord

_LOST_PATIENCE = 30.0
"""Seconds that a replayed step waits for what its record says must come first."""


class GuardrailOrder:
    """Hands over the results of a run's guardrails in the order in which they first ended.

    A check's position is its place among those that ended.

    Args:
        record: What is recorded of the run.
    """

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._newest = 0
        self._delivered: dict[int, asyncio.Event] = {}

    def next(self) -> int:
        """The position of a check that ends now."""
        self._newest = max([self._newest, *(row["position"] for row in self._recorded())]) + 1
        self._delivered[self._newest] = asyncio.Event()
        return self._newest

    @contextlib.asynccontextmanager
    async def in_order(self, position: int) -> AsyncIterator[None]:
        """Hand over a check's result after those that ended before it, as they first did."""
        self._of(position)
        try:
            for row in self._recorded():
                if row["position"] < position:
                    await self.wait_for(row)
            for other, event in list(self._delivered.items()):
                if other < position:
                    await event.wait()
            yield
        finally:
            self._delivered[position].set()

    async def wait_for(self, row: dict[str, Any]) -> None:
        """Wait until a recorded check was handed over.

        Raises:
            ReplayError: It was not in time.
        """
        await patiently(
            self._of(row["position"]), self._record.run_id, f"guardrail {row['guardrail_name']!r}"
        )

    def skip(self, position: int) -> None:
        """A check that will never be handed over holds up nobody."""
        if position in self._delivered:
            self._delivered[position].set()

    def skip_before(self, turn: int) -> None:
        """Checks of turns before this one are not made again."""
        for row in self._recorded():
            if row["turn"] < turn:
                self._of(row["position"]).set()

    def _recorded(self) -> list[dict[str, Any]]:
        return self._record.all("guardrail_results")

    def _of(self, position: int) -> asyncio.Event:
        return self._delivered.setdefault(position, asyncio.Event())


async def patiently(event: asyncio.Event, run_id: uuid.UUID, what: str) -> None:
    """Wait for what a run's record says must come first.

    Raises:
        ReplayError: It did not come.
    """
    try:
        await asyncio.wait_for(event.wait(), _LOST_PATIENCE)
    except TimeoutError:
        raise ReplayError(
            f"run {run_id} waited {_LOST_PATIENCE:.0f} s for {what}: its record and the code that "
            "replays it disagree; run it with the code that recorded it, or fork it"
        ) from None


class StartPlace:
    """Where a step stands among those of its run that were called and have not begun."""

    def __init__(self, ahead: list[asyncio.Event]) -> None:
        self._ahead = ahead
        self.left = asyncio.Event()

    async def first(self) -> None:
        """Wait until everything that was called before has begun or ended, and leave the line."""
        for other in self._ahead:
            await other.wait()
        self.left.set()


class StartOrder:
    """Lets the steps of a run begin in the order in which they were called."""

    def __init__(self) -> None:
        self._places: deque[StartPlace] = deque()

    @contextlib.contextmanager
    def entered(self) -> Iterator[StartPlace]:
        """Hold a place at the end, until the step has begun or its caller is done with it."""
        place = StartPlace([place.left for place in self._places if not place.left.is_set()])
        self._places.append(place)
        try:
            yield place
        finally:
            place.left.set()
            self._places.remove(place)
