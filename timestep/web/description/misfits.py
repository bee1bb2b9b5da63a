"""Says, for people, what of a request does not fit the description of its call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from pydantic import BaseModel

from timestep.runtime.terminal import quoted
from timestep.serialization.json_output import pointer
from timestep.web.description.examples import BODIES

SHOWN = 10
"""Misfits of a request that are told at once: a body may have very many."""


def told(
    request: Request, found: Sequence[Mapping[str, Any]], body: Any
) -> tuple[str, list[dict[str, str]]]:
    """What does not fit, in one text and field by field.

    Args:
        request: It, whose route is known.
        found: The errors of its validation, as pydantic has them.
        body: What it sent as JSON.

    Returns:
        The text; and for each field its pointer, and what is wrong with it.
    """
    reasons: dict[tuple[str, ...], list[str]] = {}
    given: dict[tuple[str, ...], str] = {}
    for one in found:
        place = _place(one, body)
        reasons.setdefault(place, []).append(_reason(request, one))
        given[place] = _given(one)
    fields = [
        (place, " or ".join(dict.fromkeys(said)) + given[place]) for place, said in reasons.items()
    ]
    lines = [f"{'.'.join(place)}: {reason}" for place, reason in fields[:SHOWN]]
    if len(fields) > SHOWN:
        lines.append(f"and {len(fields) - SHOWN} more")
    return "; ".join(lines), [
        {"pointer": pointer(place), "detail": reason} for place, reason in fields[:SHOWN]
    ]


def _place(one: Mapping[str, Any], body: Any) -> tuple[str, ...]:
    """Where it is, without the parts by which pydantic tells the kinds that a field may be of."""
    location = one["loc"]
    if location[0] != "body":
        return tuple(map(str, location))
    value = body
    ways: list[tuple[tuple[str, ...], Any]] = [(("body",), body)]
    for part in location[1:]:
        is_item = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if is_item or (isinstance(value, dict) and part in value):
            value = value[part]
            ways.append(((*ways[-1][0], str(part)), value))
    # A key may be named as such a part is: it leads on from what is meant.
    given = one.get("input")
    place = next((way for way, value in reversed(ways) if value is given), ways[-1][0])
    is_missing = one["type"] == "missing" and len(location) > 1
    return (*place, str(location[-1])) if is_missing else place


def _reason(request: Request, one: Mapping[str, Any]) -> str:
    location, kind = one["loc"], one["type"]
    if kind == "missing" and location == ("body",):
        return f"nothing was sent: send JSON such as {_example(request)}"
    if kind == "missing":
        return "it is missing" + (
            f": send JSON such as {_example(request)}" if _is_top(one) else ""
        )
    if kind == "extra_forbidden" and location[0] == "query":
        names = ", ".join(map(repr, parameters(request)))
        return f"there is no such parameter: there are {names}" if names else "it takes none"
    if kind == "extra_forbidden":
        model = _model(request) if _is_top(one) else None
        known = "" if model is None else f": there are {', '.join(map(repr, model.model_fields))}"
        hint = getattr(model, "MISPLACED", None)
        return f"there is no such field{known}" + (f"; {hint}" if hint else "")
    text = (
        str(one["msg"])
        .removeprefix("Value error, ")
        .replace("dictionary or object to extract fields from", "JSON object")
    )
    return text[:1].lower() + text[1:].replace("dictionary", "JSON object")


def _given(one: Mapping[str, Any]) -> str:
    """What was sent instead, of what is quickly said."""
    given = one.get("input")
    if one["loc"][0] != "body" or one["type"] in ("missing", "extra_forbidden"):
        return ""
    if given is None or isinstance(given, bool):
        return f", not {json.dumps(given)}"
    return f", not {quoted(given)}" if isinstance(given, str | int | float) else ""


def _is_top(one: Mapping[str, Any]) -> bool:
    """Whether it is about a field of the body itself."""
    return one["loc"][0] == "body" and len(one["loc"]) == 2


def _model(request: Request) -> type[BaseModel] | None:
    """What the body is described by."""
    field = getattr(request.scope.get("route"), "body_field", None)
    annotation = getattr(getattr(field, "field_info", None), "annotation", None)
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_model else None


def parameters(request: Request) -> list[str]:
    """The names of the parameters that the query of a request's route may have."""
    return [field.alias for field in request.scope["route"].dependant.query_params]


def _example(request: Request) -> str:
    name = getattr(request.scope.get("route"), "name", "")
    return json.dumps(BODIES.get(name, {}), ensure_ascii=False)
