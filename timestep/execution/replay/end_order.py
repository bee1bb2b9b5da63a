"""Hands over what ends side by side in the order in which it first ended.

The end of a run, or of a call, has a position among those beside it, which is recorded with it.
In the first execution ends are handed to the code in the order of their positions, whichever
commit is through first; in a replay each after all that the record holds before it. What is
recorded comes before what is not.

Code that is handed an end takes some turns of the loop until it has done what it does then. No
other end is handed over meanwhile, in no execution, or the two could change places behind
another number of tasks.
"""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass

from timestep.errors import ReplayError
from timestep.runtime import logs

_log = logs.logger()

TICKS = 20
"""Turns of the loop that the tasks which carry an end on have until the next one is told."""

LOOK = 0.01
"""Seconds until a replay looks again whether an operation of DBOS's has begun."""

PATIENCE = 30.0
"""Seconds that a replay waits for what must come first, beyond those that it first took."""


@dataclass(frozen=True)
class Blocker:
    """What must come first."""

    what: str
    is_recorded: bool
    """Whether an earlier execution recorded it, and this one need not come to it."""
    step: int | None = None
    """The number of an operation of DBOS's, of which nobody tells that it will not come."""


class EndOrder:
    """Hands over the ends of what goes on side by side, in one execution."""

    def __init__(self) -> None:
        self.newest = 0
        """The highest position that was drawn, or is recorded."""
        self.told = 0
        """The highest position that was handed over."""
        self.patience = PATIENCE
        self._under_way = 0
        self._open: dict[int, Blocker] = {}
        """What has not been handed over, by its position."""
        self._done: set[int] = set()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._watching: list[asyncio.Future[None]] = []
        """Who waits until nothing is open."""
        self._is_settling = False

    def enter(self) -> None:
        """Note that one more goes on, whose end will be handed over or not."""
        self._under_way += 1

    def leave(self) -> None:
        """Note that one has ended."""
        self._under_way -= 1

    @property
    def is_crowded(self) -> bool:
        """Whether several go on side by side."""
        return self._under_way > 1

    def draw(self, what: str) -> int:
        """The position of an end that is not recorded; whoever draws it hands it over."""
        self.newest += 1
        self._open[self.newest] = Blocker(what, is_recorded=False)
        return self.newest

    def expect(self, position: int, what: str) -> None:
        """Note that the record holds an end, which comes again in this execution."""
        self.newest = max(self.newest, position)
        if position not in self._done:
            self._open.setdefault(position, Blocker(what, is_recorded=True))

    def forget(self, position: int) -> None:
        """Wait no more for an end that may not come again."""
        self._close(position)
        self._wake()

    async def until_told(self) -> None:
        """Wait until each end that has come, or is recorded, was handed over, or forgotten.

        What is recorded is waited for as long as a replay waits for what must come first.
        """
        deadline = time.monotonic() + self.patience
        while self._open:
            told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._watching.append(told)
            left = max(0.0, deadline - time.monotonic())
            if not (await asyncio.wait([told], timeout=left))[0]:
                return

    def _close(self, position: int) -> None:
        self._open.pop(position, None)
        if not self._open:
            watching, self._watching = self._watching, []
            for told in watching:
                _end(told)

    async def hand_over(self, position: int, what: str) -> None:
        """Wait until everything before an end was handed over; then it is.

        Args:
            position: Its position.
            what: What ends, for people.

        Raises:
            ReplayError: What the record holds before it did not come again.
        """
        self.newest = max(self.newest, position)
        try:
            await self._in_turn(position, what)
        finally:
            self._close(position)
            self._done.add(position)
            self._tell(position)
            if self.is_crowded:
                self._settle(TICKS)
            else:
                self._wake()

    def _tell(self, position: int) -> None:
        """Note that an end was handed over."""
        self.told = max(self.told, position)

    async def _in_turn(self, position: int, what: str) -> None:
        own = self._open.get(position)
        is_recorded = own is not None and own.is_recorded
        patience = self.patience if is_recorded else PATIENCE
        deadline: float | None = None
        while (blocker := self._before(position)) is not None:
            if not blocker.is_recorded:
                deadline = None
            elif deadline is None:
                deadline = time.monotonic() + patience
            if await self._changed(position, deadline, LOOK if blocker.step is not None else None):
                continue
            lost = (
                f"{blocker.what} before {what}, as the record tells, and has not done so in "
                f"{patience:.0f} s of a replay"
            )
            if is_recorded and blocker.step is None:
                raise ReplayError(
                    f"{lost}: the code takes another way than the code that was recorded; run it "
                    "with that one, or fork the run"
                )
            # It has ended only now, and the record does not tell that anything came after it.
            _log.warning("%s, which goes on without it", lost)
            if blocker.step is None:
                return
            self._give_up(blocker.step)

    async def _changed(self, position: int, deadline: float | None, look: float | None) -> bool:
        """Wait until something was handed over, or it is time to look; False: it is too late."""
        changed = self._waiting[position] = asyncio.get_running_loop().create_future()
        left = math.inf if deadline is None else deadline - time.monotonic()
        wait = min(left, math.inf if look is None else look)
        try:
            await asyncio.wait([changed], timeout=None if wait == math.inf else wait)
        finally:
            del self._waiting[position]
        return changed.done() or wait < left

    def _give_up(self, step: int) -> None:
        """Wait no more for an operation that did not come."""

    def _before(self, position: int) -> Blocker | None:
        """What has to come before an end is handed over."""
        if position in self._done:
            return None
        # Another thread may draw meanwhile.
        first = min((p for p in list(self._open) if self._comes(p)), default=position)
        if first < position:
            return self._open[first]
        if self._is_settling:
            return Blocker("another one ended", is_recorded=False)
        return None

    def _comes(self, position: int) -> bool:
        """Whether an end that is not handed over is waited for."""
        return True

    def _settle(self, ticks: int) -> None:
        self._is_settling = ticks > 0
        if ticks:
            asyncio.get_running_loop().call_soon(self._settle, ticks - 1)
        else:
            self._wake()

    def _wake(self) -> None:
        """Let the first that waits look again."""
        if not self._waiting:
            return
        first = self._waiting[min(self._waiting)]
        if not first.done():
            first.get_loop().call_soon_threadsafe(_end, first)


def _end(changed: asyncio.Future[None]) -> None:
    if not changed.done():
        changed.set_result(None)
