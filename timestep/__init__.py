"""Durable, queryable OpenAI Agents SDK runs on DBOS and PostgreSQL.

Importing this costs nothing: the first of its names that is asked for imports them all, and the
SDK and DBOS with them. So what an unfit version of these lacks is told then, and commands that only
read, which import modules of this package and none of its names, answer at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

from timestep import versions
from timestep.runtime.garbage_collection import uncollected
from timestep.tool_options import tool_options

if TYPE_CHECKING:
    from timestep import errors, offline, testing
    from timestep.client.blocking import BlockingClient
    from timestep.client.client import Client
    from timestep.dbos_internals.pickles import refuse_pickles
    from timestep.dbos_internals.serializer import JSONSerializer
    from timestep.execution.current import is_replaying
    from timestep.operations.cancel import cancel_run
    from timestep.operations.fork import fork_run
    from timestep.operations.queries.follow import follow
    from timestep.operations.queries.interruptions import list_interruptions
    from timestep.operations.queries.records import Interruption, ResumeResult, RunEvent
    from timestep.operations.queries.runs import get_run, list_items, list_runs
    from timestep.operations.resume import resume_workflow, resume_workflow_sync
    from timestep.operations.start import start_run
    from timestep.run_states.database_store import DatabaseRunStateStore, create_run_state_store
    from timestep.run_states.file_store import FileRunStateStore
    from timestep.runner.durable_runner import DurableRunner
    from timestep.runner.install import install, uninstall
    from timestep.runner.run_agent import run_agent
    from timestep.serialization.registered_types import register_type
    from timestep.sessions import DatabaseSession
    from timestep.steps.tool_attempts import idempotency_key

_ALONE = {"BlockingClient": "client.blocking", "Client": "client.client"}
"""Names that come without the others, and so without the SDK and DBOS: a client needs neither."""

_WHERE = {
    "errors": "",
    "offline": "",
    "testing": "",
    "refuse_pickles": "dbos_internals.pickles",
    "JSONSerializer": "dbos_internals.serializer",
    "is_replaying": "execution.current",
    "cancel_run": "operations.cancel",
    "fork_run": "operations.fork",
    "RunEvent": "operations.queries.records",
    "follow": "operations.queries.follow",
    "list_interruptions": "operations.queries.interruptions",
    "Interruption": "operations.queries.records",
    "ResumeResult": "operations.queries.records",
    "get_run": "operations.queries.runs",
    "list_items": "operations.queries.runs",
    "list_runs": "operations.queries.runs",
    "resume_workflow": "operations.resume",
    "resume_workflow_sync": "operations.resume",
    "start_run": "operations.start",
    "DatabaseRunStateStore": "run_states.database_store",
    "create_run_state_store": "run_states.database_store",
    "FileRunStateStore": "run_states.file_store",
    "DurableRunner": "runner.durable_runner",
    "install": "runner.install",
    "uninstall": "runner.install",
    "run_agent": "runner.run_agent",
    "register_type": "serialization.registered_types",
    "DatabaseSession": "sessions",
    "idempotency_key": "steps.tool_attempts",
}
"""The module that defines each name; "": the name is a module of this package."""

__all__ = [
    "BlockingClient",
    "Client",
    "DatabaseRunStateStore",
    "DatabaseSession",
    "DurableRunner",
    "FileRunStateStore",
    "Interruption",
    "JSONSerializer",
    "ResumeResult",
    "RunEvent",
    "cancel_run",
    "create_run_state_store",
    "errors",
    "follow",
    "fork_run",
    "get_run",
    "idempotency_key",
    "install",
    "is_replaying",
    "list_interruptions",
    "list_items",
    "list_runs",
    "offline",
    "refuse_pickles",
    "register_type",
    "resume_workflow",
    "resume_workflow_sync",
    "run_agent",
    "start_run",
    "testing",
    "tool_options",
    "uninstall",
]


if not TYPE_CHECKING:  # With it, a type checker would take any name for one that is there.

    def __getattr__(name: str) -> Any:
        if name in _ALONE:
            found = getattr(importlib.import_module(f"{__name__}.{_ALONE[name]}"), name)
            return globals().setdefault(name, found)
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        names = {}
        with uncollected(), versions.explained():
            for one, where in _WHERE.items():
                module = importlib.import_module(f"{__name__}.{where or one}")
                names[one] = getattr(module, one) if where else module
        globals().update(names)
        return names[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
