"""Compares two runs turn by turn."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from timestep.operations.queries.records import Run
from timestep.operations.queries.story import timeline
from timestep.operations.queries.story.documents import Document
from timestep.operations.queries.story.steps import (
    Answer,
    Call,
    Check,
    Inside,
    Recovery,
    Said,
    Step,
    Turn,
)
from timestep.operations.queries.story.timeline import Timeline, Which


@dataclass(frozen=True)
class StepPair:
    """A step of each of two runs, or of one of them, at the same place of a turn."""

    left: Step | None
    right: Step | None
    is_same: bool


@dataclass(frozen=True)
class TurnPair:
    """A turn of each of two runs, or of one of them."""

    number: int
    left: Turn | None
    right: Turn | None
    steps: list[StepPair]
    is_part: bool = False
    """Whether it has more steps, before these or after them."""

    @property
    def is_same(self) -> bool:
        """Whether both did the same in it, as far as it is here."""
        return all(one.is_same for one in self.steps)


Places = tuple[int | None, int | None]
"""Positions in the one run and in the other; None: all its items came before."""


@dataclass(frozen=True)
class Comparison:
    """Some turns of two runs."""

    turns: list[TurnPair]
    shared: int
    """How many turns from the first on are one's alone, as the other is its fork; 0: it is none."""
    next_turn: int | None
    """The first turn that is not here, or not all of it; None: there is none."""
    rest: Places | None
    """Where that turn goes on in each, as this has its beginning; None: it has nothing of it."""


async def compared(left: Run, right: Run, first: int, rest: Places | None = None) -> Comparison:
    """Two runs turn by turn.

    Args:
        left: One.
        right: The other.
        first: The turn to begin with.
        rest: Where it goes on, as an earlier comparison has said; None: from its beginning.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    places: tuple[int | Literal["turn"] | None, ...] = rest or ("turn", "turn")
    one, other = await _turns(left, first, places[0]), await _turns(right, first, places[1])
    parts = (one, other)
    ends = [part.turns[-1].number for part in parts if part.after is not None and part.turns]
    end = min(ends, default=None)
    cut = {part.turns[-1].number for part in parts if part.is_cut_off and part.turns}
    numbers = {turn.number for part in parts for turn in part.turns}
    pairs = [
        _pair(
            number,
            _numbered(one, number),
            _numbered(other, number),
            is_part=(number == end and end in cut) or (number == first and rest is not None),
        )
        for number in sorted(numbers)
        if number >= first and (end is None or number <= end)
    ]
    shared = _shared(left, right)
    if end is None:
        return Comparison(pairs, shared, None, None)
    if end not in cut:
        return Comparison(pairs, shared, end + 1, None)
    return Comparison(pairs, shared, end, (_rest(one, end), _rest(other, end)))


def _rest(part: Timeline, end: int) -> int | None:
    """The position after which a run goes on, where this much of it was compared."""
    later = [turn.first for turn in part.turns if turn.number > end and turn.first is not None]
    return later[0] - 1 if later else part.after


def _shared(left: Run, right: Run) -> int:
    for fork, of in ((left, right), (right, left)):
        if fork.forked_from_run_id == of.id:
            return (fork.forked_at_turn or 1) - 1
    return 0


async def _turns(run: Run, first: int, place: int | Literal["turn"] | None) -> Timeline:
    """Turns of a run from one's beginning on, or after a position.

    None: what there is after it, which has no item.
    """
    which: Which = "newest" if place is None else "turn" if place == "turn" else "after"
    part = await timeline.part_of(
        str(run.id),
        None,
        goes_on=run.status == "running" and not run.is_stuck,
        which=which,
        place=place if isinstance(place, int) else first,
    )
    if place is None:
        return dataclasses.replace(part, turns=[one for one in part.turns if one.number > first])
    return part


def _numbered(part: Timeline, number: int) -> Turn | None:
    return next((turn for turn in part.turns if turn.number == number), None)


def _pair(number: int, left: Turn | None, right: Turn | None, *, is_part: bool) -> TurnPair:
    one, other = (_own(turn) if turn else [] for turn in (left, right))
    told, others = [_told(step) for step in one], [_told(step) for step in other]
    steps = []
    for kind, a, b, c, d in SequenceMatcher(None, told, others, autojunk=False).get_opcodes():
        for at in range(max(b - a, d - c)):
            pair = (one[a + at] if a + at < b else None, other[c + at] if c + at < d else None)
            steps.append(StepPair(*pair, kind == "equal"))
    return TurnPair(number, left, right, steps, is_part)


def _own(turn: Turn) -> list[Step]:
    """What the run did in a turn, whoever executed it."""
    return [step for step in turn.steps if not isinstance(step.of, Recovery)]


def _told(step: Step) -> tuple[Any, ...]:
    """What a step says that another run's may say, too: no ids, and no times."""
    of = step.of
    if isinstance(of, Answer):
        agent = of.agent.name if of.agent else None
        return "answer", agent, of.model, of.title, of.is_failed
    if isinstance(of, Call):
        documents = (of.arguments, of.edited_arguments, of.output, of.error)
        return "call", of.name, of.status, *map(_text, documents)
    if isinstance(of, Check):
        return "check", of.name, of.is_tripped, _text(of.info)
    if isinstance(of, Said):
        return "said", of.item_type, of.handed_to or of.words
    assert isinstance(of, Inside), "there are no other steps"
    return "inside", of.agent_name, of.status


def _text(found: Document | None) -> tuple[str, int] | None:
    return None if found is None else (found.text, found.length)
