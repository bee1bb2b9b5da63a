"""Runs are listed by what people remember of them, alike in Python, at a terminal and over HTTP."""

from __future__ import annotations

import asyncio
import datetime
import json
from typing import Any

import pytest
from agents import Agent
from agents.testing import ScriptedModel, assistant_message
from click.testing import CliRunner
from fastapi import FastAPI

import timestep
from tests.support.api_client import asking, client_of
from tests.support.dbos_app import VERSION, App, run_it
from tests.support.problems import problem
from timestep.cli import main
from timestep.store.reads import runs


def listed(**filters: Any) -> list[str | None]:
    """The workflows of all runs that are found, page by page."""
    found: list[str | None] = []
    cursor: str | None = None
    while True:
        page = asyncio.run(timestep.list_runs(**filters, cursor=cursor))
        found += [run.workflow_id for run in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_runs_are_found_by_each_filter(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    said = {
        "w0": ("tea", "Ünder 100%"),
        "w1": ("hello", 'say "hi"\nC:\\'),
        "w2": ("TEA_", "none"),
        "w3": ("x", "y"),
        "w4": ("fail", None),
    }

    def body(words: str, answer: str | None) -> Any:
        async def work() -> Any:
            script = [[assistant_message(answer)]] if answer is not None else [ValueError("no tea")]
            agent = Agent(name="Ann", model=ScriptedModel(script))
            return (await timestep.run_agent(agent, words)).final_output

        return work

    for workflow_id, (words, answer) in said.items():
        try:
            app.run(body(words, answer), workflow_id)
        except ValueError:
            assert answer is None
        app.execute(
            "UPDATE runs SET started_at = '2026-01-01T00:00:00Z'::timestamptz + %s * interval "
            "'1 hour' WHERE workflow_id = %s",
            (int(workflow_id[1:]), workflow_id),
        )
    app.execute(
        "UPDATE dbos.workflow_status SET application_version = 'old' WHERE workflow_uuid = 'w1'"
    )

    def hour(number: int) -> datetime.datetime:
        return datetime.datetime(2026, 1, 1, number, tzinfo=datetime.UTC)

    every = ["w4", "w3", "w2", "w1", "w0"]
    for looked_through in (runs.LOOKED_THROUGH, 2, 1):
        monkeypatch.setattr(runs, "LOOKED_THROUGH", looked_through)
        for limit in (1, 50):
            for filters, expected in (
                ({}, every),
                ({"entrypoint": run_it.__qualname__}, every),
                ({"entrypoint": "run"}, []),
                ({"version": VERSION}, ["w4", "w3", "w2", "w0"]),
                ({"version": "old"}, ["w1"]),
                ({"since": hour(1), "until": hour(3)}, ["w2", "w1"]),
                ({"text": "tea"}, ["w4", "w2", "w0"]),
                ({"text": "TEA_"}, ["w2"]),
                ({"text": "100%"}, ["w0"]),
                ({"text": "üNDER"}, ["w0"]),
                ({"text": 'y "HI"\nc:\\'}, ["w1"]),
                ({"text": "Error: no"}, ["w4"]),
                ({"text": "tea", "status": "failed", "agent": "Ann"}, ["w4"]),
                ({"text": "tea", "until": hour(2), "version": VERSION}, ["w0"]),
                ({"text": "tea", "agent": "Bob"}, []),
                ({"workflow_id": "w3", "entrypoint": run_it.__qualname__}, ["w3"]),
            ):
                assert listed(**filters, limit=limit) == expected, (filters, limit)

    page = asyncio.run(timestep.list_runs(text="100%", limit=5))
    assert (page.items, page.next_cursor is None) == ([], False)

    def at_terminal(*arguments: str) -> list[str]:
        answer = CliRunner().invoke(main, ["runs", "--json", *arguments])
        assert answer.exit_code == 0, answer.output
        return [run["workflow_id"] for run in json.loads(answer.stdout)["items"]]

    # Pages that end early are put together.
    assert at_terminal("--text", "tea") == ["w4", "w2", "w0"]
    assert at_terminal("--text", "tea", "--limit", "2") == ["w4", "w2"]
    assert at_terminal("--since", "2026-01-01T03:00Z", "--agent", "Ann") == ["w4", "w3"]
    assert at_terminal("--version", "old", "--workflow", "w1") == ["w1"]
    assert at_terminal("--entrypoint", run_it.__qualname__, "--session", "none") == []

    async def over_http(web: FastAPI) -> None:
        async with client_of(web) as client:
            asked: dict[str, Any] = {"version": "old", "text": "HELLO", "until": hour(3)}
            answer = await client.get("/api/runs", params={**asked, "until": "2026-01-01T03:00Z"})
            assert answer.json()["items"] == []
            cursor = answer.json()["next_cursor"]
            answer = await client.get("/api/runs", params={"version": "old", "cursor": cursor})
            assert [run["workflow_id"] for run in answer.json()["items"]] == ["w1"]
            for name, bad in {
                "status": "odd",
                "since": "yesterday",
                "until": "2026-01-01T03:00:00",
                "limit": "0",
            }.items():
                answer = await client.get("/api/runs", params={name: bad})
                assert f"query.{name}: " in problem(answer, 422)
            for name in ("agent", "entrypoint", "session_id", "workflow_id", "version", "text"):
                answer = await client.get("/api/runs", params={name: "a\x00"})
                assert f"{name} 'a\\x00' has a NUL character" in problem(answer, 422)

    asking(over_http)
