"""Answers of the API as JSON."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from timestep.operations.queries.records import RunError
from timestep.web.problems import Answer, problem


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"a": [RunError("E", "m", 1)]}, '{"a": [{"type": "E", "message": "m", "turn": 1}]}'),
        (float("nan"), "null"),
        ({"a": [float("inf"), 1.5]}, '{"a": [null, 1.5]}'),
        ("\ud800 \x00", '"\\ud800 \\u0000"'),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), '"2026-01-02T00:00:00+00:00"'),
    ],
)
def test_whatever_was_recorded_can_be_answered(content: Any, text: str) -> None:
    assert Answer(content).body == text.encode()


def test_a_problem_is_a_document() -> None:
    answer = problem(404, "gone", kind="unknown-run")
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:timestep:unknown-run",
        "title": "Not Found",
        "status": 404,
        "detail": "gone",
    }
