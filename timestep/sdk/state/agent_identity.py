"""Tells a run's agents apart in its states by their names, where each has its own.

The SDK makes a signature of every agent, all its tools included, also where no two agents share
a name; a checkpoint a turn would pay for it a turn.
"""

from __future__ import annotations

from typing import Any

from agents import Agent
from agents._run_state_agent_identity import _iter_agent_graph

from timestep.execution.run import Run


def keys_by_id(run: Run, original: Any, initial_agent: Agent[Any]) -> Any:
    agents = list(_iter_agent_graph(initial_agent))
    if _have_own_names(agents):
        return {id(agent): agent.name for agent in agents}
    return original(initial_agent)


def has_ambiguous_hooks(run: Run, original: Any, initial_agent: Agent[Any]) -> Any:
    if _have_own_names(list(_iter_agent_graph(initial_agent))):
        return False
    return original(initial_agent)


def ambiguous_ids(run: Run, original: Any, initial_agent: Agent[Any]) -> Any:
    if _have_own_names(list(_iter_agent_graph(initial_agent))):
        return set()
    return original(initial_agent)


def _have_own_names(agents: list[Agent[Any]]) -> bool:
    return len({agent.name for agent in agents}) == len(agents)
