"""Refuses what a tool changes in an agent: a replay takes the tool's outcome, and changes nothing.

The agent of a recovery would lack the tool that was added to it, or have the instructions from
before. Values that are changed in place, such as one of the model's settings, are not noticed.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from agents import Agent

from timestep.errors import NotDurableError

Fields = dict[int, dict[str, Any]]
"""By the `id()` of each agent, what it consists of."""


def fields_of(agents: Iterable[Agent[Any]]) -> Fields:
    """What agents consist of now, to be compared."""
    return {
        id(agent): {name: list(v) if type(v) is list else v for name, v in vars(agent).items()}
        for agent in agents
    }


def refusal(agents: Iterable[Agent[Any]], before: Fields, tool_name: str) -> NotDurableError | None:
    """Why a tool cannot have done what it did, if it changed an agent.

    Args:
        agents: The agents that the run knows now.
        before: What `fields_of` gave before the call.
        tool_name: The tool's name.
    """
    for agent in agents:
        was = before.get(id(agent), vars(agent))
        changed = [
            name
            for name, now in vars(agent).items()
            if not name.startswith("_") and not _is_same(was.get(name), now)
        ]
        if changed:
            return NotDurableError(
                f"tool {tool_name!r} changed {', '.join(changed)} of agent {agent.name!r} while it "
                "was called. A recovery takes the call's outcome from the record and would go on "
                "with an unchanged agent: let the agent have it from the start, and let the run's "
                "context decide, with a tool's is_enabled or with instructions that are a function"
            )
    return None


def _is_same(was: Any, now: Any) -> bool:
    """Whether a field holds the very same objects, whatever they say of themselves."""
    if type(was) is list and type(now) is list:
        return len(was) == len(now) and all(map(operator.is_, was, now))
    return was is now
