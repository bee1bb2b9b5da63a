"""Durable, queryable OpenAI Agents SDK runs on DBOS and PostgreSQL."""

from timestep import errors, offline
from timestep.approvals import (
    Interruption,
    ResumeResult,
    list_interruptions,
    resume_workflow,
    resume_workflow_sync,
    run_agent,
)
from timestep.definitions import tool_options
from timestep.runner import DurableRunner, install, uninstall
from timestep.sessions import DatabaseSession

__all__ = [
    "DatabaseSession",
    "DurableRunner",
    "Interruption",
    "ResumeResult",
    "errors",
    "install",
    "list_interruptions",
    "offline",
    "resume_workflow",
    "resume_workflow_sync",
    "run_agent",
    "tool_options",
    "uninstall",
]
