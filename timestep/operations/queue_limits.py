"""Refuses to start what would wait in a queue in which too many wait already."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from timestep import config
from timestep.database.error_translation import translated
from timestep.errors import DatabaseError, QueueFullError
from timestep.journal.reads.database import database
from timestep.journal.reads.workflow_records import workflow_record
from timestep.runtime.cancellation import in_thread, over
from timestep.store.fleet import queues

_PAUSE = 0.005
"""Seconds until it is asked again whether nobody else puts something into the queue."""
_LONGEST_PAUSE = 0.1


@contextlib.asynccontextmanager
async def room_in(queue: str, workflow_id: str | None) -> AsyncIterator[None]:
    """Let one workflow be put into a queue, and nobody else put one in meanwhile.

    So no more wait than may, however many processes start some at the same time: of those that
    start here. With PGlite, those of one moment may be more.

    Args:
        queue: Its name.
        workflow_id: The id that was asked for: one that is there already needs no room.

    Raises:
        QueueFullError: As many wait as `TIMESTEP_QUEUE_LIMIT` allows.
        ConfigurationError: That is no number.
        DatabaseError: The database refused, or is away.
    """
    limit = config.read().queue_limit
    if limit is None:
        yield
        return
    async with _alone(queue):
        if not await asyncio.to_thread(_has_room, queue, limit, workflow_id):
            raise QueueFullError(
                f"as many workflows wait in the queue {queue!r} as may: {limit}. Start it again "
                "later, or raise TIMESTEP_QUEUE_LIMIT"
            )
        yield


def _has_room(queue: str, limit: int, workflow_id: str | None) -> bool:
    found = database()
    with translated(found.url), found.system() as (connection, schema):
        if not queues.is_full(connection, schema, queue, limit):
            return True
    return workflow_id is not None and workflow_record(workflow_id) is not None


@contextlib.asynccontextmanager
async def _alone(queue: str) -> AsyncIterator[None]:
    """Have no other process, nor this one, be in here for the same queue meanwhile."""
    found = database()
    if found.mirror is not None:
        yield
        return
    pause = _PAUSE
    # A thread that waited could be the one that who is in here needs to go on.
    while (held := await _unless_cancelled(queue)) is None:
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    try:
        yield
    finally:
        await _let_others_in(held)


async def _unless_cancelled(queue: str) -> contextlib.ExitStack | None:
    """As `_locked`; who is cancelled meanwhile keeps nobody out."""
    attempt = asyncio.create_task(asyncio.to_thread(_locked, queue))
    try:
        return await asyncio.shield(attempt)
    except asyncio.CancelledError:
        await over(attempt)
        if attempt.exception() is None and (held := attempt.result()) is not None:
            await _let_others_in(held)
        raise


async def _let_others_in(held: contextlib.ExitStack) -> None:
    # Where the connection was lost, nobody is kept out by it.
    with contextlib.suppress(DatabaseError):
        await in_thread(held.close)


def _locked(queue: str) -> contextlib.ExitStack | None:
    """What lets others in when it is closed; None: another one is in."""
    found = database()
    with contextlib.ExitStack() as stack:
        stack.enter_context(translated(found.url))
        connection = stack.enter_context(found.transactions.begin())
        if queues.try_lock(connection, queue):
            return stack.pop_all()
    return None
