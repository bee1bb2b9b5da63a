"""Makes the durable runner the SDK's default, and undoes it."""

from __future__ import annotations

import agents.run

from timestep.dbos_internals import workflow_scope
from timestep.execution.current import current_run
from timestep.runner.agent_runner import _DurableAgentRunner
from timestep.runner.installation import Installation
from timestep.runtime import process_state
from timestep.sdk.default_runner import DispatchingRunner

durable = _DurableAgentRunner()


def _is_durable_here() -> bool:
    """Inside a durable run everything is durable; elsewhere in a workflow, once installed."""
    return workflow_scope.in_workflow() and (
        process_state.of(Installation).is_everywhere or current_run() is not None
    )


def dispatch() -> None:
    """Put in place what durable runs need. A second time it changes nothing."""
    default = agents.run.get_default_agent_runner()
    process_state.of(Installation).put_in_place(
        DispatchingRunner(durable, _is_durable_here, default)
    )


def install() -> None:
    """Make `agents.Runner` durable inside DBOS workflows; outside them it stays as it is.

    Call it before `DBOS.launch()`, once; calling it again changes nothing. It replaces functions
    of the Agents SDK by ones that fall through to them outside of durable runs, becomes the SDK's
    default runner, and registers with DBOS the workflows that Timestep starts itself:
    `timestep.tool_call` and `timestep.escalate`. DBOS makes the application's version of all the
    workflows that are registered when it is launched.

    In a process that does not call it, the first durable run puts all this in place, but plain
    `agents.Runner` is durable inside durable runs only. What an earlier process left of those two
    workflows is taken up then, and not at the launch.

    Raises:
        ConfigurationError: The installed Agents SDK is not one Timestep can work with.
    """
    dispatch()
    process_state.of(Installation).is_everywhere = True


def uninstall() -> None:
    """Undo `install()`: `agents.Runner` is the SDK's own everywhere.

    Every function of the SDK that was replaced is its own again, and so is its default runner;
    not where another library has put something around it, or in its place, since.

    Three things stay. DBOS cannot forget a workflow, so Timestep's stay registered; they are
    executed only if one is recorded. Pickle carries errors of the SDK and of openai from then on:
    DBOS may have to record one after its run has ended. And durable runs that go on keep what they
    need, so the SDK is left as it is while there are any: they end as they began, plain runs
    outside of them are the SDK's own at once, and another call puts back the rest once they have
    ended.
    """
    process_state.of(Installation).take_away()
