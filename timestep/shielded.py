"""Work that goes on to its end when its caller is cancelled, who waits for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Steadfast(asyncio.Future[T]):
    """A future that cannot be cancelled: whoever awaits it is told so once it is done."""

    def cancel(self, msg: Any = None) -> bool:
        return False


async def in_thread(work: Callable[[], T]) -> T:
    """Run blocking work off the loop; a cancelled caller still waits for it."""
    return await to_its_end(asyncio.to_thread(work))


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; a cancelled caller still waits for it.

    A commit that goes on behind the back of a cancelled step could land after the run's end
    was recorded.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await over(task)
        raise


def cancels() -> int:
    """How often the caller's task was cancelled, whatever it has answered to that."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def over(task: asyncio.Future[Any]) -> None:
    """Wait until a task is done, however often the caller is cancelled."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
