"""A step whose outcome is used already, and whose rows are on their way.

No effect of its run begins, and nothing else of it is written, before they have landed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from timestep.runtime import draining


class Landing:
    """Of one run, at most one step at a time."""

    def __init__(self) -> None:
        self._writing: asyncio.Future[None] | None = None
        self.failure: BaseException | None = None
        """What was raised instead of landing."""

    @property
    def is_ahead(self) -> bool:
        """Whether a step is on its way, which is not the caller."""
        return self._writing is not None and self._writing is not asyncio.current_task()

    def begin(self, writing: Coroutine[Any, Any, None]) -> None:
        """Let a step's rows land while the SDK goes on; a host that stops waits for them."""
        draining.stay()
        self._writing = asyncio.ensure_future(writing)
        self._writing.add_done_callback(self._ended)

    def _ended(self, writing: asyncio.Future[None]) -> None:
        draining.leave()
        self._writing = None
        if not writing.cancelled() and (error := writing.exception()) is not None:
            self.failure = error

    async def over(self) -> None:
        """Wait until the step has landed, or failed to."""
        if self.is_ahead and self._writing is not None:
            await asyncio.wait([self._writing])
