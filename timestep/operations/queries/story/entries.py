"""Makes entries of a timeline of the rows that were read, one of each."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Iterator
from typing import Any

from timestep.operations.queries.story.documents import document, words
from timestep.operations.queries.story.steps import (
    AgentVersion,
    Attempt,
    Call,
    Check,
    CheckOfCall,
    FailedAttempt,
    Inside,
    Question,
    Recovery,
    Said,
    Span,
    SpanKind,
    Step,
)
from timestep.store.timeline.rows import Row

_USAGE = (
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "total_tokens",
)

_ATTEMPTS = 100
"""Attempts of a call that are told one by one."""
_LONGEST_MS = 10**12
"""Milliseconds that an attempt may have taken: 30 years."""


def agent_of(row: Row) -> AgentVersion:
    """An agent as it acted."""
    try:
        settings = json.loads(row["settings"] or "{}")
    except (ValueError, RecursionError):  # It was cut, or is nested too deeply.
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


def attempt_of(row: Row) -> Attempt:
    """An attempt at an answer."""
    return Attempt(
        number=row["attempt"],
        error=document(row, "error", "answer_error"),
        recorded_at=row["created_at"],
        started_at=row["started_at"],
        duration_ms=row["duration_ms"],
        **{name: int(row[name] or 0) for name in _USAGE},
        cost=number_of(row["estimated_cost"]),
    )


def said_of(row: Row) -> Said:
    """An item that is no call."""
    data = document(row, "item_data", "item")
    assert data is not None, "each item has its document"
    return Said(
        id=str(row["id"]),
        position=row["position"],
        item_type=row["item_type"],
        role=row["role"],
        at=row["created_at"],
        words=words(data),
        data=data,
    )


def call_of(
    row: Row, checks: list[Row], questions: list[Row], agents: dict[uuid.UUID, AgentVersion]
) -> Call:
    """A tool call.

    Args:
        row: Its own.
        checks: What guardrails said of calls.
        questions: What was asked about calls.
        agents: Those that may have acted.
    """
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
        status=row["status"],
        is_error=row["is_error"],
        is_safe_to_repeat=row["safe_to_repeat"],
        intents=row["intents"],
        attempts=row["attempts"],
        failed_attempts=_failed_attempts(row["failed_attempts"]),
        duration_ms=row["duration_ms"],
        idempotency_key=str(row["id"]),
        asked_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        checks=[_check_of_call(one) for one in checks if _is_of(one, row)],
        questions=[_question(one) for one in questions if _is_of(one, row)],
    )


def _failed_attempts(text: str | None) -> list[FailedAttempt]:
    """What a call's row says of its attempts that raised, as far as it can be read."""
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    attempts = (
        [_failed_attempt(one) for one in found[:_ATTEMPTS]] if isinstance(found, list) else []
    )
    # Somebody else wrote the others: how often the call was made is told all the same.
    return [one for one in attempts if one is not None]


def _failed_attempt(found: Any) -> FailedAttempt | None:
    if not isinstance(found, dict) or not isinstance(error := found.get("error"), dict):
        return None
    attempt = FailedAttempt(
        number=found.get("number"),  # type: ignore[arg-type]  # looked at below
        began_ms=found.get("began_ms"),  # type: ignore[arg-type]
        ended_ms=found.get("ended_ms"),  # type: ignore[arg-type]
        followed_ms=found.get("followed_ms"),
        error_type=error.get("type"),  # type: ignore[arg-type]
        message=error.get("message"),  # type: ignore[arg-type]
    )
    counts = [attempt.number, attempt.began_ms, attempt.ended_ms, attempt.followed_ms or 0]
    texts = [attempt.error_type, attempt.message]
    is_one = all(map(_is_count, counts)) and all(isinstance(text, str) for text in texts)
    return attempt if is_one else None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LONGEST_MS


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


def call_step(call: Call, goes_on: bool, ended_at: datetime.datetime | None) -> Step:
    """A call with the times that it took.

    Args:
        call: The call.
        goes_on: Whether its run is executed: a call that has not ended goes on then.
        ended_at: When its run ended, and with it what it waited for; None: it has not.
    """
    spans = [
        span_of("guardrail", one.at, one.duration_ms) for one in call.checks if one.duration_ms
    ]
    spans += [Span("person", one.asked_at, one.decided_at or ended_at) for one in call.questions]
    if call.started_at is not None:
        spans += _made(call, call.started_at, ended_at)
        waited_until = min([call.started_at, *(one.asked_at for one in call.questions)])
        if waited_until > call.asked_at:
            spans.insert(0, Span("queued", call.asked_at, waited_until))
    elif goes_on and call.is_open and not any(one.decided_at is None for one in call.questions):
        # When it is begun is recorded with its outcome.
        spans.append(Span("tool", call.asked_at, None))
    return Step("call", call, spans)


def _made(
    call: Call, started_at: datetime.datetime, ended_at: datetime.datetime | None
) -> Iterator[Span]:
    """The times of a call's attempts; what follows the last that failed is the one that did not."""
    if call.status in ("in_doubt", "unknown"):
        # Nobody knows when it ended.
        yield Span("tool", started_at, started_at)
        return
    begin, ends = started_at, call.completed_at or ended_at
    for one in call.failed_attempts:
        if one.followed_ms is None:
            break
        followed = started_at + datetime.timedelta(milliseconds=one.followed_ms)
        if ends is not None and followed > ends:
            # They were made before the execution that recorded the call began.
            break
        after = [datetime.timedelta(milliseconds=ms) for ms in (one.began_ms, one.ended_ms)]
        yield Span("retry", started_at + after[0], started_at + after[1])
        begin = followed
    yield Span("tool" if call.raised is None else "retry", begin, ends)


def model_span(kind: SpanKind, attempt: Attempt) -> Span | None:
    """The time of an attempt at an answer; None: it is not known of one that failed."""
    if attempt.started_at is not None:
        took = datetime.timedelta(milliseconds=attempt.duration_ms or 0)
        return Span(kind, attempt.started_at, attempt.started_at + took)
    return None if kind == "retry" else span_of(kind, attempt.recorded_at, attempt.duration_ms)


def check_of(row: Row) -> Step:
    """A check of the run's input or output, as a step."""
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
    return Step("check", found, [span_of("guardrail", found.at, found.duration_ms)])


def span_of(kind: SpanKind, end: datetime.datetime, duration_ms: int | None) -> Span:
    """A time that is recorded as its end, and how long it took."""
    return Span(kind, end - datetime.timedelta(milliseconds=duration_ms or 0), end)


def number_of(value: Any) -> float | None:
    """A sum of money."""
    return None if value is None else float(value)


def inside_of(row: Row) -> Inside:
    """A run inside another."""
    return Inside(
        id=str(row["id"]),
        agent_name=row["agent_name"],
        status=row["status"],
        turns=row["current_turn"],
        total_tokens=row["total_tokens"] or 0,
        cost=number_of(row["estimated_cost"]),
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        in_call=row["in_call"],
    )


def recovery_of(row: Row) -> Recovery:
    """A recovery."""
    return Recovery(
        id=row["id"],
        executor_id=row["executor_id"],
        node=row["node"],
        process_id=row["process_id"],
        answers=row["answers"],
        calls=row["calls"],
        checks=row["checks"],
        at=row["recovered_at"],
    )
