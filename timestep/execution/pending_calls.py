"""A tool call of a run, from the answer that asks for it to its output."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from timestep.dbos_internals.step_numbers import StepReservation


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
    checks: dict[tuple[str, int], StepReservation | None] = field(default_factory=dict)
    numbered_checks: tuple[tuple[str, int], ...] = ()
    asked: int = 0
    """How many questions about it were asked in this execution."""
    pauses: int = 0
    """How often it paused in this execution, because a run inside it asked a question."""
    paused_intents: int = 0
    """How many intents were noted of it when it last did: what they were for is known."""
    question: str | None = None
    """The newest of them."""
    output: dict[str, Any] | None = None
    """The output as it was recorded for the model."""
