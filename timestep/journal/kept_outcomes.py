"""Keeps outcomes of steps that could not be recorded, for the next execution of their workflow.

They are in memory only: an execution that ends without an outcome is begun again in the same
process, and records them before anything else, so that no effect is repeated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timestep.errors import DatabaseError


@dataclass(eq=False)
class Kept:
    """The outcome of a step, without DBOS's record of it, which is written when it is replayed."""

    run_id: str
    rows: dict[str, list[dict[str, Any]]]
    refusal: DatabaseError | None = None
    """Why the database does not take it from this execution either: its run fails with it."""


class KeptOutcomes:
    """Holds, by workflow, what could not be recorded, in its order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, list[Kept]] = {}

    def keep(self, workflow_id: str, outcome: Kept) -> None:
        with self._lock:
            self._kept.setdefault(workflow_id, []).append(outcome)

    def of(self, workflow_id: str) -> list[Kept]:
        """What is kept for a workflow."""
        if not self._kept:
            return []
        with self._lock:
            return list(self._kept.get(workflow_id, ()))

    def refusal(self, workflow_id: str, run_id: str) -> DatabaseError | None:
        """Why an outcome of a run is not taken, if one is not."""
        if not self._kept:
            return None
        with self._lock:
            kept = [one for one in self._kept.get(workflow_id, ()) if one.run_id == run_id]
        return next((one.refusal for one in kept if one.refusal is not None), None)

    def drop(self, workflow_id: str, outcome: Kept) -> None:
        """Let go of what is recorded by now."""
        self._leave(workflow_id, lambda one: one is not outcome)

    def drop_run(self, workflow_id: str, run_id: str) -> None:
        """Let go of all outcomes of a run whose end is recorded."""
        self._leave(workflow_id, lambda one: one.run_id != run_id)

    def drop_workflow(self, workflow_id: str) -> None:
        """Let go of all outcomes of a workflow that does not go on here."""
        self._leave(workflow_id, lambda _: False)

    def _leave(self, workflow_id: str, stays: Callable[[Kept], bool]) -> None:
        if not self._kept:
            return
        with self._lock:
            left = [one for one in self._kept.pop(workflow_id, ()) if stays(one)]
            if left:
                self._kept[workflow_id] = left
