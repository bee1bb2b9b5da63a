"""Repeats a model call that failed; nothing above or below repeats what is repeated here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from timestep.runtime import lease
from timestep.runtime.cancellation import cancels
from timestep.serialization import exceptions

sleep = asyncio.sleep

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """An attempt that failed and was followed by another."""

    attempt: int
    """Counted from 1."""
    envelope: dict[str, Any]
    began: float
    """On `time.monotonic`."""
    duration_ms: int


class ModelAttempts(Generic[T]):
    """Asks until there is an answer, or an error that asking again cannot help.

    A process that dies between two attempts leaves nothing of them: the step begins again.

    Args:
        ask: Makes one attempt; it is given the attempt's number.
        pause_after: How long to wait, in seconds, after an attempt that failed, given its
            error and its number; None: no other one is made, and the error is the answer.
    """

    def __init__(
        self,
        ask: Callable[[int], Awaitable[T]],
        pause_after: Callable[[Exception, int], Awaitable[float | None]],
    ) -> None:
        self.failures: list[Failure] = []
        self._ask = ask
        self._pause_after = pause_after
        self.began = time.monotonic()
        """When the attempt began that is made, or that ended the call."""

    @property
    def number(self) -> int:
        """Of the attempt that is made, or that ended the call."""
        return len(self.failures) + 1

    @property
    def duration_ms(self) -> int:
        """How long that attempt has taken."""
        return round((time.monotonic() - self.began) * 1000)

    async def answer(self) -> T:
        """The model's answer.

        Raises:
            Exception: What the last attempt raised.
        """
        before = cancels()
        while True:
            self.began = time.monotonic()
            try:
                return await self._ask(self.number)
            except Exception as error:
                duration_ms = self.duration_ms
                if cancels() > before:
                    # It is what a cancelled attempt ended with: nobody wants another.
                    raise
                pause = await self._pause_after(error, self.number)
                if pause is None:
                    raise
                envelope = exceptions.seal(error)
                failure = Failure(self.number, envelope, self.began, duration_ms)
            self.failures.append(failure)
            self.began = time.monotonic()
            await sleep(pause)
            await lease.held()
