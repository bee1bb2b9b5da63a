"""Hands what the SDK's loop asks of a session to `DatabaseSession`, or to a recorded step."""

from __future__ import annotations

from typing import Any

from timestep.execution.run import Run
from timestep.sessions import DatabaseSession
from timestep.steps import external_session


async def call_session_method(
    run: Run, original: Any, method: Any, *args: Any, **options: Any
) -> Any:
    """What a session's method answers to a run's loop: recorded, if nothing else makes it durable.

    Args:
        run: The run.
        original: The SDK's own function, which calls the method.
        method: The session's method, bound to it.
    """
    session = getattr(method, "__self__", None)
    if isinstance(session, DatabaseSession):
        return await original(method, *args, **options)
    while (inner := getattr(session, "__dict__", {}).get("underlying_session")) is not None:
        session = inner
    is_own = isinstance(session, DatabaseSession)
    call = external_session.call_around_own if is_own else external_session.call_session
    return await call(run, original, method, *args, **options)
