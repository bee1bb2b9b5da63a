"""Makes a document of the SDK's `RunState`, and reads it back or refuses it.

The document is the SDK's own JSON. `values.storable` makes it what JSONB can hold: as it is;
or, if text in it holds a NUL character or half of a surrogate pair, or a number is NaN or
infinite, the object `{"$text": "…"}` with the document's JSON as text, ASCII only (where NaN
and infinities are written `NaN`, `Infinity` and `-Infinity`, as Python does). JSONB orders
the keys of objects by their length, and keeps numbers as decimals: one from 1e16 on comes back
as an integer, and one that a double cannot hold exactly comes back exactly, so a reader whose
numbers are all doubles rounds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agents import Agent, RunState
from agents.exceptions import AgentsException
from agents.run_state import CURRENT_SCHEMA_VERSION, SUPPORTED_SCHEMA_VERSIONS

from timestep.errors import (
    CorruptStateError,
    ForeignStateError,
    StateError,
    StateTooNewError,
    UnreadableValueError,
)
from timestep.journal.checkpoints import (
    SDK_VERSION,
    context_document,
    context_of,
    is_context_document,
)
from timestep.run_states.from_javascript import python_state_from_javascript
from timestep.runtime import logs
from timestep.sdk import declared_types
from timestep.sdk.reached_agents import agent_of, describe
from timestep.sdk.state.run_state_fields import context_of as context_of_state
from timestep.serialization.agent_definitions import Definitions
from timestep.serialization.registered_types import PROCESS, RegisteredTypes, known
from timestep.serialization.values import dumps, has_text

_log = logs.logger()

ContextSerializer = Callable[[Any], Mapping[str, Any]]
ContextDeserializer = Callable[[Mapping[str, Any]], Any]

_LISTS = ("model_responses", "generated_items", "session_items")
_CALLS = (
    "functions",
    "computer_actions",
    "custom_tool_actions",
    "local_shell_actions",
    "shell_actions",
    "apply_patch_actions",
    "handoffs",
    "mcp_approval_requests",
    "interruptions",
)
_UNREADABLE = (
    AgentsException,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the SDK raises of a document that is not what it wrote."""


@dataclass(frozen=True)
class Document:
    """A state, ready to be stored."""

    state: dict[str, Any]
    """The SDK's JSON."""
    kind: str
    """`interrupted`, `final` or `checkpoint`."""
    definitions: Definitions
    """The agents that the state may name."""

    @property
    def schema_version(self) -> str:
        return str(self.state["$schemaVersion"])

    @property
    def turn(self) -> int:
        return int(self.state["current_turn"])

    @property
    def current_agent(self) -> Agent[Any]:
        name = self.state["current_agent"]["name"]
        return next(agent for agent in self.definitions.agents if agent.name == name)


@dataclass(frozen=True)
class Stored:
    """A state as it was found."""

    where: str
    """What and where it is, for messages."""
    sdk: Any
    """The SDK in whose format it is: `python` or `javascript`."""
    sdk_version: Any
    state: Any


def made(state: RunState[Any], agent: Agent[Any], serializer: ContextSerializer | None) -> Document:
    """The document of a state.

    Args:
        state: What `result.to_state()` gave, or a state that was loaded.
        agent: The agent whose run it is: where the agents that it names are found.
        serializer: Makes a mapping of a context that is none.

    Raises:
        StateError: It is no state, or JSON cannot hold it.
        ForeignStateError: It names an agent that `agent` does not lead to.
    """
    if not isinstance(state, RunState):
        raise StateError(
            f"a RunState is saved, as result.to_state() gives it, and not a {type(state).__name__}"
        )
    context = context_of_state(state)
    if context is not None:
        # Who loads it here knows its class; elsewhere the agents name it, or it is registered.
        PROCESS.declare_value(context.context)
    try:
        document = state.to_json(context_serializer=serializer or context_document)
        dumps(document)
    except (AgentsException, TypeError, ValueError, RecursionError) as error:
        raise StateError(
            f"the state cannot be kept as JSON: {error}; a context that is a mapping holds JSON "
            "alone, and context_serializer is for any other that Timestep cannot keep"
        ) from error
    context = document["context"]
    if serializer is None and _is_ours(context) and has_text(context["context"]):
        raise StateError(
            f"the run's context, a {context['context_meta'].get('class_path')}, holds what neither "
            "JSON nor dataclasses nor pydantic models can: give the store a context_serializer"
        )
    definitions = _reachable(agent)
    _check_agents("the state", document, agent, definitions)
    return Document(document, _kind(document), definitions)


def _kind(document: dict[str, Any]) -> str:
    step = document["current_step"]
    if step is None:
        return "final" if document["model_responses"] else "checkpoint"
    return "interrupted" if step["type"] == "next_step_interruption" else "checkpoint"


async def read(
    stored: Stored, agent: Agent[Any], deserializer: ContextDeserializer | None
) -> RunState[Any]:
    """The state that a document stands for, whole.

    Args:
        stored: What was found.
        agent: The agent whose run it is.
        deserializer: Makes the context of what `serializer` made of it.

    Raises:
        ForeignStateError: It is in no format that is known here, or names an agent, or a tool
            to be called, that `agent` does not lead to.
        StateTooNewError: The installed Agents SDK does not know its schema yet.
        CorruptStateError: It is no state, or not a whole one.
    """
    types = RegisteredTypes(PROCESS)
    declared_types.declare(types, [agent], [])
    with known(types):
        return await _read(stored, agent, deserializer)


