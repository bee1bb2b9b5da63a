"""Lets time pass for an event loop, so that what is to end at its time need not be waited for.

A test of a timeout gives more seconds than the slowest machine takes to come to where the time is
to be over, and has them pass there: nothing depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import time

HOUR = 3600.0
"""Seconds that no test waits for."""


def pass_time(seconds: float = HOUR) -> None:
    """Let so many seconds pass for the caller's event loop: what was to happen meanwhile is due."""
    loop = asyncio.get_running_loop()
    passed = loop.time() - time.monotonic() + seconds
    loop.time = lambda: time.monotonic() + passed  # type: ignore[method-assign]


async def time_passed(seconds: float = HOUR) -> None:
    """Let so many seconds pass, and what was due meanwhile be done."""
    pass_time(seconds)
    # Behind everything that is due by now.
    await asyncio.sleep(0.001)
