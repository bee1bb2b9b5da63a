"""Completes the description of the API (OpenAPI 3.1): problems, examples, names of schemas."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from timestep.web.description.examples import ANSWERS, BODIES
from timestep.web.problems import KINDS, MEDIA_TYPE, TYPE

_PAGE = re.compile(r"\bPage_(\w+?)_(?=\")")
"""What a page of things is called after the class and its parameter."""

_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "Seconds, of `busy`.", "schema": {"type": "integer"}}},
}


def describe(app: FastAPI) -> None:
    """Have an application describe its answers as they are."""
    make = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(make())
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI tells to extend it


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    responses = document["components"].setdefault("responses", {})
    for operations in document["paths"].values():
        for operation in operations.values():
            _give_examples(operation)
            found: dict[str, Any] = operation["responses"]
            for status in sorted(found):
                response = found.pop(status)
                if status >= "400":
                    name = _name(int(status))
                    responses[name] = _of_problem(int(status), response)
                    response = {"$ref": f"#/components/responses/{name}"}
                found[status] = response
    found = json.loads(_PAGE.sub(r"\1Page", json.dumps(document)))
    return dict(found)


def _give_examples(operation: dict[str, Any]) -> None:
    name = operation["operationId"]
    if name in BODIES:
        operation["requestBody"]["content"]["application/json"]["example"] = BODIES[name]
    for status, response in operation["responses"].items():
        if status < "300" and name in ANSWERS:
            for content in response.get("content", {}).values():
                content["example"] = ANSWERS[name]


def _of_problem(status: int, response: dict[str, Any]) -> dict[str, Any]:
    """An error with the media type that it has, and the types that it may be of."""
    kinds = {kind: text for kind, (known, text) in KINDS.items() if known == status}
    lines = [f"- `{TYPE}{kind}`: {text}" for kind, text in kinds.items()]
    examples = {
        kind: {
            "value": {
                "type": f"{TYPE}{kind}",
                "title": HTTPStatus(status).phrase,
                "status": status,
                "detail": text,
            }
        }
        for kind, text in kinds.items()
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": "\n".join([response["description"], "", *lines]),
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
    }


def _name(status: int) -> str:
    return "".join(word.capitalize() for word in HTTPStatus(status).name.split("_"))
