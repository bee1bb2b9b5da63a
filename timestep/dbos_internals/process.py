"""Tells how this process has DBOS: whether it runs, its registry, its loop, its schema."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from dbos import WorkflowSerializationFormat, _dbos
from dbos._dbos import _get_dbos_instance
from dbos._dbos_config import load_config
from dbos._registrations import get_func_info

from timestep.errors import ConfigurationError

T = TypeVar("T")

CONFIG_FILE = "dbos-config.yaml"
DEFAULT_NAME = "timestep"


def is_launched() -> bool:
    """Whether this process executes workflows, and is not about to end."""
    dbos = _dbos._dbos_global_instance
    return dbos is not None and dbos._sys_db_field is not None and dbos._initialized


def has_no_loop() -> bool:
    """Whether the event loop has ended that executes workflows: a workflow that exits ends it."""
    thread = _get_dbos_instance()._background_event_loop._thread
    return thread is not None and not thread.is_alive()


def is_made() -> bool:
    """Whether this process has a `DBOS` of its own, launched or not."""
    return _dbos._dbos_global_instance is not None


def is_stopping() -> bool:
    """Whether this process is shutting DBOS down: what it cancels then is not over."""
    return not _get_dbos_instance()._initialized


def executes_alone(workflow_id: str) -> bool:
    """Whether this process executes no workflow but this one."""
    executed = _get_dbos_instance()._active_workflows_set.activeList()
    return all(other == workflow_id for other in executed)


def system_schema() -> str:
    """The schema that holds DBOS's tables."""
    return str(_get_dbos_instance()._sys_db.schema or "dbos")


def system_schema_or_default() -> str:
    """The schema that holds DBOS's tables, for a process that did not launch DBOS, too."""
    dbos = _dbos._dbos_global_instance
    return "dbos" if dbos is None or dbos._sys_db_field is None else system_schema()


def system_engine() -> Any:
    """The engine of DBOS's own statements in this process, or None."""
    dbos = _dbos._dbos_global_instance
    return None if dbos is None or dbos._sys_db_field is None else dbos._sys_db_field.engine


def application_name() -> str:
    """DBOS's name for this application, and the name of the queue that its hosts listen to.

    What DBOS was launched with here; else `name` of dbos-config.yaml, or `timestep`.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    dbos = _dbos._dbos_global_instance
    if dbos is not None:
        return dbos._config["name"]
    path = Path(CONFIG_FILE)
    if not path.exists():
        return DEFAULT_NAME
    try:
        found = load_config(str(path)).get("name")
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{path.absolute()} cannot be read: {reason}") from error
    return str(found) if found else DEFAULT_NAME


def executor_id() -> str:
    """Which executor this process is before it launches DBOS: `DBOS__VMID`, or `local`."""
    return os.environ.get("DBOS__VMID") or "local"


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
