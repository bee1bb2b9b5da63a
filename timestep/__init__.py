"""Durable, queryable OpenAI Agents SDK runs on DBOS and PostgreSQL."""

from timestep.runtime.garbage_collection import uncollected

with uncollected():
    from timestep import errors, offline, testing
    from timestep.control import cancel_run, start_run
    from timestep.execution.current import is_replaying
    from timestep.following import RunEvent, follow
    from timestep.forks import fork_run
    from timestep.operations.queries.interruptions import list_interruptions
    from timestep.operations.queries.records import Interruption, ResumeResult
    from timestep.operations.resume import resume_workflow, resume_workflow_sync
    from timestep.queries import get_run, list_items, list_runs
    from timestep.runner import DurableRunner, install, uninstall
    from timestep.sessions import DatabaseSession
    from timestep.state_files import FileRunStateStore
    from timestep.state_stores import DatabaseRunStateStore, create_run_state_store
    from timestep.steps.tool_attempts import idempotency_key
    from timestep.tool_options import tool_options
    from timestep.waiting import run_agent

__all__ = [
    "DatabaseRunStateStore",
    "DatabaseSession",
    "DurableRunner",
    "FileRunStateStore",
    "Interruption",
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
    "resume_workflow",
    "resume_workflow_sync",
    "run_agent",
    "start_run",
    "testing",
    "tool_options",
    "uninstall",
]
