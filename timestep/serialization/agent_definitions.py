"""Describes what agents are made of, as rows.

A definition's id is made from its content, so an unchanged one is the row that is there
already and a changed one is a new row. Callables are recorded by name: their code is not
part of a definition.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from agents import Agent, AgentOutputSchema, Handoff, HostedMCPTool, ModelSettings, Tool
from agents.agent_output import AgentOutputSchemaBase
from agents.guardrail import InputGuardrail, OutputGuardrail
from agents.handoffs import handoff
from agents.tool import FunctionTool
from pydantic import TypeAdapter

from timestep.errors import NotDurableError
from timestep.serialization.ids import storable_name
from timestep.serialization.values import Json, plain_text, storable
from timestep.tool_options import options_of

_NAMESPACE = uuid.UUID("6f2d7d55-6b0e-5f0a-9a53-2f6f6a1c7d10")

Row = dict[str, Any]
RunGuardrail = InputGuardrail[Any] | OutputGuardrail[Any]

_SETTINGS_COLUMNS = (
    "temperature",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "max_tokens",
    "parallel_tool_calls",
    "store",
    "truncation",
    "verbosity",
    "tool_choice",
    "reasoning",
)
_MAY_HOLD_SECRETS = {"extra_headers", "extra_query", "extra_body", "extra_args"}


TargetOf = Callable[[Handoff[Any, Any]], Agent[Any] | None]


@dataclass
class Definitions:
    """Rows of every definition that some agents reach, by table, and their ids."""

    target_of: TargetOf = lambda _: None
    """Tells the agent that a handoff goes to, or None; the SDK's handoffs keep it to themselves."""
    rows: dict[str, dict[Any, Row]] = field(default_factory=dict)
    """Table name to key to row."""
    agent_ids: dict[int, uuid.UUID] = field(default_factory=dict)
    """`id()` of an agent to its row's id."""
    tool_ids: dict[tuple[uuid.UUID, str], uuid.UUID] = field(default_factory=dict)
    """An agent's row and a tool's name to the tool's row."""
    guardrail_ids: dict[int, uuid.UUID] = field(default_factory=dict)
    tool_guardrail_ids: dict[int, uuid.UUID] = field(default_factory=dict)
    agents: list[Agent[Any]] = field(default_factory=list)
    """Kept, so that an `id()` is not given to another object."""

    def add(self, table: str, row: Row, *, key: Any = None) -> None:
        self.rows.setdefault(table, {})[key if key is not None else row["id"]] = row


def describe(
    roots: Iterable[Agent[Any]],
    guardrails: Iterable[RunGuardrail] = (),
    *,
    target_of: TargetOf,
) -> Definitions:
    """The rows of the agents that can be reached from `roots`, handoff cycles included.

    Args:
        roots: The agents a run starts with.
        guardrails: Guardrails that belong to a run rather than to an agent.
        target_of: Tells the agent that a handoff goes to.
    """
    found = Definitions(target_of)
    waiting = list(roots)
    while waiting:
        agent = waiting.pop()
        if id(agent) in found.agent_ids:
            continue
        _describe_agent(found, agent)
        waiting.extend(target for _, target in _handoffs(agent, target_of) if target is not None)
    for agent in found.agents:
        _link_handoffs(found, agent)
    for guardrail in guardrails:
        _describe_guardrail(found, guardrail)
    return found


