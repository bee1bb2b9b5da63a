"""What a person gives instead of a call's arguments is checked as the tool's JSON schema says."""

from __future__ import annotations

from typing import Any

import pytest
from agents import function_tool
from pydantic import BaseModel, Field

from timestep.approvals.edited_arguments import checked
from timestep.errors import InvalidArgumentsError, InvalidInputError


class Line(BaseModel):
    sku: str = Field(pattern="^[a-z]+$")
    count: int = Field(ge=1)


@function_tool
async def order(to: str, lines: list[Line], note: str | None = None) -> str:
    return ""


def row(**given: Any) -> dict[str, Any]:
    """The row of a question about a call."""
    return {
        "id": "i",
        "type": "tool_approval",
        "reason": "needs_approval",
        "tool_name": "order",
        "call_id": "c1",
        "tool_type": "function",
        "arguments_schema": order.params_json_schema,
        **given,
    }


FITS = {"to": "ann", "lines": [{"sku": "abc", "count": 2}], "note": None}


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        (FITS, {}),
        ({"lines": []}, {"/c1/to": "it is required", "/c1/note": "it is required"}),
        ({**FITS, "to": 1}, {"/c1/to": "1 is not of type 'string'"}),
        ({**FITS, "note": 1}, {"/c1/note": "1 is not of type 'string' or 'null'"}),
        (
            {**FITS, "lines": [{"sku": "abc", "count": 0}, {"sku": "A1", "count": 1.5}]},
            {
                "/c1/lines/0/count": "0 is less than the minimum of 1",
                "/c1/lines/1/sku": "'A1' does not match '^[a-z]+$'",
                "/c1/lines/1/count": "1.5 is not of type 'integer'",
            },
        ),
        (
            {**FITS, "~/x": 1},
            {"/c1": "Additional properties are not allowed ('~/x' was unexpected)"},
        ),
        ({**FITS, "to": ["x" * 1000]}, {"/c1/to": f"['{'x' * 198} …"}),
    ],
)
def test_each_field_that_does_not_fit_is_told(given: Any, fields: dict[str, str]) -> None:
    if not fields:
        assert checked({"c1": (row(), given)}) == {"c1": given}
        return
    with pytest.raises(InvalidArgumentsError) as refused:
        checked({"c1": (row(), given)})
    assert {one["pointer"]: one["detail"] for one in refused.value.fields} == fields


@pytest.mark.parametrize(
    ("name", "fits", "misfit"),
    [
        ("date-time", "2026-01-01T00:00:00Z", "tomorrow"),
        ("date-time", "2026-01-01 00:00", "2026-13-01T00:00:00Z"),
        ("date", "2026-01-31", "2026-02-31"),
        ("time", "12:30", "noon"),
        ("duration", "P1DT2H", "two hours"),
        ("uuid", "12345678-1234-5678-1234-567812345678", "12345"),
        # Other tools know others; what is no text is no matter of a format.
        ("email", "anything", 5),
    ],
)
def test_text_of_a_format_is_such(name: str, fits: str, misfit: Any) -> None:
    schema = {
        "properties": {"a": {"anyOf": [{"type": "string", "format": name}, {"type": "null"}]}}
    }
    asked = row(arguments_schema=schema)
    for given in (fits, None):
        assert checked({"c1": (asked, {"a": given})}) == {"c1": {"a": given}}
    with pytest.raises(InvalidArgumentsError) as refused:
        checked({"c1": (asked, {"a": misfit})})
    (told,) = refused.value.fields
    expected = f"'{misfit}' is no {name}" if isinstance(misfit, str) else "is not of type"
    assert (told["pointer"], expected in told["detail"]) == ("/c1/a", True)


def test_of_very_many_fields_some_are_told() -> None:
    with pytest.raises(InvalidArgumentsError) as refused:
        checked({"a/b": (row(), {**FITS, "lines": [1] * 100})})
    assert len(refused.value.fields) == 21
    assert refused.value.fields[0]["pointer"] == "/a~1b/lines/0"
    assert refused.value.fields[-1] == {"pointer": "/a~1b", "detail": "and 80 more"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"type": "mcp_approval"}, "provider makes it itself"),
        ({"reason": "in_doubt"}, "may have taken effect"),
        ({"tool_type": "shell"}, "what a shell call does"),
        ({"tool_type": "custom_tool"}, "what a custom_tool call does"),
        ({"arguments_schema": None}, "is not recorded"),
    ],
)
def test_a_call_that_is_none_of_a_function_tool_is_not_edited(
    given: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidInputError, match=f"only approved or rejected: .*{why}"):
        checked({"c1": (row(**given), FITS)})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nothing"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "#/$defs/none"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"patternProperties": {"(": {}}},
    ],
)
def test_a_schema_that_does_not_work_is_told_and_nothing_is_fetched(schema: Any) -> None:
    with pytest.raises(InvalidInputError, match="none that works"):
        checked({"c1": (row(arguments_schema=schema), {"x": 1})})


def test_a_schema_of_a_server_freezes_nothing() -> None:
    slow = {"properties": {"x": {"pattern": "^(a+)+$"}, "y": {"pattern": "^(?=(a+)+$)"}}}
    with pytest.raises(InvalidArgumentsError, match="does not match"):
        checked({"c1": (row(arguments_schema=slow), {"x": "a" * 60 + "!", "y": "a" * 60 + "!"})})
