"""Counts what a run does: step numbers of DBOS, positions of items, answers, checks, changes."""

from __future__ import annotations

import asyncio
from typing import Any

from timestep.dbos_internals.step_numbers import Reserved, StepNumbers, StepReservation
from timestep.serialization.ids import storable_name

OF_CALLS = "call:"
"""Keys of checks that begin with this are of one tool call: no later turn counts them on."""


class Counters:
    """Draws the numbers by which a replay finds again what a run did.

    They are drawn in an order that does not depend on timing: never when a step ends.

    Args:
        steps: DBOS's step numbers; None inside a step, where DBOS numbers nothing.
    """

    def __init__(self, steps: StepNumbers | None) -> None:
        self._steps = steps
        self._is_over = False
        self._positions = 0
        self._checks: dict[str, int] = {}
        self.responses = 0
        """How many answers were asked of a model so far."""
        self.session_changes = 0
        """How often the run has changed its session so far."""

    @property
    def are_of_dbos(self) -> bool:
        """Whether the run's steps are numbered steps of DBOS."""
        return self._steps is not None

    def draw(self) -> StepReservation | None:
        """The next step number; None inside a step, where DBOS numbers nothing.

        Raises:
            CancelledError: The run is over, and with it what it still had under way.
        """
        if self._is_over:
            raise asyncio.CancelledError
        return self._steps.draw() if self._steps is not None else None

    def set_aside(self, begun: int) -> None:
        """Draw from numbers that are set aside now, as a streamed run does.

        Args:
            begun: The number with which the run began.
        """
        if self._steps is not None:
            self._steps = self._steps.set_aside(begun)

    def keep(self) -> None:
        """Draw from numbers that nothing beside the run draws, if it is one of the body's task."""
        if self._steps is not None:
            self._steps = self._steps.keep()

    def keep_no_more(self) -> None:
        """Let what comes after the run draw what it has kept, unless something drew beside it."""
        if self._steps is not None:
            self._steps.keep_no_more()

    def keep_on(self) -> None:
        """Keep the numbers that the run has left while its caller waits for people's decisions."""
        if self._steps is not None:
            self._steps.keep_on()

    @property
    def are_set_aside(self) -> bool:
        """Whether the run's steps are numbered apart from what its task does beside it."""
        return isinstance(self._steps, Reserved)

    def give_back(self) -> None:
        """Draw what comes next in the run's task, as streamed runs of earlier versions did."""
        if isinstance(self._steps, Reserved):
            self._steps = self._steps.give_back()

    def next_position(self) -> int:
        """The place of one more item among the run's items, counted from 1."""
        self._positions += 1
        return self._positions

    def next_response(self) -> int:
        """The number of one more answer of a model, counted from 1."""
        self.responses += 1
        return self.responses

    def next_session_change(self) -> int:
        """The number of one more change of the run's session, counted from 1."""
        self.session_changes += 1
        return self.session_changes

    def next_of(self, key: str) -> int:
        """How often the run came to a check or a value of this key before: it may do so twice."""
        key = storable_name(key, None)
        count = self._checks.get(key, 0)
        self._checks[key] = count + 1
        return count

    def progress(self) -> dict[str, Any]:
        """How far the numbers have come, as a checkpoint holds it."""
        return {
            "positions": self._positions,
            "responses": self.responses,
            "session_changes": self.session_changes,
            "checks": {
                key: count for key, count in self._checks.items() if not key.startswith(OF_CALLS)
            },
        }

    def go_on_from(self, progress: dict[str, Any]) -> None:
        """Go on with the numbers of a turn of which the record holds a part.

        Args:
            progress: How far they had come when the turn began.
        """
        self._positions = progress["positions"]
        self.responses = progress["responses"]
        self.session_changes = progress["session_changes"]
        self._checks = dict(progress["checks"])

    def end(self, recorded: list[int] | None) -> list[int] | None:
        """Draw no more step numbers; how many were drawn when the run ended.

        Args:
            recorded: How many the first execution had drawn: a replay goes on from there.
        """
        if self._steps is None:
            return None
        if not self._is_over and recorded is not None:
            self._steps.go_back_to(recorded)
        self._is_over = True
        return self._steps.newest()
