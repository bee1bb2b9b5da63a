"""Tells people what the envelope of a recorded error says, without opening it."""

from __future__ import annotations

from typing import Any


def summary(envelope: Any) -> str:
    """`RateLimitError: too many requests`."""
    return f"{short_type(part(envelope, 'type')) or 'Error'}: {part(envelope, 'message')}"


def part(envelope: Any, name: str) -> str:
    """A text of an envelope; of something else, none."""
    found = envelope.get(name) if isinstance(envelope, dict) else None
    return found if isinstance(found, str) else ""


def short_type(path: str) -> str:
    """The class's own name, of a path such as `openai:RateLimitError`."""
    return path.rpartition(":")[2].rpartition(".")[2]
