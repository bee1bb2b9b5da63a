"""Who asks for a page with a browser is answered with one, also where something is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI

from tests.support.api_client import OWN, asking, client_of, sends
from tests.support.dbos_app import App
from tests.support.problems import problem

PAGE = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(autouse=True)
def database(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "olga:operator:short")


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/", "/login"),
        ("/?status=failed&limit=1", "/login?next=%2F%3Fstatus%3Dfailed%26limit%3D1"),
        ("/runs/a%2Fb", "/login?next=%2Fruns%2Fa%252Fb"),
        ("//evil.example/x", "/login?next=%2F%2Fevil.example%2Fx"),
    ],
)
def test_a_browser_without_a_login_is_led_to_it(path: str, target: str) -> None:
    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            answer = await client.get(f"{OWN}{path}", headers=PAGE)
            assert (answer.status_code, answer.headers["location"]) == (303, target)
            # Programs, and whoever asks the API, are told what to send.
            assert problem(await client.get("/"), 401)
            assert problem(await client.get("/api/runs", headers=PAGE), 401)
            # Where it leads afterwards is a path of this host.
            page = (await client.get(target, headers=PAGE)).text
            assert 'value="//' not in page

    asking(work)


@pytest.mark.parametrize("path", ["/nothing", "/runs/nobody", "/sessions/nobody"])
def test_what_is_wrong_is_told_in_a_page(path: str) -> None:
    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            answer = await client.get(path, headers={**PAGE, **sends("short")})
            told: Any = (await client.get(path, headers=sends("short"))).json()
            assert answer.status_code == told["status"]
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert f"<h1>{told['title']}</h1>" in answer.text
            assert 'role="alert"' in answer.text

    asking(work)
