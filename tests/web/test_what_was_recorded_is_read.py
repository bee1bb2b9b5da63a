"""`/api/usage`, `/api/sessions`, `/api/agents` and a run's tool calls: what the commands tell."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.usage import Usage
from fastapi import FastAPI

import timestep
from tests.support.api_client import asking, client_of
from tests.support.dbos_app import App
from tests.support.problems import problem
from timestep import DatabaseSession


@function_tool
def look(name: str) -> str:
    """Look at something."""
    return f"saw {name}"


def test_reads_of_the_command_line_are_served(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    used = Usage(requests=1, input_tokens=1200, output_tokens=30, total_tokens=1230)

    async def body() -> Any:
        for name in ("a/b", "talk\x00", "last"):
            script = [
                ModelStep([function_call("look", {"name": name}, call_id="c")], usage=used),
                ModelStep([assistant_message("hi")], usage=used),
            ]
            agent = Agent(name="Ann", model=ScriptedModel(script), tools=[look])
            await timestep.run_agent(agent, "hello", session=DatabaseSession(name))
        return "done"

    app.run(body, "w/1")

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:

            async def get(path: str, **query: Any) -> dict[str, Any]:
                answer = await client.get(path, params=query)
                assert answer.status_code == 200, answer.text
                found: dict[str, Any] = answer.json()
                assert set(found) == {"items", "next_cursor"}
                return found

            (row,) = (await get("/api/usage"))["items"]
            assert (row["name"], row["requests"], row["cost"]) == ("Ann", 6, None)
            assert len((await get("/api/usage", by="model"))["items"]) == 1
            assert (await get("/api/usage", since="9999-01-01T00:00:00Z"))["items"] == []
            for name, value in {"by": "year", "since": "7 days"}.items():
                bad = await client.get("/api/usage", params={name: value})
                assert f"query.{name}" in problem(bad, 422)
            edge = await client.get("/api/usage", params={"since": "0001-01-01T00:00:00+01:00"})
            assert "since 0001-01-01 00:00:00+01:00 is not a time" in problem(edge, 422)

            (agent,) = (await get("/api/agents"))["items"]
            assert (agent["name"], agent["version"], agent["tools"]) == ("Ann", 1, ["look"])

            whole = (await get("/api/sessions"))["items"]
            assert [one["session_id"][:4] for one in whole] == ["last", "talk", "a/b"]
            assert [one["items"] for one in whole] == [4, 4, 4]
            paged, cursor = [], None
            while True:
                page = await get("/api/sessions", limit=1, **({"cursor": cursor} if cursor else {}))
                paged += page["items"]
                if (cursor := page["next_cursor"]) is None:
                    break
            assert paged == whole

            inside = (await get("/api/sessions/a%2Fb"))["items"]
            assert inside[0]["item_data"]["content"] == "hello"
            first = await get("/api/sessions/a%2Fb", limit=3)
            rest = await get("/api/sessions/a%2Fb", limit=3, cursor=first["next_cursor"])
            assert first["items"] + rest["items"] == inside
            assert len((await get("/api/sessions/talk%00"))["items"]) == 4
            assert "no session 'no'" in problem(await client.get("/api/sessions/no"), 404)
            for path in ("/api/sessions", "/api/sessions/last"):
                for odd in (
                    "odd!",
                    "LTE",
                    "WyJ4IiwgImEiXQ",
                    "WyIyMDI2LTAxLTAxVDAwOjAwOjAwWiIsIDFd",
                ):
                    bad = await client.get(path, params={"cursor": odd})
                    assert "is not a cursor of this list" in problem(bad, 422)

            (call,) = (await get("/api/runs/w%2F1/tool_calls"))["items"]
            assert (call["tool_name"], call["status"]) == ("look", "executed")
            assert (call["arguments"], call["output"]) == ({"name": "last"}, "saw last")
            assert "no run and no workflow 'no'" in problem(
                await client.get("/api/runs/no/tool_calls"), 404
            )

    asking(work)
