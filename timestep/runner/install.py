"""Makes the durable runner the SDK's default, and undoes it."""

from __future__ import annotations

import agents.run
from agents.run import set_default_agent_runner

from timestep.dbos_internals import workflow_scope
from timestep.execution.current import current_run
from timestep.runner.agent_runner import _DurableAgentRunner
from timestep.sdk import patches
from timestep.sdk.default_runner import DispatchingRunner

durable = _DurableAgentRunner()
_is_installed = False


def _is_durable_here() -> bool:
    """Inside a durable run everything is durable; elsewhere in a workflow, once installed."""
    return workflow_scope.in_workflow() and (_is_installed or current_run() is not None)


def dispatch() -> None:
    patches.connect()
    if not isinstance(agents.run.get_default_agent_runner(), DispatchingRunner):
        set_default_agent_runner(DispatchingRunner(durable, _is_durable_here))


def install() -> None:
    """Make `agents.Runner` durable inside DBOS workflows; outside them it stays as it is.

    Raises:
        ConfigurationError: The installed Agents SDK is not one Timestep can work with.
    """
    global _is_installed
    dispatch()
    _is_installed = True


def uninstall() -> None:
    """Undo `install()`: `agents.Runner` is the SDK's own everywhere."""
    global _is_installed
    _is_installed = False
    set_default_agent_runner(None)
