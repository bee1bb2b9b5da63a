"""`GET /openapi.json` is a valid description, with an example of each request and answer."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from timestep import config, errors
from timestep.web import problems
from timestep.web.app import create_app


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(json.dumps(create_app(config.Settings(), {}).openapi()))  # type: ignore[no-any-return]


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    found = document
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[name]
    return found


def test_it_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_operations_have_names_for_methods_of_clients(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and "api" not in name for name in names), names
    assert "RunPage" in document["components"]["schemas"]
    assert not [name for name in document["components"]["schemas"] if name.endswith("_")]


def test_each_example_fits_its_schema(document: dict[str, Any]) -> None:
    for where, operation in operations(document):
        contents = list(operation.get("requestBody", {}).get("content", {}).values())
        for response in operation["responses"].values():
            contents += resolved(document, response).get("content", {}).values()
        for content in contents:
            shown = [one["value"] for one in content.get("examples", {}).values()]
            shown += [content["example"]] if "example" in content else []
            assert shown, f"{where} has no example: add one to web/description/examples.py"
            schema = {**content["schema"], "components": document["components"]}
            validator = jsonschema.Draft202012Validator(
                schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
            )
            for example in shown:
                validator.validate(example)
                model = resolved(document, content["schema"])
                assert set(example) >= set(model.get("required", [])), where


def test_answers_have_all_their_fields_and_say_what_they_are(document: dict[str, Any]) -> None:
    run = document["components"]["schemas"]["Run"]
    assert set(run["required"]) == set(run["properties"])
    assert "in US dollars" in run["properties"]["cost"]["description"]
    pages = document["components"]["schemas"]["RunPage"]
    assert pages["required"] == ["items", "next_cursor"]
    assert document["components"]["schemas"]["Start"].get("required") is None


def test_errors_are_problems_of_documented_types(document: dict[str, Any]) -> None:
    for where, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400":
                found = resolved(document, response)
                assert list(found["content"]) == ["application/problem+json"], where
                assert (
                    f"`urn:timestep:{problems._KINDS.get(int(status), '')}"
                    in (found["description"])
                )
        if where.partition("/")[2].startswith("api/"):
            expected = {"401", "403", "404", "422", "429", "503"}
            assert expected <= set(operation["responses"]), where
            assert operation["security"] == [{"bearer": []}, {"cookie": []}]
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["cookie"]["in"]) == ("bearer", "cookie")
    # What is raised on purpose has its own sentence.
    assert problems.KINDS["unknown-run"] == (404, errors.UnknownRunError.__doc__)


def test_every_route_is_described(document: dict[str, Any]) -> None:
    app = create_app(config.Settings(), {})
    paths = {route.path for route in app.routes if isinstance(route, APIRoute)}
    assert paths - set(document["paths"]) <= {"/login", "/logout"}
