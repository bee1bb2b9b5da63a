"""Records which tools MCP servers list, and makes steps of their calls."""

from __future__ import annotations

import uuid
from typing import Any

from mcp.types import Tool

from timestep.execution.current import current_step
from timestep.execution.run import Run
from timestep.sdk.mcp import shared_connections
from timestep.sdk.mcp.listings import Listing
from timestep.serialization.agent_definitions import mcp_server_name
from timestep.steps.recorded_value import recorded, recorded_value


async def list_tools(run: Run, original: Any, server: Any, *args: Any) -> list[Tool]:
    """What a server lists, after its tool filter, recorded for each turn.

    Never kept from one run for another: both would not record the same steps.
    """
    reached = _Reached(server, run.root_id)
    step = current_step()
    if step is not None and step.run is run:
        # A tool's body asks for itself.
        tools: list[Tool] = await original(reached, *args)
        return tools

    async def listed() -> list[Any]:
        return _documents(await original(reached, *args))

    name = f"mcp list_tools: {mcp_server_name(server)}"
    documents = await recorded(run, name, listed, number=run.counters.draw())
    return [Tool.model_validate(document) for document in documents]


async def list_tools_for_state(
    listing: Listing, original: Any, server: Any, *args: Any
) -> list[Tool]:
    """What a server lists for a state that is read outside of any run."""
    documents = listing.next()
    if documents is None:
        documents = _documents(await original(_Reached(server, listing.user), *args))
        listing.told.append(documents)
    return [Tool.model_validate(document) for document in documents]


def _documents(tools: list[Tool]) -> list[Any]:
    return [tool.model_dump(mode="json", by_alias=True, exclude_unset=True) for tool in tools]


async def call_tool(
    run: Run, original: Any, server: Any, tool: Any, context: Any, *args: Any, **options: Any
) -> Any:
    output = await original(_Reached(server, run.root_id), tool, context, *args, **options)
    step = current_step()
    if step is not None and (made := getattr(context, "_custom_data", None)):

        async def custom_data() -> Any:
            return made

        context._custom_data = await recorded(run, _custom_data_of(step.id), custom_data)
    return output


def restore_custom_data(run: Run, context: Any) -> None:
    """Give a replayed call the data that its server's extractor made of the answer."""
    call = run.calls.made(context.tool_call_id)
    if call is not None and context._custom_data is None:
        context._custom_data = recorded_value(run, _custom_data_of(call.id))


def _custom_data_of(call_id: uuid.UUID) -> str:
    return f"mcp custom data: {call_id}"


class _Reached:
    """A user's server, connected when something is asked of it."""

    def __init__(self, server: Any, user: uuid.UUID) -> None:
        self._server = server
        self._user = user

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    async def list_tools(self, *args: Any, **options: Any) -> Any:
        return await shared_connections.use(
            self._server,
            self._user,
            lambda: self._server.list_tools(*args, **options),
            may_repeat=True,
        )

    async def call_tool(self, *args: Any, **options: Any) -> Any:
        return await shared_connections.use(
            self._server, self._user, lambda: self._server.call_tool(*args, **options)
        )
