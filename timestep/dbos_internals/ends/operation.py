"""Holds an operation of DBOS's that goes on, until it may begin."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dbos._context import DBOSContext, get_local_dbos_context

T = TypeVar("T")


class End(Protocol):
    """The end of one operation, in one execution of its workflow."""

    def stamp(self, due: int | None, newest: Callable[[], int]) -> int:
        """Its place, as milliseconds since 1970: drawn now, from any thread, or as it was before.

        Args:
            due: When the operation will end, if that is known.
            newest: Reads the newest place that is recorded in its workflow.
        """

    def take_back(self) -> None:
        """Have no place of its own: an earlier execution recorded another one. Any thread does."""

    async def may_begin(self) -> None:
        """Return when the operation may begin: at once where its end is recorded, or nothing is.

        Where the record goes on without it, the code may have given it up: it does so again.
        """

    async def hand_over(self) -> None:
        """Return when it is the turn of the end; at once where none is recorded."""

    def leave(self) -> None:
        """Let nobody wait for the end any more."""


@dataclass(frozen=True)
class Operation:
    """An operation that goes on."""

    workflow_id: str
    number: int
    end: End
    context: DBOSContext | None = None
    """Of the step that the result of a child is recorded as."""
    is_sleep: bool = False

    def is_of(self, context: DBOSContext) -> bool:
        """Whether a context is that of the operation, as DBOS's step."""
        step = context.workflow_id, context.curr_step_function_id
        return step == (self.workflow_id, self.number)


current: ContextVar[Operation | None] = ContextVar("timestep_operation", default=None)


async def begun(one: Operation | None, work: Coroutine[Any, Any, T]) -> T:
    """What an operation gives that does not begin before it may."""
    if one is not None:
        try:
            await one.end.may_begin()
        except BaseException:
            work.close()
            raise
    return await work


def held(function: Callable[..., Any]) -> Callable[..., Any]:
    """A step's function, or another that an operation calls, which does not begin before it may.

    One that is not async begins at once: nothing gives it up.
    """
    if not inspect.iscoroutinefunction(function):
        return function

    @functools.wraps(function)
    async def called(*args: Any, **options: Any) -> Any:
        one, context = current.get(), get_local_dbos_context()
        # What is called inside an operation may be a step of another workflow, or of a run.
        if one is not None and context is not None and one.is_of(context):
            await one.end.may_begin()
        return await function(*args, **options)

    return called
