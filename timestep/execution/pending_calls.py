"""Keeps the tool calls of a turn, from the answer that asks for them to their outputs."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from timestep.dbos_internals.step_numbers import StepReservation
from timestep.execution.counters import Counters


@dataclass
class Call:
    """A tool call that the model asked for, and the numbers drawn for it when it did.

    Numbers are drawn in the order of the response, so they do not depend on which call ends
    first; a call that is never made leaves a gap and holds up nobody.
    """

    id: uuid.UUID
    row: dict[str, Any]
    """What the row of `tool_calls` was made of."""
    position: int
    """Where the output stands among the run's items."""
    number: StepReservation | None
    call_id: str
    """The provider's id of it, as it is; its row has a storable one."""
    checks: dict[tuple[str, int], StepReservation | None] = field(default_factory=dict)
    """Step numbers of its tool's guardrails, by their kind and their place among the tool's."""
    numbered_checks: tuple[tuple[str, int], ...] = ()
    asked: int = 0
    """How many questions about it were asked in this execution."""
    pauses: int = 0
    """How often it paused in this execution, because a run inside it asked a question."""
    paused_intents: int = 0
    """How many intents were noted of it when it last did: what they were for is known."""
    question: str | None = None
    """The newest of the questions about it."""
    output: dict[str, Any] | None = None
    """The output as it was recorded for the model."""
    given: object = None
    """What the SDK's loop is given as the output, and makes that item of."""
    is_begun: bool = False
    """Whether this execution began to make it."""
    edited: str | None = None
    """The arguments that a person gave instead of the model's; None: it is made as asked for."""
    tool: object = None
    """What is called, if that can be told by its name."""


class PendingCalls:
    """Keeps the calls that the newest answer asked a run to make, until each is made.

    Args:
        counters: Draws the calls' step numbers.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self.of_turn: list[Call] = []
        """Those of the turn, in the order of the answer, whether they were made or not."""
        self._waiting: dict[str, deque[Call]] = {}
        """Those that were not made yet, by the provider's id."""
        self._made: dict[str, Call] = {}
        self._is_skipped: Callable[[str], bool] = lambda _: False
        self._left: list[uuid.UUID] = []
        """Those of earlier turns that were never begun."""

    def begin_turn(self, calls: Sequence[Call]) -> None:
        """Let an answer's calls replace those before.

        Calls that an earlier turn never made are over, and providers may reuse their ids.
        """
        self._left.extend(call.id for call in self.of_turn if not call.is_begun)
        self._waiting.clear()
        self._made.clear()
        self.of_turn = list(calls)

    def add(self, call: Call) -> None:
        """Add a call to the turn that its answer did not hold, as another run left it."""
        self.of_turn.append(call)

    def expect(self, call: Call) -> None:
        """Wait for a call to be made."""
        self._waiting.setdefault(call.call_id, deque()).append(call)

    def draw(self, call: Call, before: int, after: int) -> None:
        """Draw the numbers of a call and of the guardrails of its tool.

        Args:
            call: The call.
            before: How many guardrails check its arguments.
            after: How many check its output.
        """
        call.numbered_checks = (
            *(("input", index) for index in range(before)),
            *(("output", index) for index in range(after)),
        )
        call.checks = {("input", index): self._counters.draw() for index in range(before)}
        call.number = self._counters.draw()
        call.checks |= {("output", index): self._counters.draw() for index in range(after)}

    def never_begun(self, is_recorded: Callable[[uuid.UUID], bool]) -> list[uuid.UUID]:
        """The ids of all calls of the run that no execution has begun to make.

        Args:
            is_recorded: Whether an earlier execution recorded a call: where it ended in the turn
                that this one ends in, it may have begun it.
        """
        last = [call.id for call in self.of_turn if not call.is_begun and not is_recorded(call.id)]
        return [*self._left, *last]

    def draw_again(self) -> None:
        """Draw numbers for the calls of a turn that is gone on with.

        Of every call of the turn, also those that were made: which of them were when the run
        stopped may depend on timing, and what is drawn here must not.
        """
        self._waiting = {}
        for call in self.of_turn:
            call.checks = {key: self._counters.draw() for key in call.numbered_checks}
            call.number = self._counters.draw()
            self.expect(call)

    def next(self, call_id: str) -> Call | None:
        """The call of a provider's id that is to be made next."""
        waiting = self._waiting.get(call_id)
        return waiting[0] if waiting else None

    def take(self, call_id: str) -> Call | None:
        """The call of a provider's id that is to be made next, which waits no more."""
        waiting = self._waiting.get(call_id)
        return waiting.popleft() if waiting else None

    def make(self, call_id: str, call: Call) -> None:
        """Note that the SDK makes a call, or takes its recorded outcome."""
        self._made[call_id] = call

    def made(self, call_id: str) -> Call | None:
        """The newest call of a provider's id that was made in this turn."""
        return self._made.get(call_id)

    def skip_where(self, is_skipped: Callable[[str], bool]) -> None:
        """Say of which calls, by their ids, the SDK may have an answer without making them."""
        self._is_skipped = is_skipped

    def may_be_skipped(self, call: Call) -> bool:
        """Whether the SDK may not make a call: it was made before, or is rejected."""
        return self._is_skipped(call.call_id)
