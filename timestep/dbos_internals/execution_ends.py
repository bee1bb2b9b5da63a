"""Tells when an execution of a workflow ends in this process, and with which error.

DBOS keeps no record of an execution that ends without an outcome: its workflow stays PENDING, and
nobody executes it before the process starts again.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Literal

from dbos import _core
from dbos._context import EnterDBOSWorkflow

from timestep.dbos_internals.workflow_scope import Owner
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess

Listener = Callable[[Owner, BaseException | None], None]


class _Told(EnterDBOSWorkflow):
    """Is around an execution, its record of the outcome included, whoever began it."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> Literal[False]:
        context = self.use_ctx
        owner = None
        if context is not None and context.owner_xid is not None:
            owner = Owner(context.workflow_id, context.owner_xid)
        super().__exit__(exc_type, exc_value, traceback)
        if owner is not None:
            tell(owner, exc_value)
        return False


class ExecutionEnds(PerProcess):
    """A process has one listener that is told of the ends of executions."""

    def __init__(self) -> None:
        self.listener: Listener | None = None

    def listen(self, listener: Listener) -> None:
        self.listener = listener
        _core.EnterDBOSWorkflow = _Told  # type: ignore[attr-defined]  # as DBOS looks it up

    def close(self) -> None:
        self.listener = None
        _core.EnterDBOSWorkflow = EnterDBOSWorkflow  # type: ignore[attr-defined]  # its own


def tell(owner: Owner, error: BaseException | None) -> None:
    """Tell the listener that an execution has ended, or could not begin."""
    listener = process_state.of(ExecutionEnds).listener
    if listener is not None:
        listener(owner, error)


def listen(listener: Listener) -> None:
    """Have `listener` called, in whichever thread it is, at the end of each execution.

    Those that have begun before are not told of.
    """
    process_state.of(ExecutionEnds).listen(listener)
