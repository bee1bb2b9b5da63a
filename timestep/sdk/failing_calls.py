"""Lets what a failing call's siblings had done come to the SDK before it cancels them.

Where a call's body ends, the SDK keeps its output in the same turn of the event loop. Here the
outcome is recorded first, and a sibling that fails meanwhile must not take it away: the call has
been made, and nobody may make it again.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

from timestep.execution.run import Run


async def raise_failure(run: Run, original: Any, batch: Any, failure: Any) -> Any:
    """Cancel the function calls beside one that failed."""
    await run.call_ends.until_told()
    return await original(batch, failure)


async def gather_kinds(run: Run, original: Any, *kinds: Awaitable[Any], **options: Any) -> Any:
    """Make a turn's calls of all kinds: functions, shells, editors, computers, custom tools."""
    try:
        return await original(*(_told(run, kind) for kind in kinds), **options)
    finally:
        for kind in kinds:
            # One whose task was cancelled before it began would be warned of.
            if (
                inspect.iscoroutine(kind)
                and inspect.getcoroutinestate(kind) == inspect.CORO_CREATED
            ):
                kind.close()


async def _told(run: Run, calls: Awaitable[Any]) -> Any:
    try:
        return await calls
    except BaseException:
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            await run.call_ends.until_told()
        raise
