"""Tells what a JSON schema says of the properties of an object, as far as a form shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "number", "choice", "json"]
Meaning = Literal["left_out", "null", "text"]

REST = ""
"""The name of the field for what the schema does not name, and of problems of no field."""

_DEEPEST = 20
"""Steps from one reference of a schema to the next that are followed."""
_MOST = 100
"""Fields that are made one by one: a longer object is JSON as a whole."""


@dataclass(frozen=True)
class Property:
    """What a schema says of a property."""

    name: str
    schema: Mapping[str, Any]
    is_required: bool
    kind: Kind
    type: str | None
    is_nullable: bool
    choices: list[Any]

    @property
    def meanings(self) -> list[Meaning]:
        """What it may mean that nothing is typed; nothing: something has to be."""
        found: list[Meaning] = []
        if not self.is_required:
            found.append("left_out")
        if self.is_nullable and self.kind in ("text", "number"):
            found.append("null")
        if self.kind == "text" and not self.is_filled:
            found.append("text")
        return found

    @property
    def is_filled(self) -> bool:
        """Whether text in it has to have a character."""
        shortest = self.schema.get("minLength")
        return isinstance(shortest, int) and shortest > 0


def properties(schema: Any) -> Iterator[Property]:
    """The properties of an object's schema, whatever that is; none where there are very many."""
    found = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(found, dict) or len(found) > _MOST or not all(map(_is_named, found)):
        return
    needed = required(schema)
    for name in ordered(schema):
        given = found[name]
        one, is_nullable = plain(schema, given)
        kind, type_, choices = _kind(one)
        help_ = given if isinstance(given, dict) else {}
        yield Property(name, {**one, **help_}, name in needed, kind, type_, is_nullable, choices)


def required(schema: Mapping[str, Any]) -> list[str]:
    """The properties that an object has to have, of those that its schema names."""
    named, given = schema.get("properties"), schema.get("required")
    if not isinstance(named, dict) or not isinstance(given, list):
        return []
    return list(dict.fromkeys(one for one in given if isinstance(one, str) and one in named))


def ordered(schema: Mapping[str, Any]) -> list[str]:
    """The properties that an object's schema names, those that are required first.

    Schemas that the database has are in no order: what is required tells it, as far as it does.
    """
    needed = required(schema)
    return [*needed, *(name for name in schema["properties"] if name not in needed)]


def _is_named(name: str) -> bool:
    """Whether a field may have this name: `REST` is another's, and browsers change lines' ends."""
    return name != REST and "\n" not in name and "\r" not in name


def plain(root: Mapping[str, Any], given: Any) -> tuple[dict[str, Any], bool]:
    """A schema without references and without null among its types; whether that was there.

    Args:
        root: What its references are into.
        given: It; what is no schema at all says nothing.
    """
    one: Any = given
    is_nullable = False
    for _ in range(_DEEPEST):
        if not isinstance(one, dict):
            return {}, is_nullable
        if isinstance(one.get("$ref"), str):
            one = _referred(root, one["$ref"])
            continue
        kinds = one.get("anyOf", one.get("oneOf"))
        if isinstance(kinds, list) and any(map(_is_null, kinds)):
            others = [kind for kind in kinds if not _is_null(kind)]
            is_nullable = True
            one = others[0] if len(others) == 1 else {"anyOf": others}
            continue
        alone = one.get("allOf", kinds)
        if isinstance(alone, list) and len(alone) == 1 and isinstance(alone[0], dict):
            # As some write a reference that has something beside it.
            rest = {name: one[name] for name in one if name not in _OF_SEVERAL}
            one = {**rest, **alone[0]}
            continue
        types = one.get("type")
        if isinstance(types, list) and "null" in types:
            is_nullable = True
            others = [kind for kind in types if kind != "null"]
            one = {**one, "type": others[0] if len(others) == 1 else others}
        return one, is_nullable
    return {}, is_nullable


_OF_SEVERAL = ("anyOf", "oneOf", "allOf")


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


def _referred(root: Mapping[str, Any], reference: str) -> Any:
    found: Any = root
    if not reference.startswith("#/"):
        return {}
    for part in reference[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _kind(schema: Mapping[str, Any]) -> tuple[Kind, str | None, list[Any]]:
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(choices, list) and choices and all(map(_is_scalar, choices)):
        return "choice", None, choices
    type_ = schema.get("type")
    if any(name in schema for name in _OF_SEVERAL):
        return "json", None, []
    if type_ == "boolean":
        return "choice", "boolean", [True, False]
    if type_ == "string":
        return "text", "string", []
    if type_ in ("integer", "number"):
        return "number", str(type_), []
    return "json", None, []


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def takes_more(schema: Any) -> bool:
    """Whether a schema lets an object have properties that it does not name."""
    return isinstance(schema, dict) and schema.get("additionalProperties", False) is not False


def takes_nothing(schema: Any) -> bool:
    """Whether a schema is of an object that has no properties."""
    if not isinstance(schema, dict) or schema.get("properties", {}) != {}:
        return False
    return schema.get("additionalProperties") is False
