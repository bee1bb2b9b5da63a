"""A body that does not say that it is JSON is refused by its content type."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from fastapi import FastAPI

from tests.support.problems import problem
from timestep.web.json_bodies import StrictRoute
from timestep.web.problems import handle_problems


def sent(path: str, body: bytes, content_type: str | None) -> httpx.Response:
    app = FastAPI()
    app.router.route_class = StrictRoute
    handle_problems(app)

    @app.post("/takes")
    async def takes(body: dict[str, int]) -> dict[str, int]:
        return body

    @app.post("/takes-none")
    async def takes_none() -> None:
        return None

    async def ask() -> httpx.Response:
        headers = {"content-type": content_type} if content_type is not None else {}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://host"
        ) as client:
            return await client.post(path, content=body, headers=headers)

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("content_type", "told"),
    [
        ("application/x-www-form-urlencoded", "as 'application/x-www-form-urlencoded'"),
        ("text/plain; charset=utf-8", "as 'text/plain; charset=utf-8'"),
        ("json", "as 'json'"),
        ("x" * 5000, "as 'xxx"),
        ("", "without a content type"),
        (None, "without a content type"),
    ],
)
def test_another_content_type_is_named(content_type: str | None, told: str) -> None:
    detail = problem(sent("/takes", b'{"a": 1}', content_type), 422)
    assert told in detail
    assert "'content-type: application/json'" in detail
    assert len(detail) < 300


@pytest.mark.parametrize("content_type", ["application/json", "application/vnd.a+json; q=1"])
def test_json_is_read(content_type: str) -> None:
    answer = sent("/takes", b'{"a": 1}', content_type)
    assert (answer.status_code, json.loads(answer.content)) == (200, {"a": 1})
    assert "not JSON" in problem(sent("/takes", b"a=1", content_type), 422)


def test_where_no_body_is_read_any_may_come() -> None:
    assert sent("/takes-none", b"a=1", "application/x-www-form-urlencoded").status_code == 200
    assert "body" in problem(sent("/takes", b"", None), 422)
