"""Turns the SDK's objects into rows, and back."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping
from typing import Any, get_args

import openai
from agents import ModelResponse
from agents.usage import deserialize_usage, serialize_usage
from openai.types.responses import ResponseOutputItem
from pydantic import BaseModel, ValidationError

from timestep.serialization.ids import storable_name
from timestep.serialization.registered_types import registered, type_path
from timestep.serialization.values import (
    Json,
    decode,
    encode,
    escaped,
    is_encoded,
    is_plain,
    is_state,
    plain_text,
    restored,
    storable,
    text_of,
    unescaped,
)

Row = dict[str, Any]

_ITEM_TYPES = {
    "message": "message_output_item",
    "reasoning": "reasoning_item",
    "mcp_list_tools": "mcp_list_tools_item",
    "mcp_approval_request": "mcp_approval_request_item",
    "tool_search_call": "tool_search_call_item",
    "tool_search_output": "tool_search_output_item",
    "compaction": "compaction_item",
}

_RUN_HERE = {
    "function_call",
    "computer_call",
    "shell_call",
    "local_shell_call",
    "apply_patch_call",
    "custom_tool_call",
    "mcp_approval_request",
}
"""Calls that the run makes itself, or answers; the provider has made the others already."""


def raw(item: object) -> dict[str, Any]:
    """A provider's item as JSON, whichever form the SDK has it in."""
    if isinstance(item, BaseModel):
        # Without warnings: a gateway's may not fit their types.
        return item.model_dump(mode="json", exclude_unset=True, warnings=False)
    if isinstance(item, Mapping):
        return {str(key): jsonable(value) for key, value in item.items()}
    return {"type": type(item).__name__, "value": str(item)}


def jsonable(value: object) -> Any:
    """The value with models as objects, and what JSON has no word for as text."""
    try:
        return _jsonable(value)
    except (Exception, SystemExit):  # noqa: BLE001  # it is cyclic, or deep, or has no JSON, or answers so.
        return text_of(value)


def _jsonable(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True, warnings=False)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def not_json(value: object, place: str = "") -> str | None:
    """What in a value `jsonable` would write as its text, and where; None: nothing."""
    if isinstance(value, BaseModel | str | int | float | bool) or value is None:
        return None
    if isinstance(value, Mapping):
        parts = [(f"{place}[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{place}[{position}]", item) for position, item in enumerate(value)]
    else:
        return f"{place or 'it'} is {type(value).__name__}"
    return next((found for at, item in parts if (found := not_json(item, at)) is not None), None)


def document_of(value: object) -> tuple[Any, bool]:
    """What `jsonable` gives, at once where the value is made of JSON's types already.

    And whether JSONB can hold it, and each part of it, as it is.
    """
    try:
        text = json.dumps(value)
    except TypeError:
        return jsonable(value), False
    return json.loads(text), is_plain(text)


def response_columns(response: ModelResponse) -> Row:
    """The columns of `model_responses` that hold what the model answered."""
    output: list[Json] = [_recorded(item) for item in response.output]
    usage = serialize_usage(response.usage)
    if response.raw_usage is not None:
        usage["raw_usage"] = response.raw_usage
    ids = {"response_id": response.response_id, "request_id": response.request_id}
    # Exactly, where the column is to hold another text.
    usage |= {name: told for name, told in ids.items() if plain_text(told) != told}
    return {
        "response_id": plain_text(response.response_id),
        "request_id": plain_text(response.request_id),
        "output": storable(output),
        "usage": storable(usage),
    }


def _recorded(item: object) -> Json:
    if not isinstance(item, BaseModel):
        return encode_item(item)
    document = raw(item)
    if is_of_api(type(item)) and _classes().get(str(document.get("type"))) is not type(item):
        return encode_model(item)
    return escaped(document)


def encode_model(model: BaseModel) -> Json:
    """A model of the API's whose document does not tell its class: of a type that is new, or none.

    The client makes an item of some class in any case, without checking it.
    """
    document = model.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
    return {"$type": type_path(type(model)), "value": encode(document)}


def is_of_api(kind: type | None) -> bool:
    """Whether a class is a model of the provider's API, or one that is registered and derived."""
    return (
        kind is not None
        and issubclass(kind, openai.BaseModel)
        and registered(type_path(kind)) is kind
    )


def encode_item(item: object) -> Json:
    """An item that is not a model object keeps its form, so that a replay sees the same."""
    if isinstance(item, dict):
        pairs: list[Json] = [[encode(key), encode(value)] for key, value in item.items()]
        return {"$type": "builtins:dict", "value": pairs}
    return encode(item)


