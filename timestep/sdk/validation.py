"""Refuses, before a model call is paid for, what cannot be made durable yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agents import Agent, RunConfig
from agents.sandbox import SandboxAgent

from timestep.errors import NotDurableError
from timestep.serialization.sdk_objects import jsonable, not_json
from timestep.serialization.values import Json, storable


def check_agents(agents: Iterable[Agent[Any]]) -> None:
    """Check agents and everything they hand off to.

    Raises:
        NotDurableError: With the agent's name, what is in the way, and what to do.
    """
    for agent in agents:
        if isinstance(agent, SandboxAgent):
            raise NotDurableError(
                f"agent {agent.name!r} is a sandbox agent, and what its sandbox does is not "
                "recorded: use a plain Agent, or run it outside the workflow"
            )


def check_options(options: dict[str, Any]) -> None:
    """Check the options of a run.

    Raises:
        NotDurableError: A sandbox, whose changes are not recorded.
    """
    config = options.get("run_config")
    if isinstance(config, RunConfig) and config.sandbox is not None:
        raise NotDurableError("RunConfig(sandbox=...) cannot be made durable: leave it out")


def recorded_input(given: object) -> Json:
    """A run's input as JSON; of a state, the input that its run began with.

    Raises:
        NotDurableError: Something in it is not JSON.
    """
    if isinstance(given, str):
        return _json(given, "the run's input")
    if not isinstance(given, list):
        raise NotDurableError(
            f"a run's input is a str, a list of items or a RunState, not {type(given).__name__}"
        )
    for position, item in enumerate(given):
        if (place := not_json(item)) is not None:
            raise NotDurableError(
                f"item {position} of the run's input is no JSON: {place}; give text, or a data URL "
                "of base64 for what is bytes"
            )
    return _json([jsonable(item) for item in given], "the run's input")


def _json(value: Json, what: str) -> Json:
    """The value, if JSON can hold it.

    Raises:
        NotDurableError: It cannot.
    """
    try:
        return storable(value)
    except TypeError as error:
        raise NotDurableError(f"{what} cannot be recorded as JSON: {error}") from error
