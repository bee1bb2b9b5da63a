"""Checks the arguments that a person gives a call instead of the model's."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from timestep.errors import InvalidArgumentsError, InvalidInputError
from timestep.runtime.terminal import quoted
from timestep.serialization.documents.forms import Json
from timestep.serialization.json_output import pointer

_TOLD = 20
"""Fields of one call that are told at once."""
_LONGEST = 200
"""Characters of what is told of a field: it quotes what was given."""


def checked(edits: Mapping[str, tuple[dict[str, Any], Any]]) -> dict[str, dict[str, Json]]:
    """The arguments as JSON, if all of them fit.

    Args:
        edits: The row of the question and the arguments, by the id that the caller gave.

    Raises:
        InvalidInputError: A call cannot be edited, or what is given is no JSON object.
        InvalidArgumentsError: Arguments do not fit their tool's JSON schema.
    """
    found: dict[str, dict[str, Json]] = {}
    fields: list[dict[str, str]] = []
    lines: list[str] = []
    for name, (row, arguments) in edits.items():
        _check_applies(row)
        found[name] = plain = as_object(row, arguments)
        for path, detail in _problems(row, plain):
            fields.append({"pointer": pointer((name, *path)), "detail": detail})
            place = ".".join(map(str, path))
            lines.append(f"{row['tool_name']}: {place + ': ' if place else ''}{detail}")
    if fields:
        raise InvalidArgumentsError(
            f"the edited arguments do not fit, and nothing was decided: {'; '.join(lines)}",
            fields=fields,
        )
    return found


def why_not(row: Mapping[str, Any], *, has_schema: bool) -> str | None:
    """Why the call that a question is about cannot be edited; None: it can.

    Args:
        row: The question's `type` and `reason`, and the `tool_type` of its call.
        has_schema: Whether the JSON schema of its arguments is recorded.
    """
    if row["type"] == "mcp_approval":
        return "the model's provider makes it itself, with the arguments that it has"
    if row["reason"] == "in_doubt":
        return (
            "it was begun with these arguments and may have taken effect: approve it, which makes "
            "it again, or give its result (supply)"
        )
    if row["tool_type"] != "function":
        return f"what a {row['tool_type']} call does is no object of a JSON schema"
    if not has_schema:
        return "the JSON schema of its tool is not recorded, so nothing could be checked"
    return None


def _check_applies(row: dict[str, Any]) -> None:
    """Refuse to edit a call that is not made of a function tool's arguments, or that may be over.

    Raises:
        InvalidInputError: It is one.
    """
    why = why_not(row, has_schema=isinstance(row["arguments_schema"], dict))
    if why is not None:
        raise InvalidInputError(
            f"call {quoted(row['call_id'])} of tool {quoted(row['tool_name'])} (interruption "
            f"{row['id']}) cannot be edited, only approved or rejected: {why}"
        )


def as_object(row: dict[str, Any], arguments: Any) -> dict[str, Json]:
    """Arguments as the JSON object that they are.

    Raises:
        InvalidInputError: They are none.
    """
    what = f"the edited arguments of tool {quoted(row['tool_name'])}"
    try:
        text = json.dumps(arguments, allow_nan=False, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"{what} have half of a surrogate pair") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{what} are no JSON: {error}") from None
    plain = json.loads(text)
    if not isinstance(plain, dict):
        raise InvalidInputError(f"{what} are an object, not {quoted(plain)}")
    return plain


def _problems(row: dict[str, Any], arguments: dict[str, Json]) -> Iterator[tuple[list[Any], str]]:
    """What does not fit a tool's JSON schema: where in the arguments, and why."""
    # Imported by those who edit alone: it takes long.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from jsonschema.validators import extend, validator_for
    from referencing import Registry

    schema = row["arguments_schema"]
    kind = extend(
        validator_for(schema, default=Draft202012Validator),
        {"format": _format, "pattern": _pattern, "required": _required},
    )
    try:
        kind.check_schema(schema)
        # A schema refers to nothing that would be fetched: servers of others write some.
        found = list(kind(schema, registry=Registry()).iter_errors(arguments))
    except Exception as error:  # whatever a schema that nobody checked leads to
        raise InvalidInputError(
            f"the arguments of tool {quoted(row['tool_name'])} cannot be checked, and so not be "
            f"edited: its JSON schema is none that works ({type(error).__name__})"
        ) from error
    for misfit in found[:_TOLD]:
        best = best_match([misfit])
        kinds = [one.validator_value for one in best.context or () if one.validator == "type"]
        detail = best.message
        if kinds and len(kinds) == len(best.context):
            detail = f"{best.instance!r} is not of type {' or '.join(map(repr, kinds))}"
        if len(detail) > _LONGEST:
            detail = f"{detail[:_LONGEST]} …"
        yield list(best.absolute_path), detail
    if len(found) > _TOLD:
        yield [], f"and {len(found) - _TOLD} more"


def _pattern(validator: Any, pattern: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """Ask the engine that Pydantic has, whose time does not explode.

    What it does not know, such as looking ahead, is left to the tool, which checks once more.
    """
    from jsonschema.exceptions import ValidationError
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    if not isinstance(instance, str):
        return
    try:
        matches = SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        return
    if not matches.isinstance_python(instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _format(validator: Any, name: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """Refuse text that is no time, or no UUID, for Pydantic, which is generous.

    A schema's own checker says nothing of it, and the tool would fail. What is no text, and
    formats that tools check in ways of their own, are left to the tool.
    """
    from jsonschema.exceptions import ValidationError

    checker = _of_format(name) if isinstance(name, str) else None
    if isinstance(instance, str) and checker and not checker.isinstance_python(instance):
        yield ValidationError(f"{instance!r} is no {name}")


@functools.lru_cache(maxsize=32)
def _of_format(name: str) -> Any:
    """What checks text of a format; None: nothing does."""
    from pydantic_core import SchemaValidator, core_schema

    known: dict[str, Any] = {
        "date-time": core_schema.datetime_schema,
        "date": core_schema.date_schema,
        "time": core_schema.time_schema,
        "duration": core_schema.timedelta_schema,
        "uuid": core_schema.uuid_schema,
    }
    return SchemaValidator(known[name]()) if name in known else None


def _required(validator: Any, required: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """Tell of what is missing in its own place, and not in that of what lacks it."""
    from jsonschema.exceptions import ValidationError

    if not isinstance(instance, dict) or not isinstance(required, list):
        return
    for name in required:
        if name not in instance:
            yield ValidationError("it is required", path=(name,))
