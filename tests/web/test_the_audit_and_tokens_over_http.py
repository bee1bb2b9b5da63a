"""`/api/audit` and `/api/tokens`: what admins are told, and what they may do."""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

import timestep
from tests.support.api_client import asking, client_of, sends
from tests.support.dbos_app import App
from tests.support.interrupting_agents import deleter
from tests.support.problems import problem
from timestep.operations.access import acting
from timestep.operations.access.audit import list_audit
from timestep.operations.access.tokens import create_token
from timestep.web import callers


@pytest.fixture(autouse=True)
def database(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that tests share, whose answers are asked for anew each time."""
    monkeypatch.setattr(callers, "_HOLDS", 0.0)


def test_an_admin_makes_and_revokes_tokens_under_its_own_name() -> None:
    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ada", role="admin")
        async with client_of(app) as client:

            async def post(path: str, body: Any = None) -> httpx.Response:
                return await client.post(path, json=body or {}, headers=sends(secret))

            made = await post("/api/tokens", {"name": "a/b", "role": "viewer", "expires": 60})
            assert made.status_code == 201
            assert made.headers["cache-control"] == "no-store"
            token = made.json()
            assert token["expires_at"] is not None
            shown = sends(token["token"])
            assert (await client.get("/api/runs", headers=shown)).status_code == 200
            again = await post("/api/tokens", {"name": "a/b", "role": "viewer"})
            assert "already" in problem(again, 409)
            listed = await client.get("/api/tokens", headers=sends(secret))
            assert [one["name"] for one in listed.json()["items"]] == ["ada", "a/b"]
            assert token["token"] not in listed.text
            for _ in range(2):
                revoked = await post("/api/tokens/a%2Fb/revoke")
                assert revoked.json()["id"] == token["id"]
                assert revoked.json()["revoked_at"] is not None
            assert problem(await client.get("/api/runs", headers=shown), 401)
            assert "there is no token" in problem(await post("/api/tokens/eve/revoke"), 404)
            for bad in (
                {},
                {"name": "x", "role": "king"},
                {"name": "", "role": "viewer"},
                {"name": "x\x00", "role": "viewer"},
                {"name": "x", "role": "viewer", "expires": 0},
                {"name": "x", "role": "viewer", "expires": 1e300},
                {"name": "x", "role": "viewer", "expires": "1"},
                {"name": "x", "role": "viewer", "more": 1},
            ):
                assert problem(await post("/api/tokens", bad), 422)
            audit = await client.get("/api/audit", headers=sends(secret), params={"who": "ada"})
            assert [
                (one["act"], one["subjects"], one["role"], one["address"])
                for one in audit.json()["items"]
            ] == [
                ("revoke_token", [token["id"]], "admin", "192.0.2.1"),
                ("create_token", [token["id"]], "admin", "192.0.2.1"),
            ]

    asking(work)


def test_only_admins_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "olga:operator:do,vera:viewer:see")

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            for token in ("do", "see"):
                for method, path in (
                    ("GET", "/api/tokens"),
                    ("POST", "/api/tokens"),
                    ("POST", "/api/tokens/x/revoke"),
                    ("GET", "/api/audit"),
                ):
                    body = {"name": "x", "role": "admin"} if path == "/api/tokens" else {}
                    answer = await client.request(method, path, json=body, headers=sends(token))
                    assert "this takes an admin's" in problem(answer, 403)

    asking(work)


def test_nobody_makes_the_first_token_over_http() -> None:
    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            answer = await client.post("/api/tokens", json={"name": "x", "role": "admin"})
            assert "at a terminal" in problem(answer, 403)
            assert (await client.get("/api/tokens")).json()["items"] == []
            assert (await client.get("/api/audit")).json()["items"] == []

    asking(work)


def test_the_audit_is_paged_and_says_what_it_cannot_be_asked() -> None:
    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ada", role="admin")
        for number in range(4):
            with acting.acting(acting.Actor("ann", "cli")):
                await create_token(f"token-{number}", role="viewer")
        async with client_of(app) as client:

            async def get(**query: Any) -> httpx.Response:
                return await client.get("/api/audit", params=query, headers=sends(secret))

            seen: list[int] = []
            cursor: dict[str, str] = {}
            while True:
                page = (await get(limit=2, who="ann", **cursor)).json()
                seen += [one["id"] for one in page["items"]]
                if page["next_cursor"] is None:
                    break
                cursor = {"cursor": page["next_cursor"]}
            assert len(seen) == 4
            assert seen == sorted(seen, reverse=True)
            assert len((await get(act="create_token")).json()["items"]) == 5
            assert (await get(since="2999-01-01T00:00:00Z")).json()["items"] == []
            for bad in (
                {"act": "x"},
                {"since": "2026-01-01T00:00:00"},
                {"since": "0001-01-01T00:00:00+23:59"},
                {"since": "9999-12-31T23:59:59-23:59"},
                {"limit": 0},
                {"limit": 201},
                {"cursor": "x"},
                {"cursor": "LTE"},
                {"cursor": "OTk5OTk5OTk5OTk5OTk5OTk5OTk5"},
                {"who": "\x00"},
                {"subject": "  "},
            ):
                assert problem(await get(**bad), 422), bad

    asking(work)


def test_who_decides_is_the_token_and_not_the_body(app: App) -> None:
    outcome: list[str] = []

    async def body() -> str:
        return str((await timestep.run_agent(deleter(), "tidy up")).final_output)

    thread = Thread(target=lambda: outcome.append(app.run(body, workflow_id="asked")))
    thread.start()
    app.until(lambda: len(app.rows("interruptions")) == 2)

    async def work(web: FastAPI) -> None:
        _, secret = await create_token("ann", role="operator")
        async with client_of(web) as client:

            async def post(path: str, **body: Any) -> httpx.Response:
                return await client.post(path, json=body, headers=sends(secret))

            path = "/api/workflows/asked/resume"
            assert problem(await post(path, approve="all", by="eve"), 422)
            for _ in range(2):
                assert (await post(path, approve="all")).status_code == 200

    asking(work)
    thread.join(60)
    assert len(outcome) == 1
    assert {row["resolved_by"] for row in app.rows("interruptions")} == {"ann"}
    (entry,) = asyncio.run(list_audit(act="decide")).items
    assert (entry.who, entry.role, entry.via, entry.address) == (
        "ann",
        "operator",
        "http",
        "192.0.2.1",
    )
