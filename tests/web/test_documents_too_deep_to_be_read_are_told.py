"""A document that only SQL nests so deeply is told as such, and hides nothing beside it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import psycopg
import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from click.testing import CliRunner
from fastapi import FastAPI

import timestep
from tests.support.api_client import OWN, asking, client_of
from tests.support.dbos_app import BODIES, App
from tests.support.problems import problem
from tests.support.run_rows import record_question, record_run
from tests.web.test_every_route_asks_who_calls import calls
from timestep import DatabaseSession
from timestep.cli import main
from timestep.errors import UnreadableValueError
from timestep.operations.queries import runs

_COLUMNS = """
    SELECT table_schema || '.' || table_name, column_name
    FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
    WHERE data_type = 'jsonb' AND table_schema IN ('public', 'timestep')
    AND table_type = 'BASE TABLE'"""

DEEPEST = '{"a":' * 5000 + "1" + "}" * 5000
TOLD = r"\(nested too deeply to be shown: [\d,]+ bytes of JSON\)"


@function_tool
def look(name: str) -> str:
    """Look at something."""
    return f"saw {name}"


async def body() -> str:
    calling = [function_call("look", {"name": "x"}, call_id="c")]
    agent = Agent("Real", model=ScriptedModel([calling, [assistant_message("hi")]]), tools=[look])
    await timestep.run_agent(agent, "hello", session=DatabaseSession("talk"))
    return "done"


def deepen(app: App, document: str) -> None:
    """Write a document into every column of JSON, as far as the table takes it."""
    changed = 0
    for table, column in app.execute(_COLUMNS).fetchall():
        with contextlib.suppress(psycopg.errors.CheckViolation):
            changed += app.execute(f"UPDATE {table} SET {column} = %s::jsonb", (document,)).rowcount
    assert changed > 20


@pytest.mark.parametrize(
    "document",
    ["[" * 600 + "]" * 600, "[" * 940 + "]" * 940, DEEPEST],
    ids=["read", "nearly read", "not read"],
)
def test_every_read_answers(app: App, monkeypatch: pytest.MonkeyPatch, document: str) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    app.run(body, "w")
    question = record_question(app, record_run(app, "asks", "interrupted"), "refund")
    deepen(app, document)
    record_run(app, "beside", "completed", input="all is well")
    is_read = len(document) < 1500
    wrong: list[Any] = []

    def filled(path: str, run: str) -> str:
        given = {"run_id": run, "workflow_id": run, "session_id": "talk", "name": "Real"}
        return re.sub(r"{(\w+)[^}]*}", lambda found: given.get(found[1], str(question)), path)

    async def ask(web: FastAPI) -> None:
        async with client_of(web) as client:
            for method, path in calls(web):
                if method != "GET" or path == "/api/events":
                    continue
                # What streams ends with what it tells of.
                names = ("w",) if path.endswith("/events") else ("w", "asks")
                for place in {filled(path, name) for name in names}:
                    answer = await client.get(place)
                    if answer.status_code >= 500:
                        wrong.append((place, answer.status_code))
            for place in ("/runs/w/compare?with=asks", "/agents?name=Real", "/runs/w/fork?turn=2"):
                assert (await client.get(place)).status_code == 200, place
            listed = (await client.get("/api/runs")).json()["items"]
            found = {one["workflow_id"]: one["input"] for one in listed}
            assert found["beside"] == "all is well"
            assert is_read or re.fullmatch(TOLD, found["w"])
            (asked,) = (await client.get("/api/interruptions")).json()["items"]
            assert is_read or re.fullmatch(TOLD, asked["arguments"])
            assert "all is well" in (await client.get("/runs/beside")).text

    asking(ask)
    for words in (
        "runs",
        "show w",
        "show asks",
        "approvals",
        "sessions",
        "sessions talk",
        "agents",
    ):
        for options in ([], ["--json"]):
            done = CliRunner().invoke(main, [*words.split(), *options])
            if done.exit_code:
                wrong.append((words, options, done.exception))
    assert wrong == []

    async def call() -> None:
        assert len(await timestep.list_interruptions()) == 1
        assert len((await runs.list_runs()).items) == 3
        assert [event.type async for event in timestep.follow("w")][-1] == "run.completed"

    asyncio.run(call())


def test_an_execution_goes_on_with_nothing_else(app: App) -> None:
    """What a replay cannot read is an error of it, and no text stands for what was recorded."""
    app.run(body, "w")
    app.execute("UPDATE tool_calls SET output = %s::jsonb", (DEEPEST,))
    with pytest.raises(UnreadableValueError, match="nested too deeply"):
        app.recover("w")


@function_tool(needs_approval=True)
def refund(order: str) -> str:
    """Give money back."""
    return f"refunded {order}"


async def asks() -> str:
    calling = [function_call("refund", {"order": "7"}, call_id="c")]
    model = ScriptedModel([calling, [assistant_message("done")]])
    agent = Agent("Asking", model=model, tools=[refund])
    return str((await timestep.run_agent(agent, "hello")).final_output)


def test_a_question_can_be_decided_and_a_fork_is_told(app: App, monkeypatch: Any) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    BODIES["asks"] = asks
    workflow_id = app.started("asks")
    (question,) = app.until(lambda: app.execute("SELECT id::text FROM interruptions").fetchone())
    app.execute("UPDATE interruptions SET arguments = %s::jsonb", (DEEPEST,))
    app.execute("UPDATE runs SET input = %s::jsonb", (DEEPEST,))

    async def ask(web: FastAPI) -> None:
        async with client_of(web) as client:
            fork = f"/api/runs/{workflow_id}/fork"
            for body in ({"turn": 1}, {"turn": 1, "append": "more"}):
                told = problem(await client.post(fork, json=body, headers={"origin": OWN}), 422)
                assert "nested too deeply to be read: give 'input'" in told
            decided = {"edit": {question: {"order": "8"}}}
            path = f"/api/workflows/{workflow_id}/resume"
            answer = await client.post(path, json=decided, headers={"origin": OWN})
            assert answer.json()["resolved"] == [question]
            audit = (await client.get("/api/audit?act=decide")).json()["items"]
            (decision,) = audit[0]["details"]["decisions"]
            assert re.fullmatch(TOLD, decision["arguments"])

    asking(ask)
    app.until(lambda: app.executing() == [])
    assert app.execute("SELECT output FROM tool_calls").fetchall() == [("refunded 8",)]
