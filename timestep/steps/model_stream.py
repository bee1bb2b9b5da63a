"""Hands what a model says to its consumer at once, and to the record in batches.

A token is not a transaction: events wait for each other for a moment, and those that still
wait when the answer is there are written with it. Each batch is fenced as a step's rows are.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import groupby
from typing import Any

from timestep.errors import DatabaseError
from timestep.execution.run import Run
from timestep.serialization.ids import derived
from timestep.serialization.stream_events import decode_event, encode_event
from timestep.serialization.values import restored, storable
from timestep.steps.step import Refused

FLUSH_AFTER = 0.1
"""Seconds that an event waits for others before it is written."""

FLUSH_AT = 500
"""How many events are not waited with any longer."""


class Stream:
    """The stream of one answer, live in the execution that asks for it, else from its record.

    Attempts are counted over all executions of the step: an execution that died left those
    before. A replay gives what the execution that ended the step saw, its failed attempts
    included, and nothing of those before it.

    Args:
        run: The run whose answer it is.
        emit: Hands an event to the consumer.
    """

    def __init__(self, run: Run, emit: Callable[[Any], None]) -> None:
        self.is_live = False
        """Whether the model was asked in this execution."""
        self._run = run
        self._emit = emit
        self._recorded: list[dict[str, Any]] = []
        self._first_attempt = 1
        self._attempt = 1
        self._positions: Counter[int] = Counter()
        self._pending: list[tuple[int, Any]] = []
        self._has_pending = asyncio.Event()
        self._is_full = asyncio.Event()
        self._is_closed = False
        self._last: Any = None

    async def open(self, response_id: uuid.UUID, turn: int) -> None:
        """Begin the stream of an answer, and find what is recorded of that."""
        self._response_id = response_id
        self._turn = turn
        self._recorded = [
            row
            for row in await self._run.record.stream_batches()
            if row["model_response_id"] == response_id
        ]
        self._first_attempt = max((row["attempt"] for row in self._recorded), default=0) + 1

    def events(self) -> list[Any]:
        """The recorded events that the execution which ended the step handed out."""
        newest = max((row["first_attempt"] for row in self._recorded), default=0)
        return [
            decode_event(event)
            for row in self._recorded
            if row["first_attempt"] == newest
            for event in restored(row["events"])
        ]

    def begin(self, attempt: int) -> None:
        """Events from here on are of this attempt of the execution, counted from 1."""
        self._attempt = self._first_attempt + attempt - 1

    def hand_out(self, event: Any) -> None:
        """Give an event to the consumer, and keep it for the record."""
        self._emit(event)
        self.keep(event)

    def end_with(self, event: Any) -> None:
        """Keep an answer's last event, which the consumer gets once the step is recorded.

        An answer that comes while it is given up is none, and the event is not heard.
        """
        self._last = event

    def keep(self, event: Any) -> None:
        """Keep an event for the record."""
        self._pending.append((self._attempt, event))
        self._has_pending.set()
        if len(self._pending) >= FLUSH_AT:
            self._is_full.set()

    @contextlib.asynccontextmanager
    async def being_recorded(self) -> AsyncIterator[None]:
        """Write events behind the back of the model's call, which ends if they are refused.

        Raises:
            DBOSWorkflowCancelledError, DBOSWorkflowConflictIDError: This execution does not
                own the workflow any more.
            Refused: The database refused the events for good.
        """
        self.is_live = True
        speaking = asyncio.current_task()
        assert speaking is not None
        cancelling = speaking.cancelling()
        flushing = asyncio.create_task(self._flush_often())

        def stop_speaking(done: asyncio.Task[None]) -> None:
            if done.exception() is not None and not self._is_closed:
                speaking.cancel()

        flushing.add_done_callback(stop_speaking)
        try:
            try:
                yield
                if self._last is not None:
                    self.keep(self._last)
            finally:
                self._close()
                await asyncio.wait([flushing])
        except asyncio.CancelledError:
            error = flushing.exception() if flushing.done() else None
            if error is None or speaking.uncancel() > cancelling:
                raise
            raise error from None
        flushing.result()

    def rest(self) -> list[dict[str, Any]]:
        """The batches to be written with the step's own rows; one of them even without events.

        A replay tells by it which execution ended the step.
        """
        return self._batches(self._taken()) or [self._batch(self._attempt, [])]

    def _close(self) -> None:
        self._is_closed = True
        self._has_pending.set()
        self._is_full.set()

    async def _flush_often(self) -> None:
        while True:
            await self._has_pending.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_full.wait(), FLUSH_AFTER)
            if self._is_closed:
                return
            pending = self._taken()
            try:
                batches = await asyncio.to_thread(self._batches, pending)
                await self._run.recorder.commit(self._run.owner, {"stream_batches": batches})
            except DatabaseError as error:
                raise Refused(error) from error

    def _taken(self) -> list[tuple[int, Any]]:
        pending, self._pending = self._pending, []
        if not self._is_closed:
            self._has_pending.clear()
            self._is_full.clear()
        return pending

    def _batches(self, events: list[tuple[int, Any]]) -> list[dict[str, Any]]:
        return [
            self._batch(attempt, [encode_event(event) for _, event in same])
            for attempt, same in groupby(events, key=lambda one: one[0])
        ]

    def _batch(self, attempt: int, events: list[Any]) -> dict[str, Any]:
        position = self._positions[attempt]
        self._positions[attempt] += len(events)
        return {
            "id": str(derived(self._response_id, f"events:{attempt}:{position}")),
            "run_id": str(self._run.id),
            "model_response_id": str(self._response_id),
            "turn": self._turn,
            "attempt": attempt,
            "first_attempt": self._first_attempt,
            "position": position,
            "events": storable(events),
        }
