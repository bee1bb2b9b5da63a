"""Makes the turns of a timeline of the rows that were read of a run."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from timestep.operations.queries.story.documents import document
from timestep.operations.queries.story.entries import (
    agent_of,
    attempt_of,
    call_of,
    call_step,
    check_of,
    inside_of,
    model_span,
    recovery_of,
    said_of,
)
from timestep.operations.queries.story.steps import (
    AgentVersion,
    Answer,
    Call,
    Inside,
    Said,
    Span,
    Step,
    Turn,
)
from timestep.store.timeline.rows import Row

_LINES = 6
"""What a model was shown of a run that is told with its answer, at most."""
_LINE = 300
"""Characters of each."""


@dataclass(frozen=True)
class Rows:
    """What was read of a run, by tables."""

    items: list[Row]
    answers: list[Row]
    calls: list[Row]
    checks: list[Row]
    checks_of_calls: list[Row]
    questions: list[Row]
    inside: list[Row]
    recoveries: list[Row]
    agents: dict[uuid.UUID, Row]
    goes_on: bool
    """Whether the run is executed: what has not ended in it goes on."""
    ended_at: datetime.datetime | None
    """When the run ended, and with it what it waited for; None: it has not."""
    used_before: tuple[int, float | None] = (0, None)
    is_cut: bool = False
    """Whether the first turn begins before these items."""


@dataclass
class _Turn:
    checks: list[Step] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    ends: list[Step] = field(default_factory=list)
    tokens: int = 0
    costs: list[float] = field(default_factory=list)
    first: int | None = None


def turns_of(rows: Rows) -> list[Turn]:
    """The turns that rows tell of, in their order."""
    made: dict[int, _Turn] = {}
    agents = {id_: agent_of(row) for id_, row in rows.agents.items()}
    calls = {
        row["id"]: call_of(row, rows.checks_of_calls, rows.questions, agents) for row in rows.calls
    }
    shown = _Shown(rows.items, calls)
    answered: dict[int, list[Row]] = {}
    for row in rows.answers:
        answered.setdefault(row["ordinal"], []).append(row)
    by_answer: dict[uuid.UUID, list[Row]] = {}
    beside = []
    for row in rows.items:
        if row["model_response_id"] is not None:
            by_answer.setdefault(row["model_response_id"], []).append(row)
        else:
            beside.append(row)
    for row in rows.items:
        turn = made.setdefault(row["turn"], _Turn())
        turn.first = row["position"] if turn.first is None else turn.first
    for attempts in answered.values():
        turn = made.setdefault(attempts[0]["turn"], _Turn())
        items = [row for one in attempts for row in by_answer.pop(one["id"], [])]
        _add_answer(turn, attempts, items, calls, agents, shown)
        _add_items(turn, items, calls, rows)
    for items in by_answer.values():
        # Their answer is on another page.
        turn = made[items[0]["turn"]]
        turn.steps += [Step("said", one, []) for one in _said(items, calls)]
        _add_items(turn, items, calls, rows)
    for row in beside:
        turn = made[row["turn"]]
        turn.steps += [Step("said", one, []) for one in _said([row], calls)]
        _add_items(turn, [row], calls, rows)
    for row in rows.checks:
        turn = made.setdefault(max(row["turn"], 1), _Turn())
        step = check_of(row)
        (turn.checks if row["type"] == "input" else turn.ends).append(step)
    _add_inside(made, rows, calls)
    for row in rows.recoveries:
        _add_recovery(made.setdefault(max(row["turn"], 1), _Turn()), row)
    return list(_totalled(made, rows))


class _Shown:
    """Tells what a model was shown of the items that there are, in a line each."""

    def __init__(self, items: list[Row], calls: dict[uuid.UUID, Call]) -> None:
        self._lines = [(row["position"], *line) for row in items for line in _lines(row, calls)]

    def before(self, position: int | None) -> tuple[list[tuple[str, str]], int]:
        """The newest lines before a position, and how many items came before them.

        Args:
            position: None: after all of them, as an answer without items is.
        """
        earlier = [one for one in self._lines if position is None or one[0] < position]
        newest = earlier[-_LINES:]
        first = newest[0][0] if newest else position or 1
        return [(label, text) for _, label, text in newest], first - 1


def _lines(row: Row, calls: dict[uuid.UUID, Call]) -> Iterable[tuple[str, str]]:
    call = calls.get(row["tool_call_id"])
    if call is None:
        said = said_of(row)
        label = said.role or said.item_type.removesuffix("_item").replace("_", " ")
        yield label, (said.words or said.data.text)[:_LINE]
        return
    for label, found in (
        ("call", call.edited_arguments or call.arguments),
        ("output", call.error or call.output),
    ):
        yield f"{label} of {call.name}", found.text[:_LINE] if found else ""


def _totalled(made: dict[int, _Turn], rows: Rows) -> Iterable[Turn]:
    tokens, cost = rows.used_before
    for number in sorted(made):
        one = made[number]
        own = sum(one.costs) if one.costs else None
        tokens += one.tokens
        cost = cost if own is None else (cost or 0.0) + own
        steps = [*one.checks, *one.steps, *one.ends]
        is_cut = rows.is_cut and number == min(made)
        yield Turn(number, steps, one.tokens, own, tokens, cost, one.first, is_cut)


def _add_answer(
    turn: _Turn,
    attempts: list[Row],
    items: list[Row],
    calls: dict[uuid.UUID, Call],
    agents: dict[uuid.UUID, AgentVersion],
    shown: _Shown,
) -> None:
    last = attempts[-1]
    told = [attempt_of(row) for row in attempts]
    spans = [model_span("model" if one is told[-1] else "retry", one) for one in told]
    told_before, before = shown.before(min((row["position"] for row in items), default=None))
    answer = Answer(
        id=str(last["id"]),
        ordinal=last["ordinal"],
        agent=agents.get(last["agent_id"]),
        model=last["model"],
        response_id=last["response_id"],
        request_id=last["request_id"],
        attempts=told,
        usage=document(last, "usage"),
        said=_said(items, calls),
        calls=[calls[row["tool_call_id"]].name for row in items if row["tool_call_id"] in calls],
        shown=told_before,
        before=before,
    )
    turn.steps.append(Step("answer", answer, [span for span in spans if span is not None]))
    turn.tokens += sum(one.total_tokens for one in told)
    turn.costs += [one.cost for one in told if one.cost is not None]


def _said(items: list[Row], calls: dict[uuid.UUID, Call]) -> list[Said]:
    """The items that are no call of the run's, as one that the provider makes is none."""
    return [said_of(row) for row in items if row["tool_call_id"] not in calls]


