"""Durable, queryable OpenAI Agents SDK runs on DBOS and PostgreSQL."""

from timestep import errors, offline, testing
from timestep.approvals import (
    Interruption,
    ResumeResult,
    list_interruptions,
    resume_workflow,
    resume_workflow_sync,
    run_agent,
)
from timestep.control import cancel_run, start_run
from timestep.definitions import tool_options
from timestep.queries import get_run, list_items, list_runs
from timestep.runner import DurableRunner, install, uninstall
from timestep.sessions import DatabaseSession

__all__ = [
    "DatabaseSession",
    "DurableRunner",
    "Interruption",
    "ResumeResult",
    "cancel_run",
    "errors",
    "get_run",
    "install",
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
