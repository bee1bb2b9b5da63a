"""A stream ends where its reader may not view any more, and says now and then that it goes on."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from agents import Agent
from agents.testing import ScriptedModel, assistant_message

import timestep
from tests.support.dbos_app import App
from timestep import config
from timestep.web import event_streams
from timestep.web.app import create_app


@pytest.fixture
def going_on(app: App) -> str:
    """The id of a workflow that is not over."""
    agent = Agent("A", model=ScriptedModel([[assistant_message("bye")]]))

    async def body() -> str:
        return str((await timestep.run_agent(agent, "hi")).final_output)

    app.run(body, "w")
    app.execute("UPDATE dbos.workflow_status SET status = 'PENDING'")
    return "w"


def streamed(path: str, **headers: str) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(config.read(), {}))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(run())


def test_who_may_not_read_any_more_is_told_and_given_nothing(
    going_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def may_read(request: httpx.Request) -> bool:
        asked.append(str(request.url))
        return len(asked) < 4

    monkeypatch.setattr(event_streams, "may_still_read", may_read)
    monkeypatch.setattr(event_streams, "HEARTBEAT", 0.01)
    answer = streamed(f"/api/runs/{going_on}/events")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    first, *rest = answer.text.removesuffix("\n\n").split("\n\n")
    assert first == "retry: 2000"
    assert len(asked) == 4
    assert ":" in rest
    assert rest[-1] == 'event: end\ndata: {"reason": "forbidden", "status": null}'
    told = [block.split("\n")[1] for block in rest[:-1] if block != ":"]
    assert told == ["event: run", "event: item", "event: run"]
    asked[:] = ["once"] * 4
    answer = streamed(f"/api/runs/{going_on}/events")
    assert answer.text.count("event:") == 1


def test_viewers_may_read(going_on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "vera:viewer:see")
    for path in (f"/api/runs/{going_on}/events", "/api/events"):
        assert streamed(path).status_code == 401
        assert streamed(path, authorization="Bearer no").status_code == 401
    wrong = streamed("/api/events?after=x", authorization="Bearer see")
    assert wrong.status_code == 422
