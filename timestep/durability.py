"""Refuses, before a model call is paid for, what cannot be made durable yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agents import Agent, RunConfig, RunState
from agents.sandbox import SandboxAgent
from agents.tool import ApplyPatchTool, ComputerTool, CustomTool, LocalShellTool, ShellTool, Tool

from timestep.errors import NotDurableError
from timestep.rows import jsonable
from timestep.run import check_json
from timestep.sessions import DatabaseSession
from timestep.values import Json

_LOCAL_TOOLS = (ApplyPatchTool, ComputerTool, CustomTool, LocalShellTool, ShellTool)


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
        if agent.mcp_servers:
            names = ", ".join(repr(server.name) for server in agent.mcp_servers)
            raise NotDurableError(
                f"agent {agent.name!r} uses MCP servers ({names}), whose tool lists are not "
                "recorded: wrap the tools you need with @function_tool"
            )
        check_tools(agent.name, agent.tools)


def check_tools(agent_name: str, tools: Iterable[Tool]) -> None:
    """Check the tools that an agent's model may call.

    Raises:
        NotDurableError: One of them acts outside the record.
    """
    for tool in tools:
        if isinstance(tool, _LOCAL_TOOLS) and not _runs_at_provider(tool):
            raise NotDurableError(
                f"tool {tool.name!r} of agent {agent_name!r} is a {type(tool).__name__}, whose "
                "calls are not recorded: offer what it does as a @function_tool"
            )


def _runs_at_provider(tool: Tool) -> bool:
    return isinstance(tool, ShellTool) and tool.executor is None


def check_options(options: dict[str, Any]) -> None:
    """Check the options of a run.

    Raises:
        NotDurableError: A session or a sandbox whose changes are not recorded.
    """
    session = options.get("session")
    if session is not None and not isinstance(session, DatabaseSession):
        raise NotDurableError(
            f"a {type(session).__name__} is not recorded with the run, so a recovery would add "
            "its items again: pass timestep.DatabaseSession(session_id) instead"
        )
    config = options.get("run_config")
    if isinstance(config, RunConfig) and config.sandbox is not None:
        raise NotDurableError("RunConfig(sandbox=...) cannot be made durable: leave it out")


def recorded_input(given: object) -> Json:
    """A run's input as JSON.

    Raises:
        NotDurableError: Something in it is not JSON.
    """
    if isinstance(given, RunState):
        given = given._original_input
    if isinstance(given, str):
        return check_json(given, "the run's input")
    if not isinstance(given, list):
        raise NotDurableError(
            f"a run's input is a str, a list of items or a RunState, not {type(given).__name__}"
        )
    return check_json([jsonable(item) for item in given], "the run's input")
