"""Durable, queryable OpenAI Agents SDK runs on DBOS and PostgreSQL."""

from timestep import versions
from timestep.runtime.garbage_collection import uncollected

with uncollected(), versions.explained():
    from timestep import errors, offline, testing
    from timestep.dbos_internals.pickles import refuse_pickles
    from timestep.dbos_internals.serializer import JSONSerializer
    from timestep.execution.current import is_replaying
    from timestep.operations.cancel import cancel_run
    from timestep.operations.fork import fork_run
    from timestep.operations.queries.follow import RunEvent, follow
    from timestep.operations.queries.interruptions import list_interruptions
    from timestep.operations.queries.records import Interruption, ResumeResult
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
    from timestep.tool_options import tool_options

__all__ = [
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
