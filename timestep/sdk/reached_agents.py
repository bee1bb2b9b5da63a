"""Finds the agents that an agent reaches, by handoffs and by tools that are agents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agents import Agent, Handoff, Tool

from timestep.serialization import agent_definitions
from timestep.serialization.agent_definitions import Definitions, RunGuardrail


def describe(roots: Iterable[Agent[Any]], guardrails: Iterable[RunGuardrail] = ()) -> Definitions:
    """The rows of the agents that can be reached from `roots` by handoffs."""
    return agent_definitions.describe(roots, guardrails, target_of=target_of)


def agent_of(tool: Tool) -> Agent[Any] | None:
    """The agent that a tool runs, where it is one."""
    found = getattr(tool, "_agent_instance", None)
    return found if isinstance(found, Agent) else None


def target_of(handoff: Handoff[Any, Any]) -> Agent[Any] | None:
    """The agent that a handoff goes to; one that was made by hand may not tell."""
    reference = getattr(handoff, "_agent_ref", None)
    target = reference() if callable(reference) else None
    return target if isinstance(target, Agent) else None
