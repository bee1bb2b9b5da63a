"""Makes the turns of a timeline of the rows that were read of a run."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from timestep.operations.queries.story.documents import document, words
from timestep.operations.queries.story.steps import (
    AgentVersion,
    Answer,
    Attempt,
    Call,
    Check,
    CheckOfCall,
    Inside,
    Question,
    Recovery,
    Said,
    Span,
    SpanKind,
    Step,
    Turn,
)
from timestep.store.timeline.rows import Row

_LINES = 6
"""What a model was shown of a run that is told with its answer, at most."""
_LINE = 300
"""Characters of each."""
_CALLS = ("tool_call_item",)
_USAGE = (
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "total_tokens",
)


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
    agents = {id_: _agent(row) for id_, row in rows.agents.items()}
    calls = {row["id"]: _call(row, rows, agents) for row in rows.calls}
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
        asked = [calls[row["tool_call_id"]].name for row in items if row["tool_call_id"] in calls]
        _add_answer(turn, attempts, items, agents, asked, shown)
        _add_items(turn, items, calls, goes_on=rows.goes_on)
    for items in by_answer.values():
        # Their answer is on another page.
        turn = made[items[0]["turn"]]
        turn.steps += [_said_step(_said(row)) for row in items if row["item_type"] not in _CALLS]
        _add_items(turn, items, calls, goes_on=rows.goes_on)
    for row in beside:
        turn = made[row["turn"]]
        _add_items(turn, [row], calls, goes_on=rows.goes_on)
        if row["item_data"] is not None and row["tool_call_id"] not in calls:
            turn.steps.append(_said_step(_said(row)))
    for row in rows.checks:
        turn = made.setdefault(max(row["turn"], 1), _Turn())
        step = _check(row)
        (turn.checks if row["type"] == "input" else turn.ends).append(step)
    _add_inside(made, rows, calls)
    for row in rows.recoveries:
        _add_recovery(made.setdefault(max(row["turn"], 1), _Turn()), row)
    return list(_totalled(made, rows))


class _Shown:
    """Tells what a model was shown of the items that there are, in a line each."""

    def __init__(self, items: list[Row], calls: dict[uuid.UUID, Call]) -> None:
        self._lines = [(row["position"], *_line(row, calls)) for row in items]

    def before(self, position: int | None) -> tuple[list[tuple[str, str]], int]:
        """The newest lines before a position, and how many items came before them.

        Args:
            position: None: after all of them, as an answer without items is.
        """
        earlier = [one for one in self._lines if position is None or one[0] < position]
        newest = earlier[-_LINES:]
        first = newest[0][0] if newest else position or 1
        return [(label, text) for _, label, text in newest], first - 1


def _line(row: Row, calls: dict[uuid.UUID, Call]) -> tuple[str, str]:
    call = calls.get(row["tool_call_id"])
    if call is not None and row["item_type"] == "tool_call_output_item":
        found = call.error or call.output
        return f"output of {call.name}", found.text[:_LINE] if found else ""
    if call is not None:
        given = call.edited_arguments or call.arguments
        return f"call of {call.name}", given.text[:_LINE] if given else ""
    if row["item_data"] is None:
        return "output", ""
    said = _said(row)
    label = said.role or said.item_type.removesuffix("_item").replace("_", " ")
    return label, (said.words or said.data.text)[:_LINE]


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
    agents: dict[uuid.UUID, AgentVersion],
    asked: list[str],
    shown: _Shown,
) -> None:
    last = attempts[-1]
    told = [_attempt(row) for row in attempts]
    spans = [
        _span("model" if one is told[-1] else "retry", one.ended_at, one.duration_ms)
        for one in told
    ]
    said = [_said(row) for row in items if row["item_type"] not in _CALLS]
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
        said=said,
        calls=asked,
        shown=told_before,
        before=before,
    )
    turn.steps.append(Step("answer", answer, spans))
    turn.tokens += sum(one.total_tokens for one in told)
    turn.costs += [one.cost for one in told if one.cost is not None]


def _add_items(
    turn: _Turn, items: list[Row], calls: dict[uuid.UUID, Call], *, goes_on: bool
) -> None:
    for row in items:
        call = calls.get(row["tool_call_id"])
        is_output = row["item_type"] == "tool_call_output_item"
        # One that another run's state left has no item that asks for it.
        if call is not None and (not is_output or call.is_left):
            turn.steps.append(_call_step(call, goes_on=goes_on))


def _add_inside(made: dict[int, _Turn], rows: Rows, calls: dict[uuid.UUID, Call]) -> None:
    """Put runs inside of the run into their call, or into the last turn that there is."""
    for row in rows.inside:
        found = Inside(
            id=str(row["id"]),
            agent_name=row["agent_name"],
            status=row["status"],
            turns=row["current_turn"],
            total_tokens=row["total_tokens"] or 0,
            cost=_number(row["estimated_cost"]),
            started_at=row["started_at"],
            completed_at=row["completed_at"],
        )
        call = calls.get(uuid.UUID(row["step"])) if row["step"] else None
        call = call or _around(found, calls.values())
        if call is not None:
            call.inside.append(found)
        elif made:
            span = Span("run", found.started_at, found.completed_at)
            made[max(made)].steps.append(Step("inside", found, [span]))


def _add_recovery(turn: _Turn, row: Row) -> None:
    """Put a recovery before the first step of its turn that begins, or goes on, after it."""
    at = row["recovered_at"]
    found = Recovery(
        id=row["id"],
        executor_id=row["executor_id"],
        node=row["node"],
        process_id=row["process_id"],
        answers=row["answers"],
        calls=row["calls"],
        checks=row["checks"],
        at=at,
    )
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


def _agent(row: Row) -> AgentVersion:
    try:
        settings = json.loads(row["settings"] or "{}")
    except ValueError:  # Cut.
        settings = {"…": row["settings"]}
    return AgentVersion(
        name=row["name"],
        version=row["version"],
        model=row["model"],
        instructions=row["instructions"],
        instructions_type=row["instructions_type"],
        tools=list(row["tools"]),
        settings={k: v for k, v in settings.items() if v not in (None, {}, [])},
    )


def _attempt(row: Row) -> Attempt:
    return Attempt(
        number=row["attempt"],
        error=document(row, "error", "answer_error"),
        ended_at=row["created_at"],
        duration_ms=row["duration_ms"],
        **{name: int(row[name] or 0) for name in _USAGE},
        cost=_number(row["estimated_cost"]),
    )


def _said(row: Row) -> Said:
    data = document(row, "item_data", "item")
    assert data is not None, "only outputs of calls are read without their item"
    return Said(
        id=str(row["id"]),
        position=row["position"],
        item_type=row["item_type"],
        role=row["role"],
        at=row["created_at"],
        words=words(data),
        data=data,
    )


def _said_step(said: Said) -> Step:
    return Step("said", said, [])


def _call(row: Row, rows: Rows, agents: dict[uuid.UUID, AgentVersion]) -> Call:
    agent = agents.get(row["agent_id"])
    return Call(
        id=str(row["id"]),
        call_id=row["call_id"],
        name=row["tool_name"],
        tool_type=row["tool_type"],
        agent_name=agent.name if agent else None,
        arguments=document(row, "arguments"),
        edited_arguments=document(row, "edited_arguments"),
        output=document(row, "output"),
        error=document(row, "error"),
        is_left=row["model_response_id"] is None,
        status=row["status"],
        is_error=row["is_error"],
        is_safe_to_repeat=row["safe_to_repeat"],
        intents=row["intents"],
        attempts=row["attempts"],
        duration_ms=row["duration_ms"],
        idempotency_key=str(row["id"]),
        asked_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        checks=[_check_of_call(one) for one in rows.checks_of_calls if _is_of(one, row)],
        questions=[_question(one) for one in rows.questions if _is_of(one, row)],
    )


def _is_of(row: Row, call: Row) -> bool:
    return bool(row["tool_call_id"] == call["id"])


def _check_of_call(row: Row) -> CheckOfCall:
    return CheckOfCall(
        id=str(row["id"]),
        name=row["guardrail_name"],
        type=row["type"],
        behavior=row["behavior"],
        message=row["message"],
        info=document(row, "output_info", "call_check"),
        error=document(row, "error", "call_check_error"),
        at=row["created_at"],
        duration_ms=row["duration_ms"],
    )


def _question(row: Row) -> Question:
    return Question(
        id=str(row["id"]),
        reason=row["reason"],
        description=row["description"],
        asked_at=row["created_at"],
        expires_at=row["expires_at"],
        decided_at=row["resolved_at"],
        action=row["resolution_action"],
        message=row["resolution_message"],
        is_always=row["resolution_always"],
        by=row["resolved_by"],
    )


def _call_step(call: Call, *, goes_on: bool) -> Step:
    spans = [_span("guardrail", one.at, one.duration_ms) for one in call.checks if one.duration_ms]
    spans += [Span("person", one.asked_at, one.decided_at) for one in call.questions]
    if call.started_at is not None:
        is_over = call.completed_at is not None
        spans.append(Span("tool", call.started_at, call.completed_at if is_over else None))
        waited_until = min([call.started_at, *(one.asked_at for one in call.questions)])
        if waited_until > call.asked_at:
            spans.insert(0, Span("queued", call.asked_at, waited_until))
    elif goes_on and call.is_open and not any(one.decided_at is None for one in call.questions):
        # When it is begun is recorded with its outcome.
        spans.append(Span("tool", call.asked_at, None))
    return Step("call", call, spans)


def _check(row: Row) -> Step:
    found = Check(
        id=str(row["id"]),
        name=row["guardrail_name"],
        type=row["type"],
        is_tripped=row["tripwire_triggered"],
        info=document(row, "output_info", "check"),
        error=document(row, "error", "check_error"),
        at=row["created_at"],
        duration_ms=row["duration_ms"],
    )
    return Step("check", found, [_span("guardrail", found.at, found.duration_ms)])


def _span(kind: SpanKind, end: datetime.datetime, duration_ms: int | None) -> Span:
    return Span(kind, end - datetime.timedelta(milliseconds=duration_ms or 0), end)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
