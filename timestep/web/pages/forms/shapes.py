"""Tells in a line how JSON has to be for a schema: `[{"sku": text, "count"?: whole number}]`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from timestep.web.pages.forms.properties import ordered, plain, required

_DEEPEST = 3
"""Levels that are told; of what is below them, that it is there."""
_NAMED = 8
"""Properties, choices or kinds that are told of one schema."""
_LONGEST = 300
"""Characters."""
_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}


def shape(root: Mapping[str, Any], schema: Any) -> str:
    """How JSON has to be for a schema, as far as a line tells it.

    Args:
        root: What its references are into.
        schema: It.
    """
    told = _shape(root, schema, _DEEPEST)
    return told if len(told) <= _LONGEST else f"{told[:_LONGEST]}…"


def _shape(root: Mapping[str, Any], schema: Any, levels: int) -> str:
    one, is_nullable = plain(root, schema)
    told = _of_one(root, one, levels)
    return f"{told} or null" if is_nullable else told


def _of_one(root: Mapping[str, Any], one: Mapping[str, Any], levels: int) -> str:
    choices = one.get("enum", [one["const"]] if "const" in one else None)
    if isinstance(choices, list) and choices:
        return _several([_choice(choice) for choice in choices[: _NAMED + 1]])
    kinds = one.get("anyOf", one.get("oneOf"))
    if isinstance(kinds, list) and kinds:
        if not levels:
            return "…"
        return _several([_shape(root, kind, levels - 1) for kind in kinds[: _NAMED + 1]])
    type_ = one.get("type")
    if isinstance(type_, list):
        several = [kind for kind in type_[:_NAMED] if isinstance(kind, str)]
        return _several([_shape(root, {**one, "type": kind}, levels) for kind in several])
    if type_ == "array":
        return _list(root, one, levels)
    if type_ == "object" or isinstance(one.get("properties"), dict):
        return _object(root, one, levels)
    return _WORDS.get(str(type_), "anything")


def _choice(value: Any) -> str:
    if isinstance(value, dict | list):
        return "{…}" if isinstance(value, dict) else "[…]"
    return json.dumps(value, ensure_ascii=False)[:100]


def _several(told: list[str]) -> str:
    found = list(dict.fromkeys(told)) or ["anything"]
    return " or ".join(found if len(found) <= _NAMED else [*found[:_NAMED], "…"])


def _list(root: Mapping[str, Any], one: Mapping[str, Any], levels: int) -> str:
    if not levels:
        return "[…]"
    places = one.get("prefixItems")
    if isinstance(places, list) and places:
        inside = ", ".join(_shape(root, place, levels - 1) for place in places[:_NAMED])
        return f"[{inside}]"
    if "items" not in one:
        return "[…]"
    return f"[{_shape(root, one['items'], levels - 1)}, …]"


def _object(root: Mapping[str, Any], one: Mapping[str, Any], levels: int) -> str:
    named, more = one.get("properties"), one.get("additionalProperties")
    if isinstance(named, dict) and named:
        if not levels:
            return "{…}"
        names, needed = ordered(one), required(one)
        parts = [
            f"{json.dumps(name, ensure_ascii=False)}{'' if name in needed else '?'}: "
            f"{_shape(root, named[name], levels - 1)}"
            for name in names[:_NAMED]
        ]
        return f"{{{', '.join([*parts, *(['…'] if len(names) > _NAMED else [])])}}}"
    if isinstance(more, dict) and more and levels:
        return f'{{"…": {_shape(root, more, levels - 1)}}}'
    return "{…}"
