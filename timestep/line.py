"""The line in which a run's steps wait to begin.

DBOS looks a step up in a thread before it begins, so of two that were called one after the
other either may be through first. Effects begin in the order of the calls, as they do where
nothing is looked up: a guardrail that trips at once is heard before the model is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator


class Place:
    """Where a step stands in its run's line."""

    def __init__(self, ahead: list[asyncio.Event]) -> None:
        self._ahead = ahead
        self.left = asyncio.Event()

    async def first(self) -> None:
        """Wait until everything that was called before has begun or ended, and leave the line."""
        for other in self._ahead:
            await other.wait()
        self.left.set()


class Line:
    """The steps of a run that were called and have not begun."""

    def __init__(self) -> None:
        self._places: deque[Place] = deque()

    @contextlib.contextmanager
    def entered(self) -> Iterator[Place]:
        """Hold a place at the end, until the step has begun or its caller is done with it."""
        place = Place([place.left for place in self._places if not place.left.is_set()])
        self._places.append(place)
        try:
            yield place
        finally:
            place.left.set()
            self._places.remove(place)
