"""Hands over what ends side by side in the order in which it first ended.

The end of a run, or of a call, has a position among those beside it, which is recorded with it.
In the first execution ends are handed to the code in the order of their positions, whichever
commit is through first; in a replay each after all that the record holds before it. What is
recorded comes before what is not.

Code that is handed an end takes some turns of the loop until it has done what it does then. No
other end is handed over meanwhile, in no execution, or the two could change places behind
another number of tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from timestep.errors import ReplayError
from timestep.execution.record import RunRecord

_log = logging.getLogger("timestep")

_TICKS = 20
"""Turns of the loop that the tasks which carry an end on have until the next one is told."""

_PATIENCE = 30.0
"""Seconds that a replay waits for what must come first, beyond those that it first took."""


@dataclass(frozen=True)
class _Blocker:
    """What must come first."""

    what: str
    is_recorded: bool
    """Whether an earlier execution recorded it, and this one need not come to it."""


class EndOrder:
    """Hands over the ends of what goes on side by side, in one execution."""

    def __init__(self) -> None:
        self.newest = 0
        """The highest position that was drawn, or is recorded."""
        self.told = 0
        """The highest position that was handed over."""
        self.patience = _PATIENCE
        self._under_way = 0
        self._open: dict[int, _Blocker] = {}
        """What has not been handed over, by its position."""
        self._done: set[int] = set()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._is_settling = False

    def enter(self) -> None:
        """Note that one more goes on, whose end will be handed over or not."""
        self._under_way += 1

    def leave(self) -> None:
        """Note that one has ended."""
        self._under_way -= 1

    def draw(self, what: str) -> int:
        """The position of an end that is not recorded; whoever draws it hands it over."""
        self.newest += 1
        self._open[self.newest] = _Blocker(what, is_recorded=False)
        return self.newest

    def expect(self, position: int, what: str) -> None:
        """Note that the record holds an end, which comes again in this execution."""
        self.newest = max(self.newest, position)
        if position not in self._done:
            self._open.setdefault(position, _Blocker(what, is_recorded=True))

    def forget(self, position: int) -> None:
        """Wait no more for an end that may not come again."""
        self._open.pop(position, None)
        self._wake()

    async def hand_over(self, position: int, what: str) -> None:
        """Wait until everything before an end was handed over; then it is.

        Args:
            position: Its position.
            what: What ends, for people.

        Raises:
            ReplayError: What the record holds before it did not come again.
        """
        self.newest = max(self.newest, position)
        try:
            await self._in_turn(position, what)
        finally:
            self._open.pop(position, None)
            self._done.add(position)
            self.told = max(self.told, position)
            if self._under_way > 1:
                self._settle(_TICKS)
            else:
                self._wake()

    async def _in_turn(self, position: int, what: str) -> None:
        own = self._open.get(position)
        is_recorded = own is not None and own.is_recorded
        patience = self.patience if is_recorded else _PATIENCE
        deadline: float | None = None
        while (blocker := self._before(position)) is not None:
            if not blocker.is_recorded:
                deadline = None
            elif deadline is None:
                deadline = time.monotonic() + patience
            if await self._changed(position, deadline):
                continue
            lost = (
                f"{blocker.what} before {what}, as the record tells, and has not done so in "
                f"{patience:.0f} s of a replay"
            )
            if is_recorded:
                raise ReplayError(
                    f"{lost}: the code takes another way than the code that was recorded; run it "
                    "with that one, or fork the run"
                )
            # It has ended only now, and the record does not tell that anything came after it.
            _log.warning("%s, which goes on without it", lost)
            return

    async def _changed(self, position: int, deadline: float | None) -> bool:
        """Wait until something was handed over; False: it was not in time."""
        changed = self._waiting[position] = asyncio.get_running_loop().create_future()
        left = None if deadline is None else deadline - time.monotonic()
        try:
            await asyncio.wait([changed], timeout=left)
        finally:
            del self._waiting[position]
        return changed.done()

    def _before(self, position: int) -> _Blocker | None:
        """What has to come before an end is handed over."""
        if position in self._done:
            return None
        first = min((p for p in self._open if self._comes(p)), default=position)
        if first < position:
            return self._open[first]
        if self._is_settling:
            return _Blocker("another one ended", is_recorded=False)
        return None

    def _comes(self, position: int) -> bool:
        """Whether an end that is not handed over is waited for."""
        return True

    def _settle(self, ticks: int) -> None:
        self._is_settling = ticks > 0
        if ticks:
            asyncio.get_running_loop().call_soon(self._settle, ticks - 1)
        else:
            self._wake()

    def _wake(self) -> None:
        """Let the first that waits look again."""
        if not self._waiting:
            return
        first = self._waiting[min(self._waiting)]
        if not first.done():
            first.get_loop().call_soon_threadsafe(_end, first)


def _end(changed: asyncio.Future[None]) -> None:
    if not changed.done():
        changed.set_result(None)


class RunOrder(EndOrder):
    """Hands over the ends of the runs of a workflow's code, or of those inside another run.

    A run began after certain ends had been told: in a replay no later one is told before the run
    has begun again, however long its code takes to that.

    Args:
        is_repeated: Whether the code is executed from its beginning and begins all that it first
            began. A tool's need not: there, what has not begun is not waited for.
    """

    def __init__(self, *, is_repeated: bool) -> None:
        super().__init__()
        self._is_repeated = is_repeated
        self._is_taken_over = False
        self.is_read = False
        """Whether it is known what earlier executions recorded."""
        self._beginning = 0
        self._begun: set[uuid.UUID] = set()
        self._to_begin: dict[uuid.UUID, int] = {}
        self._ends: dict[int, uuid.UUID] = {}
        self._gone: set[uuid.UUID] = set()

    def read(self, beside: dict[str, Any]) -> None:
        """Take what is recorded of the runs, as `run_journal.begin` answers it."""
        if self.is_read:
            return
        self.is_read = True
        if beside["is_taken_over"]:
            # By other code, maybe. Which run one stands for is known when it has begun.
            self._is_repeated, self._is_taken_over = False, True
        self.patience += float(beside["took"])
        for row in beside["runs"]:
            run_id = uuid.UUID(row["id"])
            if run_id not in self._begun:
                self._to_begin[run_id] = row["begun_after"]
            for position in row["ends"] or ():
                if position is not None and run_id not in self._gone:
                    self._ends[position] = run_id
                    self.expect(position, f"run {run_id} ends")

    def begin(self, run_id: uuid.UUID) -> int:
        """Note that a run begins in this execution; after which end that is."""
        self.enter()
        self._beginning += 1
        self._is(run_id)
        return self.told

    def begun(self, run_id: uuid.UUID) -> None:
        """Note that a run has begun: in the place of the one that began, it may be another."""
        self._beginning -= 1
        self._is(run_id)

    def gone(self, run_id: uuid.UUID) -> None:
        """Wait no more for the ends of a run that ended before its record was read."""
        self._beginning -= 1
        self._gone.add(run_id)
        for position in [position for position, of in self._ends.items() if of == run_id]:
            self.forget(position)

    def _is(self, run_id: uuid.UUID) -> None:
        self._begun.add(run_id)
        self._to_begin.pop(run_id, None)
        self._wake()

    def _comes(self, position: int) -> bool:
        run_id = self._ends.get(position)
        return self._is_repeated or run_id is None or run_id in self._begun

    def _before(self, position: int) -> _Blocker | None:
        if (blocker := super()._before(position)) is not None or position in self._done:
            return blocker
        if self._is_taken_over and self._beginning:
            return _Blocker("another run begins", is_recorded=False)
        for run_id, after in self._to_begin.items() if self._is_repeated else ():
            if after < position:
                return _Blocker(f"run {run_id} begins", is_recorded=True)
        return None


class RunEnds:
    """Where the ends of one run stand among those beside it: its stops for people, and its end.

    Args:
        order: The order of those ends.
        run_id: The run, which begins.
    """

    def __init__(self, order: RunOrder, run_id: uuid.UUID) -> None:
        self.order = order
        self.begun_after = order.begin(run_id)
        """The newest end that the code around the run had been told when it began."""
        self._run_id = run_id
        self._has_begun = False
        self._recorded: list[int | None] = []
        self._count = 0
        """How many of them there were in this execution."""
        self._newest: int | None = None
        """That of the one which is to be handed over now."""

    def read(self, run_id: uuid.UUID, row: dict[str, Any], *, may_go_on: bool) -> None:
        """Take what is recorded of the run, which has begun.

        Args:
            run_id: Its id, which is that of another one where it stands in that one's place.
            row: Its row.
            may_go_on: Whether its last end may not come again.
        """
        self._run_id = run_id
        self._recorded = list(row.get("ends") or ())
        if may_go_on and self._recorded and (last := self._recorded.pop()) is not None:
            self.order.forget(last)
        self._has_begun = True
        self.order.begun(run_id)

    def go_on(self) -> None:
        """Note that the run goes on after it stopped for people."""
        self.order.enter()

    def end(self, *, is_recorded: bool) -> list[int | None]:
        """Note that the run ends, or stops; where all its ends stand, to be recorded with it.

        Args:
            is_recorded: Whether an earlier execution recorded this end.
        """
        if self._count < len(self._recorded):
            self._newest = self._recorded[self._count]
        elif not is_recorded:
            # What an earlier version recorded has none.
            missing = [None] * (self._count - len(self._recorded))
            self._newest = self.order.draw(f"run {self._run_id} ends")
            self._recorded += [*missing, self._newest]
        return self._recorded

    async def hand_over(self) -> None:
        """Return when it is the turn of the end that was noted; at once where none was.

        Raises:
            ReplayError: What the record holds before it did not come again.
        """
        if not self._has_begun:
            self._has_begun = True
            self.order.gone(self._run_id)
        position, self._newest = self._newest, None
        self._count += 1
        try:
            if position is not None:
                await self.order.hand_over(position, f"run {self._run_id} ends")
        finally:
            self.order.leave()


class OrderedStep(Protocol):
    """A step whose end has a position."""

    name: str
    end_position: int | None
    """None until it ends, or where an earlier version recorded it."""


class CallOrder(EndOrder):
    """Hands over the ends of a run's calls, and of the checks of calls.

    Those of a turn go on side by side. What is recorded of earlier turns is not replayed where
    a run goes on from a checkpoint.

    Args:
        record: What is recorded of the run.
    """

    def __init__(self, record: RunRecord) -> None:
        super().__init__()
        self._record = record
        self._turn: int | None = None

    @contextlib.asynccontextmanager
    async def beside(self, step: OrderedStep, turn: int) -> AsyncIterator[None]:
        """Hand a step's outcome over in its turn, or what it raised.

        Args:
            step: The step, which is performed meanwhile.
            turn: The turn of the run's loop that it is of.
        """
        if turn != self._turn:
            self._turn = turn
            self._read(turn)
        self.enter()
        try:
            try:
                yield
            except Exception:
                await self._hand_over(step)
                raise
            await self._hand_over(step)
        finally:
            if step.end_position is not None:
                self.forget(step.end_position)
            self.leave()

    async def _hand_over(self, step: OrderedStep) -> None:
        if step.end_position is not None:
            await self.hand_over(step.end_position, f"{step.name!r} ends")

    def _read(self, turn: int) -> None:
        """Wait for what the record holds of a turn, and draw what comes after all it holds."""
        # What an earlier turn did not come to, it will not come to any more.
        self._open.clear()
        calls = {row["id"]: row for row in self._record.all("tool_calls")}
        checks = self._record.all("tool_guardrail_results")
        for row in (*calls.values(), *checks):
            if (position := row.get("end_position")) is None:
                continue
            self.newest = max(self.newest, position)
            call = row if row["id"] in calls else calls.get(row["tool_call_id"], row)
            if call.get("turn") == turn:
                name = call["tool_name"] if call is row else row["guardrail_name"]
                self.expect(position, f"{name!r} ends")
