"""Hands what the SDK's loop asks of a session to `DatabaseSession`, or to a recorded step."""

from __future__ import annotations

from collections.abc import Iterator
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
        method: The session's method, bound to it, or what the session has in its place.
    """
    if (named := _in_place_of_a_method(run.session, method)) is not None:
        call, method = _calling(original, named), named
    else:
        call = original
    session = getattr(method, "__self__", None)
    if isinstance(session, DatabaseSession):
        return await call(method, *args, **options)
    while (inner := getattr(session, "__dict__", {}).get("underlying_session")) is not None:
        session = inner
    is_own = isinstance(session, DatabaseSession)
    recorded = external_session.call_around_own if is_own else external_session.call_session
    return await recorded(run, call, method, *args, **options)


class _Named:
    """What a session has in the place of a method: an object that is called, or a function."""

    def __init__(self, session: object, name: str, called: Any) -> None:
        self.__self__ = session
        self.__name__ = name
        self.called = called


def _in_place_of_a_method(session: object, method: Any) -> _Named | None:
    """What is called, with its session and the name it has there; None if it tells them itself."""
    is_bound = getattr(method, "__self__", None) is not None
    if is_bound and getattr(method, "__name__", None) in external_session.CALLED:
        return None
    for one in _nested(session):
        for name in external_session.CALLED:
            if getattr(one, name, None) is method:
                return _Named(one, name, method)
    return None


def _nested(session: object) -> Iterator[object]:
    """A session and those that it keeps its items in."""
    while session is not None:
        yield session
        session = getattr(session, "__dict__", {}).get("underlying_session")


def _calling(original: Any, named: _Named) -> Any:
    """The SDK's function, which is given what is called."""

    async def call(method: Any, *args: Any, **options: Any) -> Any:
        return await original(named.called if method is named else method, *args, **options)

    return call
