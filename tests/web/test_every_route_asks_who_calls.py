"""Whatever a host serves, pages included, refuses who has no token, no right, or no form of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from tests.support.api_client import OWN, asking, client_of, sends
from tests.support.dbos_app import App
from timestep import config
from timestep.operations.access.tokens import create_token
from timestep.web import auth, callers
from timestep.web.app import create_app
from timestep.web.callers import Caller

OPEN = {"/healthz", "/readyz", "/login"}
OF_LOGINS = {"/login", "/logout"}
LINKS = {"/approve/{secret}"}
"""One-time links let in whoever has one, whatever the role, and nobody where they are off."""
ADMINS = {"/api/audit", "/api/tokens", "/api/tokens/{name}/revoke"}
OPERATORS = {"/api/runs/{run_id}/traceback", "/runs/{run_id}/traceback"}
"""Reads that are not for viewers, besides those of admins."""
SAFE = {"GET", "HEAD", "OPTIONS"}

Call = tuple[str, str]


@pytest.fixture(autouse=True)
def database(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that tests share, whose answers are asked for anew each time."""
    monkeypatch.setattr(callers, "_HOLDS", 0.0)


def calls(app: FastAPI) -> list[Call]:
    """Each method of each path, but those of the style and scripts of the pages."""
    found = [
        (method, route.path)
        for route in _routes(app)
        if not route.path.startswith("/assets/")
        for method in sorted(route.methods or ())
    ]
    assert len(found) > 30
    assert ("POST", "/api/workflows/{name}/runs") in found
    return found


def _routes(app: FastAPI | APIRouter) -> Iterator[APIRoute]:
    for route in app.routes:
        if isinstance(route, APIRoute):
            yield route
        elif isinstance(included := getattr(route, "original_router", None), APIRouter):
            yield from _routes(included)


def filled(path: str) -> str:
    return re.sub(r"{[^}]*}", "nobody", path)


async def sent(client: httpx.AsyncClient, call: Call, **headers: str) -> httpx.Response:
    method, path = call
    given: dict[str, Any] = {} if method in SAFE else {"json": {}}
    async with client.stream(method, filled(path), headers=headers, **given) as answer:
        # What streams for good says who is refused, too.
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return answer
        await answer.aread()
        return answer


def test_each_role_is_let_in_to_what_it_is_for_and_nobody_to_anything() -> None:
    async def work(app: FastAPI) -> None:
        secrets = {
            role: (await create_token(role, role=role))[1]
            for role in ("viewer", "operator", "admin")
        }
        async with client_of(app) as client:
            for call in calls(app):
                method, path = call
                if path not in OPEN:
                    stranger = await sent(client, call)
                    assert stranger.status_code in (401, 303), call
                    if stranger.status_code == 303:
                        assert stranger.headers["location"].startswith("/login")
                if path in OPEN | OF_LOGINS | LINKS or path == "/api/events":
                    continue
                viewer = (await sent(client, call, **sends(secrets["viewer"]))).status_code
                operator = (await sent(client, call, **sends(secrets["operator"]))).status_code
                admin = (await sent(client, call, **sends(secrets["admin"]))).status_code
                is_read = method in SAFE and path not in OPERATORS | ADMINS
                assert (viewer == 403) == (not is_read), (call, viewer)
                assert (operator == 403) == (path in ADMINS), (call, operator)
                assert admin not in (401, 403, 500), (call, admin)

    asking(work, create_app(config.read(), {}))


def test_a_browsers_login_changes_nothing_for_other_pages() -> None:
    """Each with a login's cookie, and nearly what a page of it sends."""

    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ann", role="admin")
        async with client_of(app) as client, client_of(app) as other:
            cookies = []
            for one in (client, other):
                logged_in = await one.post("/login", data={"token": secret})
                assert logged_in.status_code == 303
                cookies.append(one.cookies["timestep"])
            own, others = (
                auth.form_token(Caller("ann", "admin", None, cookie, is_login=True))
                for cookie in cookies
            )
            changing = [call for call in calls(app) if call[0] not in SAFE and call[1] != "/login"]
            assert len(changing) > 5
            forged: list[dict[str, str]] = [
                {},
                {"origin": OWN},
                {"origin": OWN, "x-form-token": others},
                {"origin": OWN, "x-form-token": own.upper()},
                {"origin": OWN, "x-form-token": own[:-1]},
                {"origin": OWN, "x-form-token": cookies[0]},
                {"x-form-token": own},
                {"sec-fetch-site": "cross-site", "x-form-token": own},
                {"sec-fetch-site": "same-site", "x-form-token": own},
                {"sec-fetch-site": "none", "x-form-token": own},
                {"origin": "null", "x-form-token": own},
                {"origin": "https://evil.example", "x-form-token": own},
                {"origin": f"{OWN}.evil.example", "x-form-token": own},
                {"origin": f"{OWN}:81", "x-form-token": own},
                {"origin": "", "x-form-token": own, "referer": f"{OWN}/runs"},
                {
                    "origin": "https://evil.example",
                    "sec-fetch-site": "same-origin",
                    "x-form-token": own,
                },
                {"origin": f"{OWN}, https://evil.example", "x-form-token": own},
            ]
            for call in changing:
                for headers in forged:
                    answer = await sent(client, call, **headers)
                    assert answer.status_code == 403, (call, headers)
                    assert answer.json()["type"] == "urn:timestep:foreign-page"
            # A cookie with a bearer token, or with what is none, is no login.
            for authorization in ("Basic abc", "Bearer", "bearer ts_" + 43 * "x"):
                answer = await sent(client, changing[0], authorization=authorization, origin=OWN)
                assert answer.status_code == 401
            for call in changing:
                if call[1] == "/logout":
                    continue
                answer = await sent(client, call, **{"origin": OWN, "x-form-token": own})
                assert answer.status_code not in (401, 403, 500), (call, answer.text)
            # Nor is a cookie that others set beside it, or another's name.
            jar = {"timestep": "tss_" + 43 * "x"}
            async with client_of(app) as stranger:
                for name in ("timestep", "__Host-timestep", "Timestep"):
                    for value in (jar["timestep"], "", '"', "ts_", secret):
                        answer = await stranger.get(
                            "/api/runs", headers={"cookie": f"{name}={value}"}
                        )
                        assert answer.status_code == 401, (name, value)

    asking(work, create_app(config.read(), {}))


def test_an_open_host_does_nothing_for_other_sites() -> None:
    """Without tokens, what a browser of this machine sends for them shows in its headers."""

    async def work(app: FastAPI) -> None:
        async with client_of(app, "127.0.0.1") as client:
            for call in calls(app):
                if call == ("GET", "/api/events"):
                    continue
                for host in ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example"):
                    answer = await sent(client, call, host=host)
                    assert answer.status_code in (400, 403), (call, host)
                for origin in ("https://evil.example", "null", f"{OWN}:81"):
                    answer = await sent(client, call, origin=origin)
                    # What is only read, another site's page may ask for, and is not shown.
                    assert (answer.status_code == 403) == (call[0] not in SAFE), (call, origin)
                    assert "access-control-allow-origin" not in answer.headers

    asking(work, create_app(config.read(), {}))
