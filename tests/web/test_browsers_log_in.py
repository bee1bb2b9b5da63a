"""Logins: what the cookie is, how it ends, and that no other site's page uses it."""

from __future__ import annotations

import re
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from tests.support.api_client import OWN, asking, client_of, sends
from tests.support.dbos_app import App
from tests.support.problems import problem
from timestep import config
from timestep.journal.recorder import recorder
from timestep.operations.access import logins, tokens
from timestep.operations.access.tokens import create_token, revoke_token
from timestep.web import auth, callers
from timestep.web.app import create_app

SHORT = "short"


@pytest.fixture(autouse=True)
def database(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that tests share, and a token of the settings."""
    monkeypatch.setenv("TIMESTEP_API_TOKENS", f"olga:operator:{SHORT}")
    # What the database said is asked anew each time.
    monkeypatch.setattr(callers, "_HOLDS", 0.0)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(query.encode())
        return done.fetchall() if done.description else []


async def logged_in(client: httpx.AsyncClient, token: str, **more: str) -> httpx.Response:
    return await client.post("/login", data={"token": token, **more})


def origin_of_forms(page: httpx.Response) -> dict[str, str]:
    """What a browser says of where a page's form comes from: the Fetch standard, 3.2.

    Of a page that lets no address be told, it tells no origin, either.
    """
    is_told = page.headers["referrer-policy"] != "no-referrer"
    return {"origin": OWN if is_told else "null"}


async def form_token(client: httpx.AsyncClient) -> str:
    """What the page of a login puts into its forms."""
    page = (await client.get("/login")).text
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def test_a_token_is_shown_once_and_a_cookie_from_then_on(database_url: str) -> None:
    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ann", role="viewer")
        for name, token in (("ann", secret), ("olga", SHORT)):
            async with client_of(app) as client:
                page = await client.get("/login")
                assert page.status_code == 200
                assert '<form method="post" action="/login">' in page.text
                answer = await logged_in(client, f" {token}\n", next="/api/runs?limit=1")
                assert (answer.status_code, answer.headers["location"]) == (
                    303,
                    "/api/runs?limit=1",
                )
                cookie = answer.headers["set-cookie"]
                assert cookie.startswith("timestep=tss_")
                assert "HttpOnly" in cookie
                assert "SameSite=lax" in cookie
                assert "Path=/" in cookie
                assert "Secure" not in cookie
                assert token not in str(answer.headers)
                assert (await client.get("/api/runs")).status_code == 200
                assert f"Logged in as {name}" in (await client.get("/login")).text
                # Another host knows it, too.
                async with client_of(create_app(config.read(), {})) as other:
                    assert problem(await other.get("/api/runs"), 401)
                    other.cookies = client.cookies
                    assert (await other.get("/api/runs")).status_code == 200

    asking(work)
    (kept,) = rows(database_url, "SELECT jsonb_agg(l) FROM timestep.logins l")
    assert "tss_" not in str(kept)
    assert tokens.hash_of(SHORT).hex() not in str(kept)
    entries = rows(database_url, "SELECT who, role, act FROM timestep.audit ORDER BY id")
    assert entries[1:] == [("ann", "viewer", "log_in"), ("olga", "operator", "log_in")]


def test_the_forms_of_the_pages_are_taken_from_a_browser() -> None:
    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            page = await client.get("/login")
            answer = await client.post(
                "/login", data={"token": SHORT}, headers=origin_of_forms(page)
            )
            assert answer.status_code == 303
            page = await client.get("/login")
            answer = await client.post(
                "/logout",
                data={"form_token": await form_token(client)},
                headers=origin_of_forms(page),
            )
            assert answer.status_code == 303

    asking(work)


def test_a_connection_that_was_lost_before_keeps_nobody_out(database_url: str) -> None:
    engine = recorder().engine

    def lose() -> None:
        """Have the only connection that is kept be one that the server has ended."""
        engine.dispose()
        with engine.connect() as connection:
            process = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        rows(database_url, f"SELECT pg_terminate_backend({process}, 10000)")

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            lose()
            assert problem(await client.get("/api/runs", headers=sends("wrong")), 401)
            lose()
            assert (await logged_in(client, "wrong")).status_code == 401
            lose()
            assert (await logged_in(client, SHORT)).status_code == 303
            known = {"form_token": await form_token(client)}
            lose()
            answer = await client.post("/logout", data=known, headers={"origin": OWN})
            assert answer.status_code == 303

    asking(work)


def test_behind_tls_the_cookie_is_this_hosts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_PUBLIC_URL", "https://agents.example.com/")

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            answer = await logged_in(client, SHORT)
            cookie = answer.headers["set-cookie"]
            assert cookie.startswith("__Host-timestep=tss_")
            assert "Secure" in cookie
            assert "Domain" not in cookie
            name, _, value = cookie.partition(";")[0].partition("=")
            shown = {"cookie": f"{name}={value}"}
            assert (await client.get("/api/runs", headers=shown)).status_code == 200
            # A name without the prefix could be another host's of the domain.
            shown = {"cookie": f"timestep={value}"}
            assert problem(await client.get("/api/runs", headers=shown), 401)

    asking(work)


def test_logging_in_ends_the_login_before(database_url: str) -> None:
    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            await logged_in(client, SHORT)
            first = dict(client.cookies)
            await logged_in(client, SHORT)
            assert dict(client.cookies) != first
            async with client_of(app) as old:
                old.cookies.update(first)
                assert problem(await old.get("/api/runs"), 401)

    asking(work)
    assert len(rows(database_url, "SELECT * FROM timestep.logins")) == 1


@pytest.mark.parametrize("how", ["log out", "revoke", "expire", "take out"])
def test_a_login_ends(how: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ann", role="viewer")
        async with client_of(app) as client:
            await logged_in(client, SHORT if how == "take out" else secret)
            cookies = client.cookies
            assert (await client.get("/api/runs")).status_code == 200
            if how == "log out":
                answer = await client.post(
                    "/logout",
                    data={"form_token": await form_token(client)},
                    headers={"origin": OWN},
                )
                assert (answer.status_code, answer.headers["location"]) == (303, "/login")
                assert 'timestep=""' in answer.headers["set-cookie"]
                assert not client.cookies
            elif how == "revoke":
                await revoke_token("ann")
            elif how == "expire":
                rows(database_url, "UPDATE timestep.logins SET expires_at = now()")
            else:
                monkeypatch.setenv("TIMESTEP_API_TOKENS", "olga:operator:another")
                app = create_app(config.read(), {})
        async with client_of(app) as client:
            client.cookies = cookies
            assert problem(await client.get("/api/runs"), 401)

    asking(work)


def test_wrong_tokens_in_the_form_are_limited_and_right_ones_are_not() -> None:
    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ann", role="viewer")
        async with client_of(app) as client:
            for number in range(logins.WRONG):
                answer = await logged_in(client, f"<b>{number}</b>")
                assert answer.status_code == 401
                assert "This is no token of this host." in answer.text
                assert "<b>" not in answer.text
            for token in ("guess", SHORT):
                refused = await logged_in(client, token)
                assert "too many wrong tokens" in problem(refused, 429)
                assert int(refused.headers["retry-after"]) > 0
            assert (await logged_in(client, secret)).status_code == 303

    asking(work)


def test_a_token_has_so_many_logins_and_no_more(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "_MOST", 3)

    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ann", role="viewer")
        clients = [client_of(app) for _ in range(5)]
        for client in clients:
            await logged_in(client, SHORT)
            async with client_of(app) as other:
                await logged_in(other, secret)
        statuses = [(await client.get("/api/runs")).status_code for client in clients]
        assert statuses == [401, 401, 200, 200, 200]
        for client in clients:
            await client.aclose()

    asking(work)
    assert len(rows(database_url, "SELECT * FROM timestep.logins")) == 6


def test_only_a_page_of_the_login_changes_anything() -> None:
    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            await logged_in(client, SHORT)
            known = await form_token(client)

            async def sent(headers: dict[str, str], **fields: str) -> httpx.Response:
                return await client.post("/api/workflows/x/cancel", headers=headers, data=fields)

            own, field = {"origin": OWN}, {"form_token": known}
            header = {auth.FORM_TOKEN_HEADER: known}
            for answer in (
                await sent(own, **field),
                await sent({**own, **header}),
                await sent({"sec-fetch-site": "same-origin"}, **field),
            ):
                assert "there is no workflow 'x'" in problem(answer, 404)
            for answer, reason in (
                (await sent(own), "form's token is missing"),
                (await sent(own, form_token="0" * 64), "form's token is missing"),
                (await sent(own, form_token="\N{SNOWMAN}"), "form's token is missing"),
                (await sent({**own, auth.FORM_TOKEN_HEADER: "x"}, **field), "form's token"),
                (await sent({}, **field), "nothing tells which page"),
                (await sent({"sec-fetch-site": "same-site"}, **field), "nothing tells"),
                (await sent({"origin": "http://evil.example"}, **field), "only this host's own"),
                (await sent({"origin": "null"}, **field), "only this host's own"),
            ):
                assert reason in problem(answer, 403)
            # To read needs neither, and a bearer token is no cookie.
            assert (await client.get("/api/runs", headers={"origin": "null"})).status_code == 200
            answer = await sent({**sends(SHORT), "origin": "http://evil.example"})
            assert problem(answer, 404)
            # Another login's form is none of this one.
            async with client_of(app) as other:
                await logged_in(other, SHORT)
                field = {"form_token": await form_token(other)}
            assert problem(await sent(own, **field), 403)

    asking(work)


def test_a_form_of_too_many_fields_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not that its token is missing, or that it has no workflow_id."""
    many = {f"field{number}": "" for number in range(auth._FIELDS)}
    most = f"{auth._FIELDS:,}"
    told = f"the form has {auth._FIELDS + 1:,} fields, and no more than {most} are read"

    async def logged(app: FastAPI) -> None:
        async with client_of(app) as client:
            await logged_in(client, SHORT)
            fields = {**many, "form_token": await form_token(client)}
            answer = await client.post("/start/x", headers={"origin": OWN}, data=fields)
            assert told in problem(answer, 422)

    async def opened(app: FastAPI) -> None:
        async with client_of(app, "127.0.0.1") as client:
            answer = await client.post(
                "/cancel", headers={"origin": OWN, "accept": "text/html"}, data={**many, "run": "x"}
            )
            assert answer.status_code == 422
            assert told in answer.text

    asking(logged)
    monkeypatch.delenv("TIMESTEP_API_TOKENS")
    asking(opened)


def test_no_other_page_logs_a_browser_in() -> None:
    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            for origin in ("null", "http://evil.example", "https://127.0.0.1:1"):
                answer = await client.post(
                    "/login", data={"token": SHORT}, headers={"origin": origin}
                )
                assert "only this host's own" in problem(answer, 403)
            own = {"origin": OWN}
            answer = await client.post("/login", data={"token": SHORT}, headers=own)
            assert answer.status_code == 303

    asking(work)


def test_pages_of_the_public_address_are_own_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_PUBLIC_URL", "http://agents.example.com:8080/base")

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            own = {"origin": "http://agents.example.com:8080"}
            answer = await client.post("/login", data={"token": SHORT}, headers=own)
            assert answer.status_code == 303

    asking(work)


def test_odd_cookies_and_forms_are_no_login() -> None:
    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            for cookie in (
                b"timestep=",
                b"timestep=x",
                b"timestep=tss_" + b"x" * 43,
                b"timestep=\xff\xfe",
                b"=;;;timestep",
                b"timestep=" + b"y" * 10_000,
            ):
                answer = await client.get("/api/runs", headers=[(b"cookie", cookie)])
                assert problem(answer, 401)
            for body in (b"", b"\xff", b"token", b"token=a&token=b", b"a=1&" * 200, b"{}"):
                answer = await client.post("/login", content=body)
                assert answer.status_code in (401, 429)

    asking(work)


def test_without_tokens_there_is_nothing_to_log_in_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIMESTEP_API_TOKENS")

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            assert "asks for no token" in (await client.get("/login")).text
            answer = await logged_in(client, SHORT)
            assert (answer.status_code, "set-cookie" in answer.headers) == (303, False)

    asking(work)


def test_a_secret_is_in_no_page_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)

    found: list[str] = []

    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ann", role="viewer")
        async with client_of(app) as client:
            await logged_in(client, secret)
            assert secret not in (await client.get("/login")).text
            wrong = await logged_in(client, "wrong-guess")
            assert "wrong-guess" not in wrong.text
            (cookie,) = client.cookies.values()
            assert cookie not in (await client.get("/login")).text
        found.extend([secret, cookie, "wrong-guess"])

    asking(work)
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert not any(one in text for one in found)
