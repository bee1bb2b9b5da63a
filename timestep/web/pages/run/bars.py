"""Lays out the times of a turn's steps as bars, on one scale a turn, and of turns beside others."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from timestep.operations.queries.story.steps import Span, Step, Turn
from timestep.web.pages.filters import took

WIDTH = 1000
"""Of the drawing, in its own units."""
_LEAST = 6.0
"""Of a bar, so that it is seen."""

_WORDS = {
    "queued": "waited to begin",
    "model": "model",
    "tool": "tool",
    "guardrail": "guardrail",
    "person": "waited for a person",
    "retry": "attempt that failed",
    "run": "run inside",
}


@dataclass(frozen=True)
class Bar:
    """One time of a step."""

    kind: str
    x: float
    width: float


def bars(turn: Turn, step: Step) -> list[Bar]:
    """The bars of a step, from its turn's beginning to its turn's end."""
    begin = turn.begin
    whole = turn.seconds
    if begin is None:
        return []
    return [_bar(span, begin, whole) for span in step.spans]


def share(turn: Turn, longest: float) -> float:
    """The width of a turn's own bar, where one of so many seconds is as wide as the drawing."""
    width = WIDTH * turn.seconds / longest if longest > 0 else 0.0
    return round(min(max(width, _LEAST), WIDTH), 1)


def told(step: Step) -> str:
    """What the bars of a step say, in words."""
    return ", ".join(
        f"{_WORDS[span.kind]} {took(span.seconds)}{'' if span.end else ' so far'}"
        for span in step.spans
    )


def _bar(span: Span, begin: datetime.datetime, whole: float) -> Bar:
    scale = WIDTH / whole if whole > 0 else 0.0
    width = max(span.seconds * scale, _LEAST)
    x = min((span.begin - begin).total_seconds() * scale, WIDTH - _LEAST)
    return Bar(span.kind, round(x, 1), round(min(width, WIDTH - x), 1))
