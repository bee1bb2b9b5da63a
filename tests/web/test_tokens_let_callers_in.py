"""Tokens that are kept in the database: who comes in with one, until when, and who does not."""

from __future__ import annotations

import asyncio
import datetime
import threading
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI, Request

from tests.support.api_client import asking, client_of, sends
from tests.support.dbos_app import App
from tests.support.problems import problem
from timestep import config
from timestep.operations.access import logins, tokens
from timestep.operations.access.tokens import create_token, list_tokens, revoke_token
from timestep.web import app as web_app
from timestep.web import auth, callers
from timestep.web.app import create_app

LONG = "a-secret-of-the-environment-that-nobody-guesses"


@pytest.fixture(autouse=True)
def database(app: App) -> None:
    """One that tests share."""


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the database said is asked anew each time."""
    monkeypatch.setattr(callers, "_HOLDS", 0.0)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_each_role_may_do_what_it_is_for(database_url: str) -> None:
    async def work(app: FastAPI) -> None:
        made = {
            role: (await create_token(role, role=role))[1]
            for role in ("viewer", "operator", "admin")
        }
        async with client_of(app) as client:
            assert "no bearer token" in problem(await client.get("/api/runs"), 401)
            for role, secret in made.items():
                assert (await client.get("/api/runs", headers=sends(secret))).status_code == 200
                cancel = await client.post("/api/workflows/x/cancel", headers=sends(secret))
                assert cancel.status_code == (403 if role == "viewer" else 404)
                audit = await client.get("/api/audit", headers=sends(secret))
                assert audit.status_code == (200 if role == "admin" else 403)
            denied = await client.get("/api/audit", headers=sends(made["viewer"]))
            assert "is a viewer's: this takes an admin's" in problem(denied, 403)

    asking(work)
    kept = rows(database_url, "SELECT to_jsonb(t)::text FROM timestep.api_tokens t")
    assert len(kept) == 3
    assert not any("ts_" in text for (text,) in kept)
    used = rows(database_url, "SELECT last_used_at IS NOT NULL FROM timestep.api_tokens")
    assert used == [(True,)] * 3


def test_only_the_hash_of_256_random_bits_is_kept(database_url: str) -> None:
    token, secret = asyncio.run(create_token("ann", role="viewer"))
    assert tokens.has_form(secret)
    assert len(set(secret)) > 16
    (kept,) = rows(database_url, "SELECT encode(hash, 'hex') FROM timestep.api_tokens")
    assert kept == (tokens.hash_of(secret).hex(),)
    assert secret not in repr(token)


def test_a_token_that_ends_lets_nobody_in(at_once: None, database_url: str) -> None:
    async def work(app: FastAPI) -> None:
        _, revoked = await create_token("ann", role="viewer")
        hour = datetime.timedelta(hours=1)
        _, expired = await create_token("bob", role="viewer", expires=hour)
        async with client_of(app) as client:
            for secret in (revoked, expired):
                assert (await client.get("/api/runs", headers=sends(secret))).status_code == 200
            await revoke_token("ann")
            with psycopg.connect(database_url) as connection:
                connection.execute(
                    "UPDATE timestep.api_tokens SET expires_at = now() WHERE name = 'bob'"
                )
            for secret in (revoked, expired):
                answer = await client.get("/api/runs", headers=sends(secret))
                assert "an unknown bearer token" in problem(answer, 401)
            # The end of the last token opens nothing, in a new host either.
            async with client_of(create_app(config.read(), {})) as other:
                assert problem(await other.get("/api/runs"), 401)

    asking(work)


def test_what_streams_is_told_that_its_caller_may_no_more(at_once: None) -> None:
    app = create_app(config.read(), {})

    @app.get("/stream")
    async def stream(request: Request) -> dict[str, list[bool]]:
        before = await auth.is_still_valid(request)
        await end()
        return {"valid": [before, await auth.is_still_valid(request)]}

    async def end() -> None:
        await revoke_token("ann")

    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ann", role="viewer")
        _, other = await create_token("eve", role="viewer")
        async with client_of(app) as client:
            answer = await client.get("/stream", headers=sends(secret))
            assert answer.json() == {"valid": [True, False]}
            answer = await client.get("/stream", headers=sends(other))
            assert answer.json() == {"valid": [True, True]}

    asking(work, app)


def test_an_open_hosts_streams_end_once_a_token_is_made(at_once: None) -> None:
    app = create_app(config.read(), {})

    @app.get("/stream")
    async def stream(request: Request) -> dict[str, list[bool]]:
        before = await auth.is_still_valid(request)
        await create_token("ann", role="viewer")
        return {"valid": [before, await auth.is_still_valid(request)]}

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            assert (await client.get("/stream")).json() == {"valid": [True, False]}
            assert problem(await client.get("/stream"), 401)

    asking(work, app)


def test_the_environments_tokens_hold_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "olga:operator:short,vera:viewer:" + LONG)

    async def work(app: FastAPI) -> None:
        _, made = await create_token("ann", role="admin")
        async with client_of(app) as client:
            for secret in ("short", LONG, made):
                assert (await client.get("/api/runs", headers=sends(secret))).status_code == 200

    asking(work)


def test_wrong_tokens_are_limited_by_address_in_all_hosts(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "olga:operator:short,vera:viewer:" + LONG)

    async def work(app: FastAPI) -> None:
        _, made = await create_token("ann", role="admin")
        hosts = [app, create_app(config.read(), {})]
        for number in range(logins.WRONG):
            async with client_of(hosts[number % 2]) as client:
                guess = "ts_" + "x" * 43 if number % 3 else f"guess-{number}"
                answer = await client.get("/api/runs", headers=sends(guess))
                assert "unknown bearer" in problem(answer, 401)
        for host in [*hosts, create_app(config.read(), {})]:
            async with client_of(host) as client:
                # Right or not, what may be a guess is no answer.
                for guess in ("guess", "short", "ts_" + "y" * 43):
                    answer = await client.get("/api/runs", headers=sends(guess))
                    assert "too many wrong tokens" in problem(answer, 429)
                    assert 1 <= int(answer.headers["retry-after"]) <= logins.SPAN
                # What nobody guesses is as right as ever: nobody is locked out by a neighbour.
                for secret in (made, LONG):
                    assert (await client.get("/api/runs", headers=sends(secret))).status_code == 200
                assert problem(await client.get("/api/runs"), 401)
                assert (await client.get("/healthz", headers=sends("guess"))).status_code == 200
            async with client_of(host, "192.0.2.2") as client:
                assert (await client.get("/api/runs", headers=sends("short"))).status_code == 200

    asking(work)
    entries = rows(
        database_url,
        "SELECT who, address, details - 'how' FROM timestep.audit WHERE act = 'wrong_token' "
        "ORDER BY id",
    )
    assert entries == [
        ("nobody", "192.0.2.1", {"attempts": 1}),
        ("nobody", "192.0.2.1", {"attempts": logins.WRONG}),
    ]
    assert len(rows(database_url, "SELECT * FROM timestep.wrong_tokens")) == 1


def test_readiness_tells_guesses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "olga:operator:short")
    monkeypatch.setattr(web_app, "_missing", lambda: "of a certain reason")

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            told = await client.get("/readyz", headers=sends("short"))
            assert problem(told, 503) == "of a certain reason"
            for _ in range(logins.WRONG):
                await client.get("/readyz", headers=sends("guess"))
            answers = [
                await client.get("/readyz", headers=sends(guess)) for guess in ("short", "guess")
            ]
            assert {problem(answer, 503) for answer in answers} == {
                "it is not ready: send a token to be told why"
            }

    asking(work)


def test_neither_table_can_be_filled(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "olga:operator:short")
    monkeypatch.setattr(logins, "_ADDRESSES", 5)
    monkeypatch.setattr(logins, "_ENTRIES", 4)

    async def work(app: FastAPI) -> None:
        for number in range(20):
            async with client_of(app, f"198.51.100.{number}") as client:
                assert problem(await client.get("/api/runs", headers=sends("guess")), 401)

    asking(work)
    kept = rows(database_url, "SELECT address FROM timestep.wrong_tokens ORDER BY until DESC")
    assert [address for (address,) in kept][:5] == [f"198.51.100.{n}" for n in range(19, 14, -1)]
    assert len(kept) <= 6
    entries = rows(database_url, "SELECT details FROM timestep.audit ORDER BY id")
    assert ["further" in details for (details,) in entries] == [False, False, False, True]


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "elsewhere"),
        (None, "elsewhere"),
        ("x" * 1000, "elsewhere"),
    ],
)
def test_what_a_user_can_choose_of_an_address_counts_together(
    address: str | None, place: str
) -> None:
    assert callers.place_of(address) == place


def test_many_who_ask_at_once_are_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    goes_on = threading.Event()
    known = tokens.known

    def slowly(hashes: Any, *others: Any) -> Any:
        asked.append(len(hashes))
        goes_on.wait()
        return known(hashes, *others)

    monkeypatch.setattr(tokens, "known", slowly)
    monkeypatch.setattr(callers, "_HOLDS", 600.0)

    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ann", role="viewer")
        async with client_of(app) as client:

            async def ask(token: str) -> httpx.Response:
                return await client.get("/healthy", headers=sends(token))

            begun = [asyncio.create_task(ask(secret)) for _ in range(30)]
            while not asked:  # noqa: ASYNC110  # It is set in another thread.
                await asyncio.sleep(0)
            goes_on.set()
            assert {(await one).status_code for one in begun} == {404}
            assert (await ask(secret)).status_code == 404
            # Whether a token is asked, and then whose it is.
            assert asked == [0, 1]

    asking(work)


def test_without_its_database_a_host_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", "postgresql://somebody@127.0.0.1:1/nothing")

    async def work(app: FastAPI) -> None:
        async with client_of(app) as client:
            for headers in ({}, sends("ts_" + "x" * 43)):
                answer = await client.get("/openapi.json", headers=headers)
                assert "The host's log tells more" in problem(answer, 503)
            assert (await client.get("/healthz")).status_code == 200

    asking(work)


@pytest.mark.own_database
def test_a_token_is_used_where_nothing_can_be_written(database_url: str) -> None:
    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ann", role="viewer")
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE read_only_sql_transaction; END $$"
            )
            connection.execute(
                "CREATE TRIGGER refused BEFORE UPDATE ON timestep.api_tokens EXECUTE FUNCTION "
                "refuse()"
            )
        async with client_of(app) as client:
            assert (await client.get("/api/runs", headers=sends(secret))).status_code == 200

    asking(work)


def test_the_use_of_a_token_is_written_once_a_minute(at_once: None, database_url: str) -> None:
    async def work(app: FastAPI) -> None:
        _, secret = await create_token("ann", role="viewer")

        async def used(ago: str) -> datetime.datetime | None:
            with psycopg.connect(database_url) as connection:
                connection.execute(
                    "UPDATE timestep.api_tokens SET last_used_at = now() - %s::interval", [ago]
                )
            before = (await list_tokens())[0].last_used_at
            async with client_of(app) as client:
                await client.get("/api/runs", headers=sends(secret))
            after = (await list_tokens())[0].last_used_at
            return after if after != before else None

        assert await used("10 seconds") is None
        assert await used("61 seconds") is not None

    asking(work)
