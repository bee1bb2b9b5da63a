"""Parks workflows that wait for a person outside the process, or lets them wait in its memory.

An execution whose result nobody in its process awaits is parked: it is ended, and the workflow
stands in DBOS's table as one that is delayed. The decision that it waits for puts it back into
a queue, and it comes to where it was from its record. One thread of a process hears of
decisions, and takes what they bring back at once; DBOS's own look into its queues is slower.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Collection

from timestep.database.error_translation import translated
from timestep.dbos_internals import executions, process, workflow_scope
from timestep.dbos_internals.workflow_scope import Owner
from timestep.execution.identity import workflow_runs
from timestep.journal.recorder import Recorder
from timestep.runtime import draining
from timestep.runtime.cancellation import in_thread
from timestep.store import parked_workflows

_POLL = 1.0
"""Seconds between two looks for a decision that was not heard of."""

_SWEEP = 10.0
"""Seconds between two looks for parked workflows that DBOS has cancelled."""

_log = logging.getLogger("timestep")


class Parked(BaseException):
    """Ends an execution whose workflow waits elsewhere. Nothing may answer it.

    Not an Exception: DBOS records none, and code that handles errors does not see it.
    """


async def park(recorder: Recorder, owner: Owner, questions: Collection[str]) -> None:
    """End this execution, if nobody awaits it, until questions are decided or expire.

    Returns only where something was decided meanwhile, or the execution has to stay.

    Raises:
        Parked: The workflow is parked.
    """
    if recorder.mirror is not None:
        # DBOS's tables are in another database: no transaction of both could park it.
        return
    if workflow_runs().lanes > 1 or not workflow_scope.is_own_task():
        # What other tasks of the workflow do would be cut off.
        return
    values = {
        "workflow_id": owner.workflow_id,
        "token": owner.token,
        "questions": list(questions),
        "internal_queue": executions.INTERNAL_QUEUE_NAME,
        "numbers": workflow_scope.numbers_of_code(),
        "is_unattended": workflow_scope.is_unattended(owner.workflow_id),
    }

    def attempt() -> bool | None:
        with recorder.transactions.begin() as connection:
            return parked_workflows.park(connection, recorder.schema, values)

    listen(recorder)
    if await in_thread(lambda: recorder.patiently(attempt)):
        raise Parked


async def until_told(recorder: Recorder, workflow_id: str, seconds: float) -> None:
    """Wait until something that a workflow asks is decided, at most so many seconds.

    A decision that is not heard of ends the wait a little later.
    """
    told = asyncio.Event()
    entry = (workflow_id, asyncio.get_running_loop(), told)
    with _lock:
        _waiting.add(entry)
    try:
        listen(recorder)
        await asyncio.wait_for(told.wait(), min(seconds, _POLL))
    except TimeoutError:
        return
    finally:
        with _lock:
            _waiting.discard(entry)


_lock = threading.Lock()
_waiting: set[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = set()
_listeners: dict[Recorder, threading.Thread] = {}


def listen(recorder: Recorder) -> None:
    """Hear of decisions from now on, for as long as this process waits, or executes workflows.

    PGlite tells nobody: there, who waits looks.
    """
    if recorder.mirror is not None:
        return
    with _lock:
        if recorder not in _listeners:
            thread = threading.Thread(
                target=_listen, args=(recorder,), name="timestep-decisions", daemon=True
            )
            _listeners[recorder] = thread
            thread.start()


def tell(workflow_id: str, queue: str | None) -> None:
    """Let this process know of a decision: those who wait go on, and a parked one is taken."""
    with _lock:
        for waited_for, loop, told in _waiting:
            if waited_for == workflow_id and not loop.is_closed():
                loop.call_soon_threadsafe(told.set)
    # What a process that ends takes would stay with it until its next start.
    if queue is not None and process.is_launched() and not draining.is_closed():
        try:
            executions.take_enqueued(queue)
        except Exception as error:  # noqa: BLE001  # DBOS looks into the queue again
            _log.warning("workflow %r is taken up later: %s", workflow_id, error)


def _is_wanted() -> bool:
    return bool(_waiting) or process.is_launched()


def _listen(recorder: Recorder) -> None:
    swept = time.monotonic()
    while True:
        with _lock:
            if not _is_wanted():
                del _listeners[recorder]
                return
        try:
            with (
                translated(recorder.url),
                recorder.listening(parked_workflows.CHANNEL) as connection,
            ):
                while _is_wanted():
                    for notice in connection.notifies(timeout=_POLL):
                        tell(**json.loads(notice.payload))
                    if time.monotonic() > swept + _SWEEP:
                        swept = time.monotonic()
                        recorder.end_cancelled()
        except Exception as error:  # noqa: BLE001  # without this thread nothing is heard, or swept
            _log.debug("decisions cannot be heard of: %s", error)
            time.sleep(_POLL)
