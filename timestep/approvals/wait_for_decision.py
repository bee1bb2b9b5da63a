"""Parks workflows that wait for a person outside the process, or lets them wait in its memory.

An execution whose result nobody in its process awaits is parked: it is ended, and the workflow
stands in DBOS's table as one that is delayed. The decision that it waits for puts it back into
a queue, and it comes to where it was from its record. One thread of a process hears of
decisions, and takes what they bring back at once; DBOS's own look into its queues is slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import threading
import time
from collections.abc import Collection, Iterator

from timestep.database.error_translation import translated
from timestep.dbos_internals import executions, presence, workflow_scope
from timestep.dbos_internals.workflow_scope import Owner
from timestep.execution.identity import workflow_runs
from timestep.journal.recorder import Recorder
from timestep.runtime import draining, logs, process_state
from timestep.runtime.cancellation import Signal, in_thread
from timestep.runtime.process_state import PerProcess
from timestep.store import parked_workflows

_POLL = 1.0
"""Seconds between two looks for a decision that was not heard of."""

_SWEEP = 10.0
"""Seconds between two looks for parked workflows that DBOS has cancelled."""

_log = logs.logger()


class Parked(Signal):
    """Ends an execution whose workflow waits elsewhere. Nothing may answer it.

    Not an Exception: DBOS records none, and code that handles errors does not see it.
    """


async def park(recorder: Recorder, owner: Owner, questions: Collection[str]) -> None:
    """Park a workflow, whose execution nobody awaits, until its questions are decided or expire.

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
    decisions = process_state.of(Decisions)
    with decisions.awaited(workflow_id, asyncio.get_running_loop(), told):
        listen(recorder)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), min(seconds, _POLL))


class Decisions(PerProcess):
    """Hears of decisions, in a thread for each database, and tells those who wait for them.

    A thread runs while somebody waits in this process, or DBOS is launched in it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._threads: dict[Recorder, threading.Thread] = {}
        self._closing, self._close = os.pipe()
        """Both ends of a pipe: a thread that waits for its connection wakes once it is closed."""
        self._is_closed = False

    @contextlib.contextmanager
    def awaited(
        self, workflow_id: str, loop: asyncio.AbstractEventLoop, told: asyncio.Event
    ) -> Iterator[None]:
        """Have `told` set by a decision on something that a workflow asks."""
        entry = (workflow_id, loop, told)
        with self._lock:
            self._waiting.add(entry)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.discard(entry)

    def awaits(self, workflow_id: str) -> bool:
        """Whether somebody in this process waits for a workflow's decisions."""
        with self._lock:
            return any(waited_for == workflow_id for waited_for, *_ in self._waiting)

    def is_heard_by(self, thread: threading.Thread) -> bool:
        """Whether a thread is one of those that hear of decisions."""
        return thread in self._threads.values()

    def tell(self, workflow_id: str) -> None:
        with self._lock:
            for waited_for, loop, told in self._waiting:
                if waited_for == workflow_id and not loop.is_closed():
                    loop.call_soon_threadsafe(told.set)

    def listen(self, recorder: Recorder) -> None:
        with self._lock:
            if recorder not in self._threads and not self._is_closed:
                thread = threading.Thread(
                    target=self._listen, args=(recorder,), name="timestep-decisions", daemon=True
                )
                self._threads[recorder] = thread
                thread.start()

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            threads = list(self._threads.values())
        os.close(self._close)
        for thread in threads:
            thread.join()
        os.close(self._closing)

    def is_kept_in_child(self) -> bool:
        """A fork has copies of the pipe's ends: the parent's threads wait for the last to close."""
        os.close(self._close)
        os.close(self._closing)
        return False

    def _is_wanted(self) -> bool:
        return not self._is_closed and (bool(self._waiting) or presence.is_launched())

    def _listen(self, recorder: Recorder) -> None:
        swept = time.monotonic()
        while True:
            with self._lock:
                if not self._is_wanted():
                    del self._threads[recorder]
                    return
            try:
                with (
                    translated(recorder.url),
                    recorder.listening(parked_workflows.CHANNEL) as connection,
                ):
                    while self._is_wanted():
                        # What came while LISTEN was answered is read already: it is told first.
                        for notice in connection.notifies(timeout=0):
                            tell(**json.loads(notice.payload))
                        if time.monotonic() > swept + _SWEEP:
                            swept = time.monotonic()
                            recorder.end_cancelled()
                        self._wait(connection.fileno())
            except Exception as error:  # noqa: BLE001  # without it nothing is heard, or swept
                _log.debug("decisions cannot be heard of: %s", error)
                self._wait()

    def _wait(self, *connections: int) -> None:
        """Wait until there is something to read, or this is closed; at most `_POLL` seconds."""
        poll = select.poll()
        for descriptor in (self._closing, *connections):
            poll.register(descriptor, select.POLLIN)
        poll.poll(_POLL * 1000)


def listen(recorder: Recorder) -> None:
    """Hear of decisions from now on, for as long as this process waits, or executes workflows.

    PGlite tells nobody: there, who waits looks.
    """
    if recorder.mirror is None:
        process_state.of(Decisions).listen(recorder)


def tell(workflow_id: str, queue: str | None) -> None:
    """Let this process know of a decision: those who wait go on, and a parked one is taken."""
    process_state.of(Decisions).tell(workflow_id)
    # What a process that ends takes would stay with it until its next start.
    if queue is not None and presence.is_launched() and not draining.is_closed():
        try:
            executions.take_enqueued(queue)
        except Exception as error:  # noqa: BLE001  # DBOS looks into the queue again
            _log.warning("workflow %r is taken up later: %s", workflow_id, error)
