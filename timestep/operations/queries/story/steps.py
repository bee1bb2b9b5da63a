"""Defines what a run's timeline is made of: turns, and what happened in each."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from timestep.operations.queries.story.documents import Document

SpanKind = Literal["queued", "model", "tool", "guardrail", "person", "retry", "run"]


@dataclass(frozen=True)
class Span:
    """A time in which one thing went on, or was waited for."""

    kind: SpanKind
    begin: datetime.datetime
    end: datetime.datetime | None
    """None: it goes on."""

    @property
    def seconds(self) -> float:
        end = self.end or datetime.datetime.now(datetime.UTC)
        return max((end - self.begin).total_seconds(), 0.0)


@dataclass(frozen=True)
class Attempt:
    """One attempt at an answer."""

    number: int
    error: Document | None
    recorded_at: datetime.datetime
    """When the answer was, with all attempts."""
    started_at: datetime.datetime | None
    """None: an earlier version recorded it."""
    duration_ms: int | None
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    total_tokens: int
    cost: float | None


@dataclass(frozen=True)
class AgentVersion:
    """An agent as it was when it acted."""

    name: str
    version: int
    model: str | None
    instructions: str | None
    """Their beginning; None: there are none, or a function makes them."""
    instructions_type: str
    settings: dict[str, Any]
    tools: list[str]


@dataclass(frozen=True)
class Said:
    """An item that is no call: a message, reasoning, a handoff, a provider's own call."""

    id: str
    position: int
    item_type: str
    role: str | None
    at: datetime.datetime
    words: str | None
    data: Document

    @property
    def is_handoff(self) -> bool:
        return self.item_type.startswith("handoff")

    @property
    def handed_to(self) -> str | None:
        """Of a handoff that was made: the agent that goes on."""
        if self.item_type != "handoff_output_item":
            return None
        try:
            told = json.loads(str(self.data.get("output")))
        except (ValueError, RecursionError):
            return None
        name = told.get("assistant") if isinstance(told, dict) else None
        return name if isinstance(name, str) else None


@dataclass(frozen=True)
class Answer:
    """A call of a model, with all its attempts, and what it said."""

    id: str
    ordinal: int
    agent: AgentVersion | None
    model: str | None
    response_id: str | None
    request_id: str | None
    attempts: list[Attempt]
    usage: Document | None
    said: list[Said]
    calls: list[str]
    """The names of the tools that it asks for."""
    shown: list[tuple[str, str]]
    """The newest of what it was shown of the run: what each is, and what it says in a line."""
    before: int
    """How many items of the run came before these."""

    @property
    def title(self) -> str | None:
        """What it says in a line: its words, or what it asks for; None: nothing."""
        told = next((one.words for one in self.said if one.words and not one.is_handoff), None)
        asked = [f"calls {', '.join(self.calls)}"] if self.calls else []
        asked += ["hands over"] if any(one.is_handoff for one in self.said) else []
        return told or ", ".join(asked) or None

    @property
    def is_failed(self) -> bool:
        return self.attempts[-1].error is not None


@dataclass(frozen=True)
class CheckOfCall:
    """What a tool's guardrail said of a call."""

    id: str
    name: str
    type: str
    behavior: str | None
    message: str | None
    info: Document | None
    error: Document | None
    at: datetime.datetime
    duration_ms: int | None


@dataclass(frozen=True)
class Question:
    """What was asked about a call, and what was decided."""

    id: str
    reason: str
    description: str | None
    asked_at: datetime.datetime
    expires_at: datetime.datetime | None
    decided_at: datetime.datetime | None
    action: str | None
    message: str | None
    is_always: bool
    by: str | None


