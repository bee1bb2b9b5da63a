"""What reads and decisions answer with."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Interruption:
    """A question that a run waits for a person to answer."""

    id: str
    run_id: str
    workflow_id: str | None
    type: str
    """`tool_approval`, `mcp_approval` or `guardrail`."""
    reason: str
    """`needs_approval`; or `in_doubt`: a call that must not be repeated may have happened."""
    tool_name: str | None
    call_id: str | None
    arguments: Any
    agent_name: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    resolved_at: datetime.datetime | None
    resolution_action: str | None
    """`approve`, `reject` or `supply`."""
    resolution_message: str | None
    resolution_always: bool
    """Whether later calls of the same tool in the same run are decided likewise."""
    resolved_by: str | None
    """Who decided: a person, `timeout`, or `code` that decided on the run's state."""


@dataclass(frozen=True)
class ResumeResult:
    """What a resume-workflow call did."""

    workflow_id: str
    resolved: list[str]
    """Ids of the interruptions that are decided as the call asked."""
    pending: list[str]
    """Ids of those that still wait for a decision."""
