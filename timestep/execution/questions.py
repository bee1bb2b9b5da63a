"""Keeps what a run asks people, and what they have decided."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from agents import RunResult, RunResultStreaming

from timestep.errors import UnreadableValueError
from timestep.runtime import logs
from timestep.serialization.values import decode, restored

_log = logs.logger()


class Questions:
    """Keeps what a run stopped with, and the decision about each of its calls.

    Args:
        timeout: Seconds that people have to decide, or none.
    """

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self.result: RunResult | RunResultStreaming | None = None
        """The result with which the run stopped last."""
        self.call_ids: frozenset[str] = frozenset()
        """The provider's ids of the calls that the run waits for; empty while it goes on."""
        self._decisions: dict[uuid.UUID, dict[str, Any]] = {}

    def stop(self, call_ids: frozenset[str]) -> None:
        """Wait for decisions about these calls."""
        self.call_ids = call_ids

    def keep(self, result: RunResult | RunResultStreaming) -> None:
        """Keep the result with which the run stops."""
        self.result = result

    def go_on(self) -> None:
        """Wait for nothing any more."""
        self.call_ids = frozenset()

    def decide(self, call_id: uuid.UUID, decision: dict[str, Any]) -> None:
        """Take the decision about a call; a newer one replaces it."""
        self._decisions[call_id] = decision

    def decision(self, call_id: uuid.UUID) -> dict[str, Any] | None:
        """The newest decision about a call."""
        return self._decisions.get(call_id)

    @property
    def are_decided(self) -> bool:
        """Whether there is any decision."""
        return bool(self._decisions)

    def decided_at(self) -> list[datetime.datetime]:
        """When people decided; what code decided on the run's state has no time."""
        return [row["resolved_at"] for row in self._decisions.values() if "resolved_at" in row]


def supplied(decision: dict[str, Any]) -> Any:
    """The result that a person gave instead of a call; what only looks like a value is data.

    Args:
        decision: The question's row, resolved with `supply`.
    """
    document = restored(decision["resolution_output"])
    try:
        return decode(document)
    except UnreadableValueError as error:
        _log.warning("the result supplied for %s stays JSON: %s", decision["id"], error)
        return document