async def _read(
    stored: Stored, agent: Agent[Any], deserializer: ContextDeserializer | None
) -> RunState[Any]:
    document = _python_document(stored)
    _check_schema(stored, document)
    try:
        _check_agents(stored.where, document, agent, _reachable(agent))
        restore = _context_reader(stored, document["context"], deserializer)
        state = await RunState.from_json(agent, document, context_deserializer=restore)
        kept = state.to_json(context_serializer=context_document)
        lost = list(_lost(document, kept))
    except _UNREADABLE as error:
        raise CorruptStateError(f"{stored.where} cannot be loaded: {_told(error)}") from error
    if lost:
        raise ForeignStateError(
            f"{stored.where} holds what agent {agent.name!r} and those it hands off to cannot go "
            f"on with: {', '.join(lost)}; load it with the agents that it was saved with"
        )
    return state


def _python_document(stored: Stored) -> dict[str, Any]:
    """The document in the Python SDK's format."""
    document = stored.state
    if not isinstance(document, dict):
        raise CorruptStateError(f"{stored.where} is no object of JSON")
    if stored.sdk == "javascript":
        try:
            return python_state_from_javascript(document)
        except StateError as error:
            raise type(error)(f"{stored.where}: {error.message}") from error
    if stored.sdk != "python":
        raise ForeignStateError(
            f"{stored.where} is in the format of {stored.sdk!r}: 'python' and 'javascript' are "
            "known here"
        )
    return document


def _check_schema(stored: Stored, document: dict[str, Any]) -> None:
    found = document.get("$schemaVersion")
    if found in SUPPORTED_SCHEMA_VERSIONS if isinstance(found, str) else False:
        return
    number = _number(found)
    if number is None:
        raise CorruptStateError(
            f"{stored.where} is no state of the Agents SDK: its $schemaVersion is {found!r}"
        )
    if number > (_number(CURRENT_SCHEMA_VERSION) or ()):
        raise StateTooNewError(
            f"{stored.where} has schema version {found}, which openai-agents {stored.sdk_version} "
            f"wrote; openai-agents {SDK_VERSION} here reads up to {CURRENT_SCHEMA_VERSION}: "
            "upgrade openai-agents"
        )
    raise CorruptStateError(
        f"{stored.where} has schema version {found}, which openai-agents {SDK_VERSION} does not "
        "read"
    )


def _number(version: object) -> tuple[int, ...] | None:
    parts = version.split(".") if isinstance(version, str) else []
    return tuple(map(int, parts)) if parts and all(map(str.isdecimal, parts)) else None


def _reachable(agent: Agent[Any]) -> Definitions:
    """The agents that the SDK finds from one: those it hands off to, and those that are tools."""
    found = describe([agent])
    while True:
        tools = [tool for known in found.agents for tool in known.tools]
        instances = [agent_of(tool) for tool in tools]
        new = [one for one in instances if one is not None and id(one) not in found.agent_ids]
        if not new:
            return found
        found = describe([*found.agents, *new])


def _check_agents(
    where: str, document: dict[str, Any], agent: Agent[Any], definitions: Definitions
) -> None:
    """The SDK leaves out the items of agents that it does not find."""
    known = {found.name for found in definitions.agents}
    if missing := sorted(_named_agents(document) - known):
        names = ", ".join(map(repr, missing))
        raise ForeignStateError(
            f"{where} names {names}, and agent {agent.name!r} leads only to "
            f"{', '.join(map(repr, sorted(known)))}: use the agents that the run was started with"
        )


def _named_agents(document: dict[str, Any]) -> set[str]:
    answer = document.get("last_processed_response") or {}
    step = document.get("current_step") or {}
    items = [
        *document.get("generated_items", ()),
        *document.get("session_items", ()),
        *answer.get("new_items", ()),
        *answer.get("interruptions", ()),
        *step.get("data", {}).get("interruptions", ()),
    ]
    fields = ("agent", "source_agent", "target_agent")
    named = [document["current_agent"], *(item.get(field) for item in items for field in fields)]
    return {found["name"] if isinstance(found, dict) else found for found in named if found}


def _lost(document: dict[str, Any], kept: dict[str, Any]) -> Iterable[str]:
    """What the SDK left out without a word."""
    for name in _LISTS:
        if (count := len(document.get(name) or ()) - len(kept[name])) > 0:
            yield f"{count} of its {name}"
    if _kind(document) != "interrupted":
        return
    told, found = document.get("last_processed_response") or {}, kept["last_processed_response"]
    for group in _CALLS:
        calls = told.get(group) or []
        if len(calls) > len((found or {}).get(group) or ()):
            yield f"calls of {', '.join(sorted({repr(_tool_name(call)) for call in calls}))}"


def _tool_name(call: dict[str, Any]) -> str:
    made_of = call.get("tool_call") or call.get("request_item", {}).get("raw_item") or call
    return str(made_of.get("name") or made_of.get("tool_name") or made_of.get("type"))


def _is_ours(context: dict[str, Any]) -> bool:
    """Whether a context was written by `context_document`."""
    meta = context.get("context_meta") or {}
    return meta.get("serialized_via") == "context_serializer" and is_context_document(
        context.get("context")
    )


def _context_reader(
    stored: Stored, context: dict[str, Any], given: ContextDeserializer | None
) -> ContextDeserializer | None:
    """What makes a run's context of its document; None where the SDK itself knows."""
    if given is not None:
        via = (context.get("context_meta") or {}).get("serialized_via")
        return None if via == "mapping" else given
    if not _is_ours(context):
        return None
    document = context["context"]
    try:
        context_of(document)
    except UnreadableValueError as error:
        raise ForeignStateError(f"{stored.where}: {error.message}") from error
    if has_text(document):
        _log.warning("%s: what JSON could not hold of the run's context is text now", stored.where)
    return context_of


def _told(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return str(error) or type(error).__name__