def _add_items(turn: _Turn, items: list[Row], calls: dict[uuid.UUID, Call], rows: Rows) -> None:
    for row in items:
        call = calls.get(row["tool_call_id"])
        if call is not None:
            turn.steps.append(call_step(call, rows.goes_on, rows.ended_at))


def _add_inside(made: dict[int, _Turn], rows: Rows, calls: dict[uuid.UUID, Call]) -> None:
    """Put runs inside of the run into their call, or into the last turn that there is."""
    for row in rows.inside:
        found = inside_of(row)
        call = calls.get(uuid.UUID(row["step"])) if row["step"] else None
        call = call or _around(found, calls.values())
        if call is not None:
            call.inside.append(found)
            if call.is_open and call.started_at is None:
                # When it is begun is recorded with its outcome; the run inside tells of it now.
                _step_of(made, call).spans[:] = [Span("run", found.started_at, found.completed_at)]
        elif made:
            span = Span("run", found.started_at, found.completed_at)
            made[max(made)].steps.append(Step("inside", found, [span]))


def _step_of(made: dict[int, _Turn], call: Call) -> Step:
    return next(step for turn in made.values() for step in turn.steps if step.of is call)


def _add_recovery(turn: _Turn, row: Row) -> None:
    """Put a recovery before the first step of its turn that begins, or goes on, after it."""
    at = row["recovered_at"]
    found = recovery_of(row)
    later = (
        place
        for place, step in enumerate(turn.steps)
        if step.spans and (step.spans[-1].end is None or step.spans[-1].end > at)
    )
    turn.steps.insert(next(later, len(turn.steps)), Step("recovery", found, []))


def _around(found: Inside, calls: Iterable[Call]) -> Call | None:
    """The call in whose time a run began; of several, which run side by side, none."""
    around = [
        one
        for one in calls
        if one.started_at is not None
        and one.started_at <= found.started_at
        and (one.completed_at is None or found.started_at <= one.completed_at)
    ]
    return around[0] if len(around) == 1 else None
