"""Reaches what this process has of DBOS: its registry, its loop, its engine, its schema."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from dbos import WorkflowSerializationFormat, _dbos
from dbos._dbos import _get_dbos_instance
from dbos._registrations import get_func_info

T = TypeVar("T")


def has_no_loop() -> bool:
    """Whether the event loop has ended that executes workflows: a workflow that exits ends it."""
    thread = _get_dbos_instance()._background_event_loop._thread
    return thread is not None and not thread.is_alive()


def is_stopping() -> bool:
    """Whether this process is shutting DBOS down: what it cancels then is not over."""
    return not _get_dbos_instance()._initialized


def executes_alone(workflow_id: str) -> bool:
    """Whether this process executes no workflow but this one."""
    executed = _get_dbos_instance()._active_workflows_set.activeList()
    return all(other == workflow_id for other in executed)


def system_engine() -> Any:
    """The engine of DBOS's own statements in this process, or None."""
    dbos = _dbos._dbos_global_instance
    return None if dbos is None or dbos._sys_db_field is None else dbos._sys_db_field.engine


def registered() -> dict[str, Callable[..., Any]]:
    """Every function decorated with `@DBOS.workflow()` so far, by its name in DBOS."""
    registry = _dbos._dbos_global_registry
    return {} if registry is None else dict(registry.workflow_info_map)


def serialization_of(function: Callable[..., Any]) -> WorkflowSerializationFormat | None:
    """How a workflow's decorator says that its input is serialized."""
    info = get_func_info(function)
    return None if info is None else info.serialization_type


async def on_workflow_loop(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await `work` on the event loop where DBOS runs workflows; it outlives the caller's."""
    loop = _dbos._get_dbos_instance()._background_event_loop.target_loop()
    if loop is None or loop is asyncio.get_running_loop():
        return await work()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), loop))


def is_on_workflow_loop() -> bool:
    """Whether the caller runs on the event loop where DBOS runs workflows until it ends."""
    loop = _dbos._get_dbos_instance()._background_event_loop.target_loop()
    return loop is asyncio.get_running_loop()


def stop_dequeuing() -> None:
    """Take no further workflow from any queue; those that run go on."""
    for event in _dbos._get_dbos_instance().background_thread_stop_events:
        event.set()
