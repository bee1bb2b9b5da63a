"""Lets no effect begin in a process whose right to execute workflows has run out.

A host has that right for some seconds at a time (`journal/executor_claim.py`). It runs out by
itself where nobody prolongs it: a host that cannot reach the database needs nobody to tell it.
"""

from __future__ import annotations

import asyncio
import math
import time

from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess

_LOOK = 0.05
"""Seconds between two looks whether the lease was prolonged."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Where there is one, a clock that goes on while the machine sleeps."""


class Lease(PerProcess):
    """Until when effects may begin in this process; without a claim, always."""

    def __init__(self) -> None:
        self._until = math.inf
        self.is_over = False

    @property
    def is_valid(self) -> bool:
        return not self.is_over and now() < self._until

    @property
    def overdue(self) -> float:
        """How many seconds ago it ran out."""
        return max(now() - self._until, 0.0)

    def hold(self, until: float) -> None:
        """Let effects begin until then, by `now`."""
        self._until = until
        self.is_over = False

    def end(self) -> None:
        """Let no effect begin, and none later that waits for its turn by now."""
        self.is_over = True


def now() -> float:
    """Seconds of the clock by which leases are counted."""
    return time.clock_gettime(_CLOCK)


async def held() -> None:
    """Return at once while effects may begin; else wait for it.

    What waits when the lease is ended waits until it is cancelled: another process does it.
    """
    lease = process_state.of(Lease)
    while not lease.is_valid:
        if lease.is_over:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(_LOOK)
