"""Reads what a streamed result keeps to itself: whether it was stopped, and with which error."""

from __future__ import annotations

from agents import RunResultStreaming
from agents.exceptions import InputGuardrailTripwireTriggered, MaxTurnsExceeded


def is_stopped(streamed: RunResultStreaming) -> bool:
    return streamed._cancel_mode != "none"


def error_of(streamed: RunResultStreaming) -> BaseException | None:
    """What the stream's reader will be raised, where the loop itself ended quietly."""
    if streamed._triggered_input_guardrail_result is not None:
        return InputGuardrailTripwireTriggered(streamed._triggered_input_guardrail_result)
    limit = streamed.max_turns
    if limit is not None and streamed.current_turn > limit and not streamed._max_turns_handled:
        return MaxTurnsExceeded(f"Max turns ({limit}) exceeded")
    return streamed._stored_exception
