"""What the inbox shows: questions to people, what led to them, and what was decided."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass, field
from typing import Any

from timestep.serialization.documents.json_text import restored


@dataclass(frozen=True)
class Piece:
    """A value of an object: the whole, or its beginning where it is long."""

    name: str
    """Maybe its beginning alone: see `LONGEST_NAME`."""
    is_text: bool
    text: str
    """What a text says; of any other value, its JSON."""
    length: int
    """Characters of the whole."""
    hash: str
    """Of the whole: that of another value is another one."""

    @property
    def is_cut(self) -> bool:
        return len(self.text) < self.length


LONGEST_NAME = 200
"""Characters of a name that are shown."""


@dataclass(frozen=True)
class Document:
    """JSON as the database writes it: the whole, or its beginning where it is long."""

    text: str
    length: int
    """Characters of the whole."""
    pieces: tuple[Piece, ...] | None = None
    """The values of an object, each by itself, as far as they are read; None: it is none."""
    count: int = 0
    """How many values the object has."""

    @property
    def is_cut(self) -> bool:
        return len(self.text) < self.length

    @property
    def value_if_read(self) -> Any:
        """What it says; None where it is cut, or nested more deeply than can be read."""
        try:
            return self.value()
        except ValueError:
            return None

    def value(self) -> Any:
        """What it says.

        Raises:
            ValueError: It is cut, or nested more deeply than can be read.
        """
        if self.is_cut:
            raise ValueError("it is cut")
        try:
            return restored(json.loads(self.text))
        except RecursionError:
            raise ValueError("it is nested too deeply") from None


@dataclass(frozen=True)
class Entry:
    """What the audit says of a decision."""

    who: str
    is_nobody: bool
    """Whether nothing tells who it was, as no token is asked."""
    way: str
    """How, in words."""
    address: str | None
    machine: str | None
    seen: str | None
    """The hash of the question as it was shown to who decided; None: nothing tells."""
    is_link: bool
    """Whether a one-time link of a message decided."""


@dataclass(frozen=True)
class Question:
    """A question to people, decided or not."""

    id: str
    run_id: str
    workflow_id: str | None
    workflow_name: str | None
    parent_run_id: str | None
    outer_agent_name: str | None
    """The agent of the run inside which it is asked."""
    session_id: str | None
    reason: str
    tool_name: str | None
    call_id: str | None
    agent_name: str | None
    description: str | None
    hash: str
    arguments: Document | None
    required: Any
    """The names of arguments in the order of the tool's schema, as far as that tells it."""
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    resolved_at: datetime.datetime | None
    resolution_action: str | None
    resolution_message: str | None
    resolution_always: bool
    resolved_by: str | None
    resolution_arguments: Document | None
    resolution_output: Document | None
    run_status: str
    """Of its outermost run."""
    ended: str | None
    """How its outermost run has ended, if it has: nobody waits for it any more then."""
    counts_always: bool
    """Whether a decision may be made for later calls, too: not of a call that needs no approval."""
    not_edited: str | None
    """Why its arguments cannot be edited; None: they can."""
    entry: Entry | None = None
    """Of a decision, where the audit has it."""


@dataclass(frozen=True)
class Said:
    """What was said or done before a question."""

    item_type: str | None
    """None: it was given to a run, or to a session."""
    agent_name: str | None
    item: Document
    is_cut: bool = False
    """Whether the item has more than is in `item`."""
    fate: str | None = None
    """What became of the call that it is, or whose output it is: the call's status; or `failed`,
    as an answer; `supplied`: a person gave the result; `expired`: rejected, as nobody decided;
    `waits`: for a person, too. None: that is not known."""
    tool_name: str | None = None


@dataclass(frozen=True)
class Given:
    """What a run was given."""

    run_id: str
    agent_name: str | None
    items: list[Said]
    """The last of it."""
    count: int
    """How many items it has."""


@dataclass(frozen=True)
class Asking:
    """A run that asks, and what led to it."""

    run_id: str
    agent_name: str | None
    outer_agent_name: str | None
    """Of the run inside which it is; None: of no other."""
    session_id: str | None
    """Of the run, or of the one around it that has one."""
    session: list[Said]
    """The last of that session before its run began."""
    given: list[Given]
    """What the runs around it were given, the outermost first, and at last the run itself."""
    before: list[Said]
    """Its last items before its first question."""
    questions: list[Question]


@dataclass(frozen=True)
class Waiting:
    """A workflow that waits for people."""

    workflow_id: str
    workflow_name: str | None
    session_id: str | None
    since: datetime.datetime
    count: int
    """How many questions wait: more than are here, where there are very many."""
    started_by: str | None
    started_at: datetime.datetime | None
    """When that was; both None: the audit does not tell, as for what code starts."""
    is_fork: bool
    """Whether it was started as a fork of another one."""
    closed: str | None
    """How it has ended, if it has: decisions are refused then."""
    obstacle: str | None
    """Why nobody, or maybe nobody, would follow a decision, and what helps."""
    runs: list[Asking] = field(default_factory=list)
