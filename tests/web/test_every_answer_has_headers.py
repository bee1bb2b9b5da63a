"""What every answer has, whatever is sent: headers, and no failure; and where a login leads to."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from tests.support.api_client import asking, client_of, sends
from tests.support.no_tokens import no_tokens_made
from timestep import config
from timestep.web import auth
from timestep.web.app import create_app
from timestep.web.callers import Caller
from timestep.web.headers import HEADERS
from timestep.web.routes.login import own_path

__all__ = ["no_tokens_made"]


@pytest.fixture(autouse=True)
def see_is_a_token(monkeypatch: pytest.MonkeyPatch, no_tokens_made: None) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", "postgresql://somebody@127.0.0.1:1/nothing")
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "ann:viewer:see")
    monkeypatch.setenv("TIMESTEP_BODY_LIMIT", "10")


def failing() -> FastAPI:
    """An application that fails, too."""
    app = create_app(config.read(), {})

    @app.get("/fails")
    def fail() -> None:
        raise ValueError("unexpected")

    return app


async def answers(app: FastAPI) -> dict[int, httpx.Response]:
    """An answer of each kind, by its status."""
    see = sends("see")
    async with client_of(app) as client:
        found = [
            await client.get("/healthz"),
            await client.get("/login"),
            await client.get("/api/runs"),
            await client.get("/nothing", headers=see),
            await client.get("/api/runs", headers=see),
            await client.get("/fails", headers=see),
            await client.get("/healthz", headers={"host": "@"}),
            await client.post("/api/workflows/x/cancel", headers=see),
            await client.post("/api/workflows/x/cancel", headers=see, content=b"x" * 11),
            await client.put("/healthz", headers=see),
            await client.post("/login", headers={"origin": "null"}),
            await client.get("/api/workflows", headers=see),
        ]
    return {answer.status_code: answer for answer in found}


def test_every_answer_says_what_a_browser_may_do_with_it() -> None:
    async def work(app: FastAPI) -> None:
        found = await answers(app)
        assert set(found) >= {200, 400, 401, 403, 404, 405, 413, 500, 503}
        for answer in found.values():
            for name, value in HEADERS.items():
                assert answer.headers.get_list(name) == [value], (answer.status_code, name)
            assert "cache-control" in answer.headers
            assert "strict-transport-security" not in answer.headers
            assert "access-control-allow-origin" not in answer.headers

    asking(work, failing())


def test_behind_tls_browsers_come_back_over_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_PUBLIC_URL", "https://agents.example.com")

    async def work(app: FastAPI) -> None:
        for answer in (await answers(app)).values():
            assert answer.headers["strict-transport-security"] == "max-age=31536000"

    asking(work, failing())


def test_the_policy_lets_no_text_be_a_script() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}


@given(st.text(max_size=30))
def test_a_login_leads_to_this_host_only(path: str) -> None:
    for text in (path, "/" + path, "//" + path, "/\\" + path):
        target = own_path(text)
        assert httpx.URL("http://127.0.0.1").join(target).host == "127.0.0.1"
        assert target.startswith("/")
        assert target[1:2] not in ("/", "\\")


# What h11 lets through of a header's value.
VALUES = st.binary(max_size=60).map(lambda sent: bytes(b for b in sent if b > 32 and b != 127))


def test_whatever_is_sent_as_a_secret_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_BODY_LIMIT", "1000")
    app = create_app(config.read(), {})

    @given(VALUES, VALUES, VALUES)
    def check(token: bytes, cookie: bytes, body: bytes) -> None:
        async def work(app: FastAPI) -> None:
            async with client_of(app) as client:
                for headers in (
                    [(b"authorization", b"Bearer " + token)],
                    [(b"cookie", cookie), (b"cookie", b"timestep=" + cookie)],
                ):
                    answer = await client.get("/nothing", headers=headers)
                    assert answer.status_code == (404 if token == b"see" else 401)
                answer = await client.post("/login", content=b"token=" + body)
                assert answer.status_code in (303, 401)

        asking(work, app)

    check()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_no_other_origin_is_this_hosts(origin: str) -> None:
    own = Headers({"host": "127.0.0.1", "origin": origin})
    is_own = origin in ("http://127.0.0.1", "https://127.0.0.1")
    assert (auth.foreign_origin(config.read(), own) is None) == is_own
    caller = Caller("ann", "admin", None, "tss_" + "x" * 43, is_login=True)
    sent = Headers({**own, auth.FORM_TOKEN_HEADER: auth.form_token(caller)})
    forged = auth.forged(config.read(), caller, "POST", sent, b"")
    assert (forged is None) == is_own
