"""Pages that tell of sessions, agents, usage and health what the API and the database know."""

from __future__ import annotations

import html
import json
import re
from decimal import Decimal
from typing import Any

import pytest
from agents import Agent, GuardrailFunctionOutput, function_tool, input_guardrail
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.usage import Usage
from fastapi import FastAPI

import timestep
from tests.support.api_client import asking, client_of
from tests.support.dbos_app import App
from tests.support.hostile_text import ATTACK, obeyed
from tests.support.run_rows import record_run
from timestep import DatabaseSession
from timestep.operations.queries.records import UsageRow
from timestep.web.routes.metrics import Metrics

HTML = {"accept": "text/html"}
USED = Usage(requests=1, input_tokens=1200, output_tokens=30, total_tokens=1230)
ATTACKS = f"<script>alert(1)</script>{ATTACK}"


@pytest.fixture(autouse=True)
def database(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that tests share."""
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)


async def get(client: Any, path: str, status: int = 200) -> str:
    answer = await client.get(path, headers=HTML)
    assert answer.status_code == status, answer.text
    assert obeyed(answer.text) == []
    assert "<script>alert" not in answer.text
    return str(answer.text)


@function_tool
def look(name: str) -> str:
    """Look at something."""
    return f"saw {name}"


@input_guardrail
async def polite(_: Any, __: Any, ___: Any) -> Any:
    """Let everything pass."""
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


def test_a_session_is_a_conversation_over_its_runs(app: App) -> None:
    async def body() -> Any:
        for _ in range(2):
            script = [
                ModelStep([function_call("look", {"name": ATTACKS}, call_id="c")], usage=USED),
                ModelStep([assistant_message(f"I saw {ATTACKS}")], usage=USED),
            ]
            agent = Agent(name="Ann", model=ScriptedModel(script), tools=[look])
            await timestep.run_agent(agent, "look, please", session=DatabaseSession("a/b"))
        return "done"

    app.run(body, "w/1")
    deep = "[" * 5000 + "]" * 5000
    large = json.dumps({"role": "user", "content": "y" * 5_000_000})
    for number, document in enumerate((f'{{"role": "user", "content": {deep}}}', large)):
        app.execute(
            "INSERT INTO session_items (session_id, position, added_revision, role, item_data) "
            "SELECT id, 1000000000 + %s, 100, 'user', %s FROM sessions",
            (number, document),
        )

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            listed = await get(client, "/sessions")
            assert 'href="/sessions/a%2Fb"' in listed
            assert '<td class="number" data-label="Items">10</td>' in listed
            page = await get(client, "/sessions/a%2Fb")
            assert page.count('<section class="part">') == 3
            assert page.count('<div class="text">look, please</div>') == 2
            assert "calls <code>look</code>" in page
            assert "I saw &lt;script&gt;" in page
            assert "[[[[" in page
            assert "yyy" in page
            assert len(page) < 60_000
            wholes = re.findall(r'href="(/api/sessions/a%2Fb\?limit=1&amp;cursor=\w+)"', page)
            whole = await client.get(html.unescape(wholes[-1]))
            assert len(whole.text) > 5_000_000
            await get(client, "/sessions/none", 404)
            await get(client, "/sessions?cursor=odd", 422)

    asking(work)


def test_a_long_session_begins_with_its_newest_part(app: App) -> None:
    app.execute("INSERT INTO sessions (session_key) VALUES ('s')")
    app.execute(
        "INSERT INTO session_items (session_id, position, added_revision, role, item_data) "
        "SELECT id, n, 1, 'user', jsonb_build_object('role', 'user', 'content', 'said ' || n) "
        "FROM sessions, generate_series(1, 120) n"
    )

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            path, found = "/sessions/s", []
            while path:
                page = await get(client, path)
                found.append(re.findall(r"said (\d+)", page))
                earlier = re.findall(r'<a rel="prev" href="([^"]*)"', page)
                path = f"/sessions/s{earlier[0]}" if earlier else ""
            ends = [(part[0], part[-1]) for part in found]
            assert ends == [("71", "120"), ("21", "70"), ("1", "20")]

    asking(work)


def test_agents_are_shown_with_versions_and_who_hands_over_to_whom(app: App) -> None:
    async def body() -> Any:
        model = ScriptedModel([ModelStep([assistant_message("hi")], usage=USED)] * 2)
        billing = Agent(name=f"Billing{ATTACKS}", model=model)
        desk = Agent(name="Desk", model=model, handoffs=[billing], input_guardrails=[polite])
        billing.handoffs = [desk]
        await timestep.run_agent(desk, "hello")
        desk.tools = [look]
        await timestep.run_agent(desk, "hello")
        return "done"

    app.run(body)

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            page = await get(client, "/agents")
            assert page.count('<rect class="node"') == 2
            assert page.count('<path class="edge"') == 2
            assert "Desk may hand over to Billing&lt;script&gt;" in page
            mermaid = html.unescape(
                re.findall(r'<pre id="mermaid-text"[^>]*>(.*?)</pre>', page, re.S)[0]
            )
            assert mermaid.startswith("flowchart TD\n    agent1[")
            assert mermaid.count("-->") == 2
            desk = await get(client, "/agents?name=Desk")
            assert re.findall(r"<h2>Version (\d)", desk) == ["2", "1"]
            assert desk.count("<dd>look</dd>") == 1
            assert desk.count("<dd>polite</dd>") == 2
            assert "No run had such an agent" in await get(client, "/agents?name=nobody")

    asking(work)


def test_two_thousand_agents_are_pages_of_a_hundred(app: App) -> None:
    app.execute(
        "INSERT INTO agents (name, version, instructions_type) "
        "SELECT 'Agent ' || n, v, 'none' FROM generate_series(1, 2000) n, generate_series(1, 2) v"
    )
    # Each hands over to the two after it; one to very many.
    app.execute(
        "WITH made AS (INSERT INTO handoff_configs (tool_name, target_name, is_enabled) "
        "SELECT 'transfer', 'Agent ' || n, 'always' FROM generate_series(1, 2000) n RETURNING id, "
        "split_part(target_name, ' ', 2)::int AS n) "
        "INSERT INTO agent_handoffs (agent_id, handoff_config_id) SELECT a.id, made.id FROM made "
        "JOIN agents a ON a.version = 2 AND (a.name IN ('Agent ' || n - 1, 'Agent ' || n - 2) "
        "OR a.name = 'Agent 1999')"
    )

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            path, found = "/agents", []
            while path:
                page = await get(client, path)
                assert len(page) < 200_000
                found.append(re.findall(r'<td><a href="/agents\?name=[^"]*">([^<]*)</a>', page))
                more = re.findall(r'<a rel="next" href="([^"]*)"', page)
                path = html.unescape(more[0]) if more else ""
            assert [len(part) for part in found] == [100] * 20
            assert {name for part in found for name in part} == {
                f"Agent {number}" for number in range(1, 2001)
            }
            some = await get(client, "/agents?text=AGENT+77")
            assert some.count("data-row") == 11
            assert some.count('<path class="edge"') == 22
            assert "Who of these hands over to whom" in some
            wide = await get(client, "/agents?text=1999")
            assert "the Mermaid text has the first 300 handoffs" in wide
            assert "and 1,980 more" in wide
            assert "No agent has such a name" in await get(client, "/agents?text=nobody")
            assert "is not a cursor" in await get(client, "/agents?cursor=odd", 422)
            assert "has a NUL character" in await get(client, "/agents?text=%00", 422)

    asking(work)


def test_usage_is_told_by_the_page_the_api_and_its_sql_alike(app: App) -> None:
    async def body() -> Any:
        for name in ("Ann", "Bob"):
            model = ScriptedModel([ModelStep([assistant_message("hi")], usage=USED)] * 2)
            for _ in range(2):
                await timestep.run_agent(Agent(name=name, model=model), "hello")
        return "done"

    app.run(body)
    app.execute(
        "UPDATE request_usage_entries SET estimated_cost = 0.25, model = 'gpt-4.1' WHERE id IN "
        "(SELECT id FROM request_usage_entries ORDER BY id LIMIT 2)"
    )
    app.execute(
        "UPDATE runs SET started_at = started_at - interval '3 days' FROM agents a "
        "WHERE a.id = agent_id AND a.name = 'Bob'"
    )

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            for by in ("day", "agent", "model", "entrypoint"):
                for since in ("", "2d", "2026-01-31"):
                    page = await get(client, f"/usage?by={by}&since={since}")
                    (sql,) = re.findall(r'<pre id="sql-text"[^>]*>(.*?)</pre>', page, re.S)
                    done = app.execute(html.unescape(sql))
                    names = [column.name for column in done.description or ()]
                    rows = [dict(zip(names, row, strict=True)) for row in done]
                    begin = re.findall(r"since <time datetime=\"([^\"]*)\"", page)
                    query = {"by": by, **({"since": begin[0]} if begin else {})}
                    items = (await client.get("/api/usage", params=query)).json()["items"]
                    assert names == list(UsageRow.__dataclass_fields__)
                    assert [_plain(row) for row in rows] == items
                    total = sum(row["total_tokens"] for row in items)
                    assert total == (2460 if since == "2d" else 4920)
            assert page.count("<svg") == 2
            assert "$0.5000" in page
            days = await get(client, "/usage?by=day&since=")
            assert days.count('<rect class="bar input"') == 4  # The days between, too.
            wrong = await get(client, "/usage?since=soon&by=day", 422)
            assert 'value="soon"' in wrong
            assert "is neither a time ago" in wrong
            await get(client, "/usage?by=year", 422)
            for odd in ("0001-01-01T00:00:00%2B01:00", "999999999w"):
                await get(client, f"/usage?since={odd}", 422)
                await get(client, f"/?since={odd}", 422)

    asking(work)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (float(value) if name == "cost" else int(value))
        if isinstance(value, Decimal)
        else value
        for name, value in row.items()
    }


def test_health_tells_hosts_queues_and_what_is_stuck(app: App) -> None:
    app.run(lambda: _nothing(), "ended")
    app.execute(
        "UPDATE dbos.workflow_status SET status = 'ENQUEUED', queue_name = 'letters', "
        "executor_id = NULL, application_version = 'v0', output = NULL "
        "WHERE workflow_uuid = 'ended'"
    )
    record_run(app, "ended", "completed")
    app.execute(
        "INSERT INTO timestep.hosts (application, executor_id, claim, node, process_id, identity, "
        "version, seen_at, expires_at) SELECT %s, %s, gen_random_uuid(), 'box', 7, '{}', 'v1', "
        "now(), now() + %s::interval FROM generate_series(1, 1)",
        ("desk", "one", "-1 minute"),
    )

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            page = await get(client, "/health")
            assert "Nothing: no run is under way." in page
            use = await get(client, "/usage?since=")
            assert "here as soon as a model has answered" in use
            app.execute("UPDATE runs SET status = 'running', completed_at = NULL")
            web.state.metrics = Metrics()
            page = await get(client, "/health")
            assert '<a href="/runs/ended">' in page
            assert "no live host runs its version v0" in page
            assert "<td>letters</td>" in page
            assert '<span class="badge failed">gone</span>' in page
            assert "up to date (" in page
            assert "No question." in page

    asking(work)


async def _nothing() -> str:
    return "done"
