"""Hands what the SDK's loop asks of a session to `DatabaseSession`, or to a recorded step."""

from __future__ import annotations

from typing import Any

from timestep.execution.run import Run
from timestep.sessions import DatabaseSession
from timestep.steps import external_session


async def call_session_method(
    run: Run, original: Any, method: Any, *args: Any, **options: Any
) -> Any:
    if isinstance(getattr(method, "__self__", None), DatabaseSession):
        return await original(method, *args, **options)
    return await external_session.call_session(run, original, method, *args, **options)
