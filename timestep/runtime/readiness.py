"""Collects why this process is not ready for work, from whoever knows: `/readyz` tells."""

from __future__ import annotations

import threading

from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess


class Obstacles(PerProcess):
    """A process keeps a reason for each part of it that is not ready."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: dict[str, str] = {}

    def put(self, part: str, reason: str) -> None:
        with self._lock:
            self._reasons[part] = reason

    def remove(self, part: str) -> None:
        with self._lock:
            self._reasons.pop(part, None)

    def reasons(self) -> list[str]:
        with self._lock:
            return [self._reasons[part] for part in sorted(self._reasons)]


def not_ready(part: str, reason: str) -> None:
    """Say why a part of this process is not ready; what it said before is replaced.

    Args:
        part: Which part, such as `database`.
        reason: A line for people, who may have no token: no host, user, table or secret.
    """
    process_state.of(Obstacles).put(part, reason)


def ready(part: str) -> None:
    """Say that a part of this process is ready."""
    process_state.of(Obstacles).remove(part)


def reason() -> str | None:
    """Why this process is not ready; None where it is."""
    return "; ".join(process_state.of(Obstacles).reasons()) or None
