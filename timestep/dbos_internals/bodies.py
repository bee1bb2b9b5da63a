"""Tells a workflow's body from the tasks beside it, and new workflows from those that go on."""

from __future__ import annotations

import asyncio
import inspect
from types import CodeType, FrameType
from typing import Any

from dbos import DBOS, _core
from dbos._context import DBOSContext

from timestep.dbos_internals.workflow_scope import dbos_context

_IS_NEW = "timestep_is_new"
"""Is in a context of DBOS, and goes with it."""

_CODE = {
    one.co_name: one
    for one in _core._dropping_datasource_checkpoints.__code__.co_consts
    if isinstance(one, CodeType)
}
"""DBOS's functions that call a body: `run_async` awaits it, `run` calls one that is not async. Each
has the execution's context in a variable."""

_init_workflow = _core._init_workflow
"""DBOS's own function."""


def note_new() -> None:
    """Note from now on which workflows this process starts. A second time it changes nothing."""
    _core._init_workflow = _noted_init  # type: ignore[assignment]  # DBOS's calls fit


def note_no_more() -> None:
    """Undo `note_new`."""
    _core._init_workflow = _init_workflow


def _noted_init(dbos: DBOS, context: DBOSContext, **options: Any) -> tuple[Any, bool, str | None]:
    status, is_to_execute, attached = _init_workflow(dbos, context, **options)
    if is_to_execute:
        # Its row is this caller's own; what is taken from a queue does not come here.
        vars(context)[_IS_NEW] = True
    return status, is_to_execute, attached


def is_new() -> bool:
    """Whether it is known that nothing was recorded of the workflow before this execution."""
    return bool(vars(dbos_context()).get(_IS_NEW))


def current_task() -> asyncio.Task[Any] | None:
    """The caller's task; None in a thread that has none."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def is_own() -> bool:
    """Whether the caller is in the task, or thread, of the workflow's body, and not beside it.

    Told from what called the caller, in its task: an execution may have begun before anything of
    Timestep's was there to note it.
    """
    task, context = current_task(), dbos_context()
    code = _CODE["run" if task is None else "run_async"]
    outermost = None if task is None else getattr(task.get_coro(), "cr_frame", None)
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if frame.f_code is code and frame.f_locals.get("ctx") is context:
            return True
        if frame is outermost:
            break
        frame = frame.f_back
    return False