def response_of(row: Row) -> ModelResponse:
    """The model's answer as it was."""
    usage = restored(row["usage"])
    return ModelResponse(
        output=[item_of(item, _classes()) for item in restored(row["output"])],
        usage=deserialize_usage(usage),
        response_id=usage.get("response_id", row["response_id"]),
        request_id=usage.get("request_id", row["request_id"]),
        raw_usage=usage.get("raw_usage"),
    )


def item_of(document: Any, kinds: Mapping[str, type[BaseModel]]) -> Any:
    """What was recorded of an item or event: by `encode_item`, or of a model, escaped.

    Args:
        document: What was recorded.
        kinds: The models of the provider's API by their `type`.
    """
    found = unescaped(document)
    if found is document and (not isinstance(found, dict) or is_encoded(found)):
        kind: Any = registered(found["$type"]) if isinstance(found, dict) else None
        # By `encode_model`, and not as any other value.
        is_model = is_of_api(kind) and not is_state(found["value"])
        held = decode(found["value"]) if is_model else None
        return _built(kind, held) if isinstance(held, dict) else decode(found)
    return _made(found, kinds)


def _made(document: Any, kinds: Mapping[str, type[BaseModel]]) -> Any:
    """A document of the provider's API as the object it was, if its kind is known."""
    kind = kinds.get(str(document.get("type")))
    return document if kind is None else _built(kind, document)


def _built(kind: type[BaseModel], document: Any) -> Any:
    try:
        return kind.model_validate(document)
    except ValidationError:
        # Gateways leave out fields that the type asks for; the SDK built it unchecked, too.
        return kind.model_construct(**document)


def text_in(item: Row, name: str) -> str | None:
    """A text of an item that somebody else made, for a column; None of anything else."""
    found = item.get(name)
    return plain_text(found) if isinstance(found, str) else None


def kinds_of(union: Any) -> dict[str, type[BaseModel]]:
    """The members of one of the provider's annotated unions, by the `type` that each has alone.

    A validator of the whole union takes long to make, and to ask: it tries every member.
    """
    return {
        str(literal): member
        for member in get_args(get_args(union)[0])
        for literal in get_args(member.model_fields["type"].annotation)
    }


@functools.cache
def _classes() -> dict[str, type[BaseModel]]:
    return kinds_of(ResponseOutputItem)


def item_type(item: Row, handoff_names: Collection[str | None]) -> str:
    """The SDK's name for a run item made of a provider's item."""
    kind = str(item.get("type"))
    if kind == "function_call" and text_in(item, "name") in handoff_names:
        return "handoff_call_item"
    return _ITEM_TYPES.get(kind, "tool_call_item")


def is_call(item: Row) -> bool:
    """Whether a provider's item is a tool's call, whoever makes it."""
    kind = str(item.get("type"))
    if kind == "mcp_approval_request":
        return True
    return kind.endswith("_call") and kind != "tool_search_call"


def is_made_here(item: Row) -> bool:
    return item.get("type") in _RUN_HERE


_TOOL_NAMES = {"computer_call": "computer_use_preview"}
"""The SDK's names of tools whose calls have another."""


def call_id_of(item: Row) -> str:
    """The provider's id of the call that an item asks for, as it is."""
    return str(item.get("call_id") or item.get("id") or "")


def call_columns(item: Row) -> Row:
    """The columns of `tool_calls` that a provider's item tells."""
    kind = str(item.get("type"))
    name = item.get("name") or _TOOL_NAMES.get(kind, kind.removesuffix("_call"))
    columns: Row = {
        "call_id": storable_name(call_id_of(item), None),
        "tool_name": storable_name(str(name)),
        "tool_type": "function" if kind == "function_call" else kind.removesuffix("_call"),
        "arguments": storable(arguments_of(item)),
    }
    if not is_made_here(item):
        columns["output"] = storable(_provider_output(item))
    return columns


def _provider_output(item: Row) -> Json:
    """What a call gave that the provider made itself, as far as its item tells."""
    told = (item.get(name) for name in ("output", "outputs", "results", "result"))
    return next((output for output in told if output is not None), None)


def arguments_of(item: Row) -> Json:
    """A call's arguments as JSON; as a string where the model wrote something else."""
    given = item.get("arguments", item.get("action", item.get("operation", item.get("input"))))
    if not isinstance(given, str):
        return given
    try:
        parsed: Json = json.loads(given)
    except ValueError:
        return given
    return parsed


def model_name(model: object, agent_model: object) -> str | None:
    """The name of the model that answers, as far as its object tells."""
    for source in (getattr(model, "model", None), agent_model):
        if isinstance(source, str):
            return storable_name(source)
    return type(model).__name__
