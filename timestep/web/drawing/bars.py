"""Lays out bars beside each other, for charts of numbers by day or by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720.0, 160.0
"""Of the part of a chart that has the bars."""
MARGIN = 30.0
"""Below and above them, for texts."""
_WIDEST = 68.0
_GAP = 0.25
"""Of a bar's width."""
LABELS = 8
"""Labels that fit beside each other."""


@dataclass(frozen=True)
class Bar:
    """Where a bar is."""

    x: float
    width: float
    parts: tuple[tuple[float, float], ...]
    """The upper end and the height of each part, the lowest first."""
    label: str
    is_labelled: bool
    """Whether there is room for its label below."""
    is_minor: bool
    """Whether that stands below the others where the chart is small: every second one."""


@dataclass(frozen=True)
class Chart:
    """Bars that are laid out."""

    bars: list[Bar]
    highest: float
    """What the upper end of the chart stands for."""
    width: float = WIDTH
    height: float = HEIGHT + 2 * MARGIN
    base: float = HEIGHT + MARGIN
    """Where the bars stand."""


def chart(values: Sequence[tuple[str, Sequence[float]]]) -> Chart:
    """Lay out a bar for each label, with its parts on top of each other.

    Args:
        values: Labels with the numbers of their parts, none below zero.
    """
    highest = max((sum(parts) for _, parts in values), default=0.0)
    step = WIDTH / max(len(values), 1)
    width = min(step * (1 - _GAP), _WIDEST)
    step = min(step, _WIDEST / (1 - _GAP))
    every = -(-len(values) // LABELS)
    bars = []
    for number, (label, parts) in enumerate(values):
        top = HEIGHT + MARGIN
        placed = []
        for part in parts:
            height = HEIGHT * part / highest if highest else 0.0
            top -= height
            placed.append((round(top, 2), round(height, 2)))
        x = round(number * step + (step - width) / 2, 2)
        place, rest = divmod(number, every)
        bars.append(Bar(x, round(width, 2), tuple(placed), label, rest == 0, place % 2 == 1))
    return Chart(bars, highest)
