"""Tells a workflow's code of its runs' ends in the order in which they first ended.

Begin with `RunOrder`; each run has a `RunEnds`.
"""

from __future__ import annotations

import uuid
from typing import Any

from timestep.execution.replay.end_order import Blocker, EndOrder


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

    def _before(self, position: int) -> Blocker | None:
        if (blocker := super()._before(position)) is not None or position in self._done:
            return blocker
        if self._is_taken_over and self._beginning:
            return Blocker("another run begins", is_recorded=False)
        for run_id, after in self._to_begin.items() if self._is_repeated else ():
            if after < position:
                return Blocker(f"run {run_id} begins", is_recorded=True)
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