def content_id(kind: str, content: Mapping[str, Json]) -> uuid.UUID:
    """The id of a definition: the same content has the same id, anywhere."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return uuid.uuid5(_NAMESPACE, f"{kind}:{text}")


def _describe_agent(found: Definitions, agent: Agent[Any]) -> None:
    settings = _settings_row(agent.model_settings)
    for function in filter(inspect.isroutine, agent.tools):
        raise NotDurableError(
            f"{_name(function)}, a tool of the agent {agent.name!r}, is a plain function: decorate "
            "it with @function_tool"
        )
    tools = [(tool, _tool_row(tool)) for tool in agent.tools]
    own: list[RunGuardrail] = [*agent.input_guardrails, *agent.output_guardrails]
    guardrails = [(guardrail, _guardrail_row(guardrail)) for guardrail in own]
    handoffs = [_handoff_row(config) for config, _ in _handoffs(agent, found.target_of)]
    mcp_servers = [_mcp_server_row(server) for server in agent.mcp_servers]
    instructions = agent.instructions
    content: dict[str, Json] = {
        "name": storable_name(agent.name),
        "instructions": plain_text(instructions) if isinstance(instructions, str) else None,
        "instructions_type": _instructions_type(instructions),
        "prompt": _prompt(agent.prompt),
        "model": _model_name(agent.model),
        "model_settings_id": str(settings["id"]),
        "handoff_description": plain_text(agent.handoff_description),
        **_output(agent.output_type),
        "tool_use_behavior": _behavior(agent.tool_use_behavior),
        "reset_tool_choice": agent.reset_tool_choice,
    }
    links: dict[str, Json] = {
        "tools": [str(row["id"]) for _, row in tools],
        "guardrails": [str(row["id"]) for _, row in guardrails],
        "handoffs": [str(row["id"]) for row in handoffs],
        "mcp_servers": [str(row["id"]) for row in mcp_servers],
        "instructions_function": None if isinstance(instructions, str) else _name(instructions),
    }
    agent_id = content_id("agent", {**content, **links})
    found.agents.append(agent)
    found.agent_ids[id(agent)] = agent_id
    found.add("model_settings", settings)
    found.add("agents", {"id": agent_id, **content})
    for position, (tool, row) in enumerate(tools):
        _add_tool(found, tool, row)
        found.tool_ids[agent_id, row["name"]] = row["id"]
        _link(found, "agent_tools", agent_id, "tool_id", row["id"], position)
    for position, (guardrail, row) in enumerate(guardrails):
        found.guardrail_ids[id(guardrail)] = row["id"]
        found.add("guardrails", row)
        _link(found, "agent_guardrails", agent_id, "guardrail_id", row["id"], position)
    for position, row in enumerate(mcp_servers):
        found.add("mcp_servers", row)
        _link(found, "agent_mcp_servers", agent_id, "mcp_server_id", row["id"], position)


def _link(
    found: Definitions, table: str, agent_id: uuid.UUID, column: str, target: Any, position: int
) -> None:
    row = {"agent_id": agent_id, column: target, "position": position}
    found.rows.setdefault(table, {}).setdefault((agent_id, target), row)


def _describe_guardrail(found: Definitions, guardrail: RunGuardrail) -> None:
    row = _guardrail_row(guardrail)
    found.guardrail_ids[id(guardrail)] = row["id"]
    found.add("guardrails", row)


def _add_tool(found: Definitions, tool: Tool, row: Row) -> None:
    found.add("tools", row)
    if not isinstance(tool, FunctionTool):
        return
    for kind in ("input", "output"):
        guardrails = getattr(tool, f"tool_{kind}_guardrails") or []
        for position, guardrail in enumerate(guardrails):
            content: dict[str, Json] = {
                "tool_id": str(row["id"]),
                "name": storable_name(guardrail.get_name()),
                "type": kind,
                "function": _name(guardrail.guardrail_function),
                "position": position,
            }
            guardrail_id = content_id("tool_guardrail", content)
            found.tool_guardrail_ids[id(guardrail)] = guardrail_id
            found.add("tool_guardrails", {"id": guardrail_id, **content})


def _link_handoffs(found: Definitions, agent: Agent[Any]) -> None:
    agent_id = found.agent_ids[id(agent)]
    for position, (config, target) in enumerate(_handoffs(agent, found.target_of)):
        row = _handoff_row(config)
        found.add("handoff_configs", row)
        target_id = found.agent_ids[id(target)] if target is not None else None
        content: dict[str, Json] = {
            "agent_id": str(agent_id),
            "handoff_config_id": str(row["id"]),
            "target_agent_id": str(target_id) if target_id else None,
        }
        link_id = content_id("agent_handoff", content)
        found.add("agent_handoffs", {"id": link_id, **content, "position": position})


def _handoffs(
    agent: Agent[Any], target_of: TargetOf
) -> Iterator[tuple[Handoff[Any, Any], Agent[Any] | None]]:
    """An agent's handoffs with their targets; a hand-made handoff may not tell its target."""
    for entry in agent.handoffs:
        if isinstance(entry, Agent):
            yield handoff(entry), entry
        else:
            yield entry, target_of(entry)


def _settings_row(settings: ModelSettings) -> Row:
    values = {name: _plain(getattr(settings, name)) for name in _SETTINGS_COLUMNS}
    extra: dict[str, Json] = {}
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.name in (*_SETTINGS_COLUMNS, "metadata") or value is None:
            continue
        if item.name in _MAY_HOLD_SECRETS:
            extra[item.name] = sorted(value) if isinstance(value, Mapping) else "set"
        else:
            extra[item.name] = _plain(value)
    content: dict[str, Json] = {
        **values,
        "extra": extra,
        "metadata": _plain(settings.metadata or {}),
    }
    return {"id": content_id("model_settings", content), **content}