@dataclass(frozen=True)
class Inside:
    """A run that began inside another."""

    id: str
    agent_name: str
    status: str
    turns: int
    total_tokens: int
    cost: float | None
    started_at: datetime.datetime
    completed_at: datetime.datetime | None
    in_call: int = 0
    """How many runs are counted in the call that it is; 0: it is counted in none."""


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt at a tool call that raised."""

    number: int
    """Counted from 1."""
    began_ms: int
    """Milliseconds after the call began, as are those when it ended, and was followed."""
    ended_ms: int
    followed_ms: int | None
    """None: no other one was made."""
    error_type: str
    message: str

    @property
    def seconds(self) -> float:
        return (self.ended_ms - self.began_ms) / 1000

    @property
    def waited(self) -> float | None:
        """Seconds until the next one began; None: there was none."""
        return None if self.followed_ms is None else (self.followed_ms - self.ended_ms) / 1000


@dataclass(frozen=True)
class Call:
    """A tool call."""

    id: str
    call_id: str
    name: str
    tool_type: str
    agent_name: str | None
    arguments: Document | None
    edited_arguments: Document | None
    output: Document | None
    error: Document | None
    status: str
    is_error: bool
    is_safe_to_repeat: bool
    intents: int
    attempts: int
    failed_attempts: list[FailedAttempt]
    """The newest of those that raised."""
    duration_ms: int | None
    idempotency_key: str
    asked_at: datetime.datetime
    started_at: datetime.datetime | None
    completed_at: datetime.datetime | None
    checks: list[CheckOfCall] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    inside: list[Inside] = field(default_factory=list)

    @property
    def inside_before(self) -> int:
        """How many runs began inside of it before those that are in `inside`."""
        counted = [one.in_call for one in self.inside if one.in_call]
        return max(counted, default=0) - len(counted)

    @property
    def raised(self) -> FailedAttempt | None:
        """The last attempt, if it raised, whatever the model was told of that; None: it did not."""
        last = self.failed_attempts[-1] if self.failed_attempts else None
        return last if last is not None and last.followed_ms is None else None

    @property
    def last_attempt(self) -> float | None:
        """Seconds that the attempt took which ended it; None: that is not known."""
        before = (self.failed_attempts[-1].followed_ms or 0) if self.failed_attempts else 0
        took = None if self.duration_ms is None else self.duration_ms - before
        return None if took is None or took < 0 else took / 1000

    @property
    def is_open(self) -> bool:
        """Whether it has no outcome yet, as far as its own row tells."""
        return self.status in ("pending", "approved", "started")

    @property
    def is_failed(self) -> bool:
        is_told = self.is_error or self.raised is not None
        return is_told or self.status in ("failed", "in_doubt", "unknown")


@dataclass(frozen=True)
class Check:
    """What a guardrail said of the run's input or output."""

    id: str
    name: str
    type: str
    is_tripped: bool | None
    info: Document | None
    error: Document | None
    at: datetime.datetime
    duration_ms: int | None

    @property
    def is_failed(self) -> bool:
        return self.is_tripped is not False


@dataclass(frozen=True)
class Recovery:
    """Where another execution went on with the run, as the one before had ended without its end."""

    id: str
    executor_id: str
    node: str
    process_id: int
    answers: int
    """How many were recorded by then, and not made again, as are `calls` and `checks`."""
    calls: int
    checks: int
    at: datetime.datetime


Kind = Literal["answer", "call", "check", "said", "inside", "recovery"]


_LABELS = {
    "answer": "model",
    "call": "tool",
    "check": "guardrail",
    "inside": "run",
    "recovery": "host",
}


@dataclass(frozen=True)
class Step:
    """One entry of a turn, of its kind, with the times that it took."""

    kind: Kind
    of: Any
    """An `Answer`, `Call`, `Check`, `Said`, `Inside` or `Recovery`."""
    spans: list[Span]

    @property
    def anchor(self) -> str:
        """What a link to it ends with."""
        return f"{self.kind}-{self.of.id}"

    @property
    def label(self) -> str:
        """What it is, in a word or two."""
        if isinstance(self.of, Said):
            named = self.of.item_type.removesuffix("_item").replace("_", " ")
            return "handoff" if self.of.is_handoff else named
        return _LABELS[self.kind]

    @property
    def seconds(self) -> float:
        """From the beginning of the first of its times to the end of the last."""
        return _seconds(self.spans)

    @property
    def is_failed(self) -> bool:
        return bool(getattr(self.of, "is_failed", False))


@dataclass(frozen=True)
class Turn:
    """A turn, or the part of it that is on a page."""

    number: int
    """Counted from 1."""
    steps: list[Step]
    tokens: int
    """Of its answers, as is the cost."""
    cost: float | None
    tokens_so_far: int
    """Of the run, to the end of these steps, as is the cost."""
    cost_so_far: float | None
    first: int | None
    """The position of its first item here; None: it has none."""
    is_continued: bool = False
    """Whether it begins on an earlier page."""

    @property
    def begin(self) -> datetime.datetime | None:
        return min((span.begin for step in self.steps for span in step.spans), default=None)

    @property
    def seconds(self) -> float:
        return _seconds([span for step in self.steps for span in step.spans])


def _seconds(spans: list[Span]) -> float:
    if not spans:
        return 0.0
    ends = [span.end or datetime.datetime.now(datetime.UTC) for span in spans]
    return (max(ends) - min(span.begin for span in spans)).total_seconds()
