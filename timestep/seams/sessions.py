"""What the SDK's loop asks of a session."""

from __future__ import annotations

from typing import Any

from timestep import foreign_sessions
from timestep.run import Run
from timestep.sessions import DatabaseSession


async def call_session_method(
    run: Run, original: Any, method: Any, *args: Any, **options: Any
) -> Any:
    if isinstance(getattr(method, "__self__", None), DatabaseSession):
        return await original(method, *args, **options)
    return await foreign_sessions.call_session(run, original, method, *args, **options)
