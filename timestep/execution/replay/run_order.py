"""Tells a workflow's code of its runs' ends in the order in which they first ended.

Begin with `RunOrder`; each run has a `RunEnds`. Beside the runs of a workflow's code, operations of
DBOS's end (`operation_order`), whose positions are times. So the end of such a run is recorded with
two numbers: which of the ends of runs it is, and when it ended. Of a run inside a step, and in what
earlier versions recorded, it is the first alone.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from typing import Any

from timestep.execution.replay import replay_check
from timestep.execution.replay.end_order import LOOK, TICKS, Blocker, EndOrder
from timestep.execution.replay.operation_order import Operations
from timestep.runtime import logs

_log = logs.logger()

_MARGIN = 10.0
"""Seconds that code gets, beyond those it first took, to give an operation up once more."""

RecordedEnd = int | list[int]
"""Which of the ends of runs it is; with its time, where operations end beside it."""


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
        self._is_timed = is_repeated
        """Whether positions are times, in milliseconds since 1970."""
        self._drawing = threading.Lock()
        self._newest_end = 0
        self._told_at = 0
        """The highest position of all that was handed over."""
        self._which: dict[int, int] = {}
        """Which of the ends of runs has a position."""
        self.operations = Operations()
        if not is_repeated:
            self.operations.nothing_is_recorded()
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
        if not beside.get("has_steps", True):
            self.operations.nothing_is_recorded()
        self.patience += float(beside["took"])
        rows = [(uuid.UUID(row["id"]), row) for row in beside["runs"]]
        for run_id, row in rows:
            for end in row["ends"] or ():
                if end is not None and run_id not in self._gone:
                    self._expect_end(run_id, end)
        told_at = sorted((which, position) for position, which in self._which.items())
        for run_id, row in rows:
            if run_id not in self._begun:
                before = [at for which, at in told_at if which <= row["begun_after"]]
                self._to_begin[run_id] = max(before, default=0)

    def _expect_end(self, run_id: uuid.UUID, end: RecordedEnd) -> None:
        self._is_timed = self._is_timed and isinstance(end, list)
        position = position_of(end)
        self._which[position] = which = end if isinstance(end, int) else end[0]
        self._newest_end = max(self._newest_end, which)
        self._ends[position] = run_id
        self.expect(position, f"run {run_id} ends")

    def draw(self, what: str) -> int:
        with self._drawing:
            self._newest_end += 1
            position = self._time(None) if self._is_timed else self._newest_end
            self.newest = max(self.newest, position)
            self._which[position] = self._newest_end
            self._open[position] = Blocker(what, is_recorded=False)
            return position

    def place(self, what: str, due: int | None, *, is_told: bool) -> int:
        """Draw the position of the end of an operation of DBOS's; any thread does.

        Args:
            what: What ends, for people.
            due: When it will end, if that is known.
            is_told: Whether somebody is to be told of it.
        """
        with self._drawing:
            position = self._time(due)
            if self._is_timed:
                if due is None:
                    self.newest = position
                if is_told:
                    self._open[position] = Blocker(what, is_recorded=False)
            return position

    def _time(self, due: int | None) -> int:
        """A time that no other end has, and that comes after all that have ended."""
        now, newest = int(time.time() * 1000), max(self.newest, self.operations.newest)
        # Another host's clock may have been ahead.
        position = max(now, newest + 1) if due is None else due + max(0, newest - now)
        while position in self._open:
            position += 1
        return position

    async def until_past(self, what: str, workflow_id: str) -> None:
        """Wait until all that is recorded has come again.

        An operation whose end is not recorded need not have been under way when its process ended.
        The code may have given it up, after a time or as something else ended first, and gone on.

        Args:
            what: What ends when it has begun, for people.
            workflow_id: The workflow.

        Raises:
            CancelledError: The workflow has ended meanwhile.
        """
        begun, since = time.monotonic(), max(self._told_at, self.operations.made_at)
        while (left := self._left()) is not None:
            place, blocker = left
            first_took = max(0, place - since) / 1000
            if time.monotonic() > begun + first_took + _MARGIN:
                _log.warning("%s before %s, as the record tells, which begins now", blocker, what)
                return
            await self._look()
        # What ended last may be what has it given up.
        for _ in range(TICKS):
            await asyncio.sleep(0)
        deadline = time.monotonic() + replay_check.holds(workflow_id)
        while time.monotonic() < deadline:
            await self._look()

    async def _look(self) -> None:
        if self.operations.are_over:
            raise asyncio.CancelledError
        await asyncio.sleep(LOOK)

    def _left(self) -> tuple[int, str] | None:
        """What is recorded, and comes yet: about when it ended, and what it is, for people."""
        recorded = (position for position, one in list(self._open.items()) if one.is_recorded)
        first = min(filter(self._comes, recorded), default=None)
        if first is not None:
            return first, self._open[first].what
        for run_id, after in self._to_begin.items() if self._is_repeated else ():
            return after, f"run {run_id} begins"
        step = self.operations.left(is_repeated=self._is_repeated)
        return None if step is None else (step[0], f"step {step[1]} ends")

    def recorded(self, position: int) -> RecordedEnd:
        """What is recorded of the end of a run that has a position."""
        which = self._which[position]
        return [which, position] if self._is_timed else which

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

    def _tell(self, position: int) -> None:
        self._told_at = max(self._told_at, position)
        self.told = max(self.told, self._which.get(position, 0))

    def _is(self, run_id: uuid.UUID) -> None:
        self._begun.add(run_id)
        self._to_begin.pop(run_id, None)
        self._wake()

    def _comes(self, position: int) -> bool:
        run_id = self._ends.get(position)
        return self._is_repeated or run_id is None or run_id in self._begun

    def _before(self, position: int) -> Blocker | None:
        if (blocker := super()._before(position)) is not None or position in self._done:
            return blocker
        if self._is_taken_over and self._beginning:
            return Blocker("another run begins", is_recorded=False)
        step = self.operations.first_before(position, is_repeated=self._is_repeated)
        if step is not None and self._is_timed:
            return Blocker(f"step {step} ends", is_recorded=True, step=step)
        if position not in self._which:
            if self._beginning and not self.is_read:
                return Blocker("another run begins", is_recorded=False)
            # What a run waits for may be the operation.
            return None
        for run_id, after in self._to_begin.items() if self._is_repeated else ():
            if after < position:
                return Blocker(f"run {run_id} begins", is_recorded=True)
        return None

    def _give_up(self, step: int) -> None:
        self.operations.tell(step)


class RunEnds:
    """Where the ends of one run stand among those beside it: its stops for people, and its end.

    Args:
        order: The order of those ends.
        run_id: The run, which begins.
        workflow_id: Whose it is.
    """

    def __init__(self, order: RunOrder, run_id: uuid.UUID, workflow_id: str) -> None:
        self.order = order
        self._workflow_id = workflow_id
        self.begun_after = order.begin(run_id)
        """The newest end that the code around the run had been told when it began."""
        self._run_id = run_id
        self._has_begun = False
        self._recorded: list[RecordedEnd | None] = []
        self._count = 0
        """How many of them there were in this execution."""
        self._newest: int | None = None
        """That of the one which is to be handed over now."""
        self._is_repeated = False
        """Whether an earlier execution recorded that one."""

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
            self.order.forget(position_of(last))
        self._has_begun = True
        self.order.begun(run_id)

    def go_on(self) -> None:
        """Note that the run goes on after it stopped for people."""
        self.order.enter()

    def end(self, *, is_recorded: bool) -> list[RecordedEnd | None]:
        """Note that the run ends, or stops; where all its ends stand, to be recorded with it.

        Args:
            is_recorded: Whether an earlier execution recorded this end.
        """
        if self._count < len(self._recorded):
            recorded = self._recorded[self._count]
            self._newest = None if recorded is None else position_of(recorded)
            self._is_repeated = True
        elif not is_recorded:
            # What an earlier version recorded has none.
            missing = [None] * (self._count - len(self._recorded))
            self._newest = self.order.draw(f"run {self._run_id} ends")
            self._is_repeated = False
            self._recorded += [*missing, self.order.recorded(self._newest)]
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
        operations = self.order.operations
        try:
            if position is not None:
                if not operations.are_known and (self._is_repeated or self.order.is_crowded):
                    await asyncio.to_thread(operations.know, self._workflow_id)
                await self.order.hand_over(position, f"run {self._run_id} ends")
        finally:
            self.order.leave()


def position_of(end: RecordedEnd) -> int:
    """The position of an end that is recorded."""
    return end if isinstance(end, int) else end[1]
