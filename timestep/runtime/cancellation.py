"""Finishes work though its caller is cancelled, and cancels tasks for a reason that they raise."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


EXITS = (SystemExit, KeyboardInterrupt)
"""What code raises to end its process. asyncio lets it out of a task, and the loop ends with it."""


class Signal(BaseException):
    """Ends what code does for a reason of Timestep's own, and is no outcome of that code.

    Not an Exception: neither the SDK nor code that answers errors may answer it.
    """


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
    """How often the caller's task was cancelled, whatever it has answered to that; 0 in none."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return 0
    return 0 if task is None else task.cancelling()


async def over(task: asyncio.Future[Any]) -> None:
    """Wait until a task is done, however often the caller is cancelled."""
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])


def came_by_itself(error: BaseException, before: int) -> bool:
    """Whether work ended in a CancelledError though nobody cancelled the caller's task.

    A task inside it was cancelled, or it raised one: an outcome like any other.

    Args:
        error: What the work raised.
        before: What `cancels` gave before the work began.
    """
    return isinstance(error, asyncio.CancelledError) and cancels() <= before


class Cut:
    """Ends what its task does with a given error, as `asyncio.timeout` does with its own."""

    def __init__(self) -> None:
        self.cause: BaseException | None = None
        self._task: asyncio.Task[object] | None = None
        self._before = 0
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Cut:
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task is not None else 0
        return self

    def is_of_another(self, error: BaseException) -> bool:
        """Whether an error is a CancelledError though nobody cancelled the task that entered."""
        return came_by_itself(error, self._before)

    def now(self, cause: BaseException) -> None:
        """Cancel the task, and raise `cause` to whoever entered."""
        if self._task is not None and self.cause is None:
            self.cause = cause
            self._task.cancel()

    def after(self, seconds: float, cause: BaseException) -> None:
        """`now`, that many seconds from now. The first call counts."""
        if self._timer is None and self._task is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(seconds, 0), self.now, cause)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        task, self._task = self._task, None
        if self._timer is not None:
            self._timer.cancel()
        if self.cause is None or task is None:
            return
        is_ours_alone = task.uncancel() <= self._before
        if is_ours_alone or not isinstance(error, asyncio.CancelledError):
            raise self.cause from error
