"""What a request is refused for says which part of it does not fit, and what to send instead."""

from __future__ import annotations

import re
from typing import Any

import pytest
from dbos import DBOS
from fastapi import FastAPI

from tests.support.api_client import asking, client_of
from tests.support.dbos_app import App
from tests.support.problems import problem
from timestep import config
from timestep.operations.entrypoints import lookup
from timestep.web.app import create_app


@pytest.fixture(autouse=True)
def database(app: App) -> None:
    """One that tests share."""


@DBOS.workflow()
async def topical(topic: str, depth: int = 2) -> str:
    return topic * depth


START, FORK = "/api/workflows/topical/runs", "/api/runs/nope/fork"
RESUME, TOKENS = "/api/workflows/nope/resume", "/api/tokens"
NOTHING = object()

MISFITS: tuple[tuple[str, Any, dict[str, str]], ...] = (
    (START, NOTHING, {"/body": 'nothing was sent: send JSON such as {"input": {'}),
    (START, {}, {"/topic": "'topic' is missing"}),
    (START, {"workflow_id": "w"}, {"/topic": "'topic' is missing"}),
    (
        START,
        {"topic": "x", "deep": 3},
        {
            "/body/topic": "there is no such field: there are 'input', 'workflow_id', ",
            "/body/deep": "; the entrypoint's parameters go into 'input'",
        },
    ),
    (START, {"input": "x"}, {"/body/input": "input should be a valid JSON object, not 'x'"}),
    (START, {"input": None}, {"/body/input": "input should be a valid JSON object, not null"}),
    (START, [1], {"/body": "input should be a valid JSON object"}),
    (START, {"input": {}, "timeout": True}, {"/body/timeout": "a valid number, not true"}),
    (FORK, {}, {"/body/turn": 'it is missing: send JSON such as {"turn": 2'}),
    (
        FORK,
        {"turn": 1, "input": {"str": 1}},
        {"/body/input": "input should be a valid string or input should be a valid list"},
    ),
    (FORK, {"turn": 1, "agent": {"x": 1}}, {"/body/agent/x": "there is no such field"}),
    (
        RESUME,
        {"approve": "x"},
        {"/body/approve": "input should be a valid list or input should be 'all', not 'x'"},
    ),
    (
        RESUME,
        {"approve": ["a", 3]},
        {"/body/approve/1": "a valid string, not 3", "/body/approve": "should be 'all'"},
    ),
    (RESUME, {"edit": {"c1": [1]}}, {"/body/edit/c1": "a valid JSON object"}),
    (TOKENS, {"name": "ann"}, {"/body/role": 'it is missing: send JSON such as {"name": "ann"'}),
)


def test_each_part_that_does_not_fit_is_named() -> None:
    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            for path, body, expected in MISFITS:
                answer = await client.post(path, **({} if body is NOTHING else {"json": body}))
                detail = problem(answer, 422)
                fields = {one["pointer"]: one["detail"] for one in answer.json()["errors"]}
                assert fields.keys() == expected.keys(), (path, body)
                for where, text in expected.items():
                    assert text in fields[where], (path, body)
                    assert fields[where] in detail
            answer = await client.post(START, json={"workflow_id": "w"})
            told = """'topic' is missing. The body has no "input": send {"input": {"topic": …}}"""
            assert told in problem(answer, 422)
            answer = await client.post(
                START, json={"input": {"topic": "x"}, **dict.fromkeys("abcdefghijklm", 1)}
            )
            assert problem(answer, 422).endswith("; and 3 more")

    asking(work, create_app(config.read(), {"topical": lookup(topical)}))


def test_what_is_not_there_is_named() -> None:
    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            for method, path, body in (
                ("GET", "/api/runs/nobody%2Fy", None),
                ("GET", "/api/runs/nobody%2Fy/items", None),
                ("GET", "/api/runs/nobody%2Fy/tool_calls", None),
                ("GET", "/api/runs/nobody%2Fy/events", None),
                ("GET", "/api/runs/nobody%2Fy/traceback", None),
                ("POST", "/api/runs/nobody%2Fy/fork", {"turn": 1}),
                ("POST", "/api/workflows/nobody%2Fy/resume", {"approve": "all"}),
                ("POST", "/api/workflows/nobody%2Fy/resume", {"again": True}),
                ("POST", "/api/workflows/nobody%2Fy/resume", {"from_checkpoint": True}),
                ("POST", "/api/workflows/nobody%2Fy/cancel", None),
                ("POST", "/api/workflows/nobody%2Fy/runs", {"input": {}}),
                ("GET", "/api/workflows/nobody%2Fy/graph", None),
                ("GET", "/api/sessions/nobody%2Fy", None),
                ("POST", "/api/tokens/nobody%2Fy/revoke", None),
                ("GET", "/nobody%2Fy", None),
            ):
                answer = await client.request(method, path, json=body)
                assert "nobody" in problem(answer, 404), path

    asking(work, create_app(config.read(), {"topical": lookup(topical)}))


def test_no_parameter_of_a_query_is_passed_over() -> None:
    async def work(web: FastAPI) -> None:
        calls = [
            (method, path)
            for path, methods in web.openapi()["paths"].items()
            for method in methods
            if path.startswith("/api/")
        ]
        assert len(calls) > 20
        async with client_of(web) as client:
            for method, path in calls:
                filled = re.sub(r"\{.*?\}", "nope", path)
                answer = await client.request(method, filled, params={"agnt": "x"})
                problem(answer, 422)
                (error,) = answer.json()["errors"]
                assert error["pointer"] == "/query/agnt", (method, path)
                expected = ("there is no such parameter: there are '", "it takes none")
                assert error["detail"].startswith(expected)
            answer = await client.get("/api/runs", params={"agnt": "x"})
            assert "there are 'status', 'agent', 'entrypoint'" in problem(answer, 422)

    asking(work)


def test_times_are_given_as_at_a_terminal_or_exactly() -> None:
    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            for path in ("/api/runs", "/api/usage", "/api/audit"):
                for given in ("7d", "30m", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00+01:00"):
                    answer = await client.get(path, params={"since": given})
                    assert answer.status_code == 200, answer.text
                for given in ("7 d", "2026-01-31", "2026-01-31T12:00", "", "999999999w"):
                    detail = problem(await client.get(path, params={"since": given}), 422)
                    assert detail == (
                        f"query.since: {given!r} is neither a time with its zone, such as "
                        "2026-01-31T12:00:00Z, nor a time ago: 30m, 12h, 7d, 2w"
                    )

    asking(work)
