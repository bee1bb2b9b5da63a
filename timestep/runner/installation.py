"""Puts in place what durable runs need of the SDK and DBOS, and takes it away again."""

from __future__ import annotations

import importlib
import sys
import threading
import weakref

import agents.run
from agents.run import set_default_agent_runner

from timestep.approvals import notifications
from timestep.dbos_internals import executions, presence, process
from timestep.execution import identity
from timestep.execution.run import Run
from timestep.journal import dbos_patience, unfinished_executions
from timestep.runner import setbacks
from timestep.runtime.process_state import PerProcess
from timestep.sdk import patches
from timestep.sdk.default_runner import DispatchingRunner
from timestep.steps import tool_workflow

_WORKFLOWS = {
    tool_workflow.NAME: "timestep.runner.dbos_workflows.tool_call",
    notifications.NAME: "timestep.runner.dbos_workflows.notification",
}
"""The module that registers each workflow of Timestep with DBOS when it is imported."""


class Installation(PerProcess):
    """Keeps whether the SDK and DBOS call Timestep, and the durable runs that need them to."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._runs: weakref.WeakSet[Run] = weakref.WeakSet()
        self.is_everywhere = False
        """Whether plain `agents.Runner` is durable inside every workflow."""

    def put_in_place(self, dispatching: DispatchingRunner) -> None:
        """Patch the SDK, register with DBOS, and have the SDK ask `dispatching` by default.

        Raises:
            ConfigurationError: The installed Agents SDK is not one Timestep can work with.
        """
        with self._lock:
            patches.connect()
            _register()
            unfinished_executions.look_after()
            setbacks.look_after()
            identity.keep_order()
            if not isinstance(dispatching.replaced, DispatchingRunner):
                set_default_agent_runner(dispatching)

    def take_away(self) -> None:
        """Put back what the SDK had of its own, unless a durable run that goes on needs it."""
        with self._lock:
            self.is_everywhere = False
            if self._runs:
                return
            patches.disconnect()
            default = agents.run.get_default_agent_runner()
            if isinstance(default, DispatchingRunner):
                set_default_agent_runner(default.replaced)

    def enter(self, run: Run) -> None:
        """Keep everything in place until a run has left."""
        with self._lock:
            self._runs.add(run)
            # It may have been taken away since the run was asked for.
            patches.connect()
        dbos_patience.attach()
        executions.take_surely()
        unfinished_executions.look_after(run.recorder)
        identity.keep_order()

    def leave(self, run: Run) -> None:
        with self._lock:
            self._runs.discard(run)

    def close(self) -> None:
        self.take_away()

    def is_kept_in_child(self) -> bool:
        """A fork is installed as its parent was; the runs that go on are the parent's."""
        self._lock = threading.RLock()
        self._runs.clear()
        return True


def _register() -> None:
    """Register with DBOS what it calls: two workflows, and a look for what it recovers.

    Where DBOS is launched already, it may have taken up workflows of these names in vain.
    """
    known = process.registered()
    missing = [name for name in _WORKFLOWS if name not in known]
    for name in missing:
        module = sys.modules.get(_WORKFLOWS[name])
        if module is None:
            importlib.import_module(_WORKFLOWS[name])
        else:
            # `DBOS.destroy(destroy_registry=True)` has forgotten it.
            importlib.reload(module)
    executions.look_for_recovered()
    if presence.is_launched():
        executions.take_surely()
    if missing:
        executions.look_for_unnamed(missing)