def _tool_row(tool: Tool) -> Row:
    content: dict[str, Json] = {
        "name": storable_name(tool.name),
        "type": tool_type(tool),
        "description": None,
        "params_json_schema": None,
        "strict": None,
        "needs_approval": "never",
        "safe_to_repeat": options_of(tool).safe_to_repeat,
        "config": {},
    }
    guardrails: Json = []
    if isinstance(tool, FunctionTool):
        content["description"] = plain_text(tool.description)
        content["params_json_schema"] = _plain(tool.params_json_schema)
        content["strict"] = tool.strict_json_schema
        content["config"] = {
            "timeout_seconds": tool.timeout_seconds,
            "timeout_behavior": tool.timeout_behavior,
        }
        checks: list[Any] = [
            *(tool.tool_input_guardrails or []),
            *(tool.tool_output_guardrails or []),
        ]
        guardrails = [
            [storable_name(check.get_name()), _name(check.guardrail_function)] for check in checks
        ]
    if isinstance(tool, HostedMCPTool):
        given: Mapping[str, Any] = tool.tool_config
        content["config"] = {
            "server_label": plain_text(given.get("server_label")),
            "server_url": plain_text(_public_url(given.get("server_url") or "")),
        }
    content["needs_approval"] = _enabled(getattr(tool, "needs_approval", False))
    return {"id": content_id("tool", {**content, "guardrails": guardrails}), **content}


def tool_type(tool: Tool) -> str:
    """`function`, `web_search`, `hosted_mcp`, …"""
    name = type(tool).__name__.removesuffix("Tool")
    return (
        "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
        .strip("_")
        .replace("m_c_p", "mcp")
    )


def _guardrail_row(guardrail: RunGuardrail) -> Row:
    function = guardrail.guardrail_function
    content: dict[str, Json] = {
        "name": storable_name(guardrail.get_name()),
        "type": "input" if isinstance(guardrail, InputGuardrail) else "output",
        "run_in_parallel": getattr(guardrail, "run_in_parallel", True),
        "function": _name(function),
        "description": plain_text(inspect.getdoc(function))
        if inspect.isroutine(function)
        else None,
    }
    return {"id": content_id("guardrail", content), **content}


def _handoff_row(config: Handoff[Any, Any]) -> Row:
    content: dict[str, Json] = {
        "tool_name": storable_name(config.tool_name),
        "tool_description": plain_text(config.tool_description),
        "target_name": storable_name(config.agent_name),
        "input_json_schema": _plain(config.input_json_schema),
        "strict": config.strict_json_schema,
        "input_filter": _name(config.input_filter) if config.input_filter else None,
        "is_enabled": _enabled(config.is_enabled),
        "nest_handoff_history": config.nest_handoff_history,
    }
    return {"id": content_id("handoff_config", content), **content}


_TRANSPORTS = {
    "MCPServerStdio": "stdio",
    "MCPServerSse": "sse",
    "MCPServerStreamableHttp": "streamable_http",
}


def _mcp_server_row(server: Any) -> Row:
    """A server by its name and kind. Its parameters may hold secrets and are not read."""
    kinds = [kind.__name__ for kind in type(server).__mro__]
    content: dict[str, Json] = {
        "name": mcp_server_name(server),
        "transport": next((_TRANSPORTS[kind] for kind in kinds if kind in _TRANSPORTS), "other"),
        "config": {"class": kinds[0]},
    }
    return {"id": content_id("mcp_server", content), **content}


def mcp_server_name(server: Any) -> str:
    """A server's name; one that the SDK made of its URL, without what may be secret in it."""
    prefix, separator, address = str(server.name).rpartition(": ")
    return storable_name(f"{prefix}{separator}{_public_url(address)}")


def _public_url(address: str) -> str:
    """A URL without user, password, query and fragment; other text as it is."""
    if "://" not in address:
        return address
    try:
        parts = urlsplit(address)
    except ValueError:
        return address.partition("://")[0] + "://"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _instructions_type(instructions: object) -> str:
    if instructions is None:
        return "none"
    return "static" if isinstance(instructions, str) else "dynamic"


def _prompt(prompt: object) -> Json:
    if prompt is None:
        return None
    return {"function": _name(prompt)} if callable(prompt) else _plain(prompt)


def _model_name(model: object) -> str | None:
    if model is None:
        return None
    name = model if isinstance(model, str) else getattr(model, "model", type(model).__name__)
    return storable_name(str(name))


def _output(output_type: object) -> dict[str, Json]:
    if output_type is None or output_type is str:
        return {"output_type": None, "output_schema": None}
    schema = (
        output_type
        if isinstance(output_type, AgentOutputSchemaBase)
        else AgentOutputSchema(output_type)  # type: ignore[arg-type]  # as the SDK itself does
    )
    return {
        "output_type": schema.name(),
        "output_schema": None if schema.is_plain_text() else _plain(schema.json_schema()),
    }


def _behavior(behavior: object) -> Json:
    return _name(behavior) if callable(behavior) else _plain(behavior)


def _enabled(value: object) -> str:
    if callable(value):
        return "dynamic"
    return "always" if value else "never"


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))


_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)


def _plain(value: object) -> Json:
    """JSON of settings and schemas; what is not JSON is named rather than dumped."""
    dumped: Json = _ANYTHING.dump_python(value, mode="json", fallback=_name)
    return storable(dumped)
