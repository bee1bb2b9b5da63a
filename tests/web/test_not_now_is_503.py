"""What passes by itself is answered with 503: a host that is not ready, a database's "not now"."""

from __future__ import annotations

import asyncio
import threading

import httpx
import psycopg
import pytest
from dbos import _dbos
from fastapi import FastAPI

from tests.support.dbos_app import App
from tests.support.no_tokens import no_tokens_made
from timestep import config
from timestep.database.error_translation import translated
from timestep.runtime import readiness
from timestep.web.app import create_app
from timestep.web.problems import KINDS

__all__ = ["no_tokens_made"]


def answered(app: FastAPI, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_a_host_says_why_it_is_not_ready() -> None:
    readiness.not_ready("database", "it is waited for")
    readiness.not_ready("claim", "another host holds it")
    answer = answered(create_app(config.read(), {}), "/readyz")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "another host holds it; it is waited for"
    readiness.ready("claim")
    assert readiness.reason() == "it is waited for"
    readiness.ready("database")
    assert readiness.reason() is None


def test_a_host_whose_event_loop_has_ended_is_not_ready(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = create_app(config.read(), {})
    assert answered(web, "/readyz").status_code == 200
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    monkeypatch.setattr(_dbos._get_dbos_instance()._background_event_loop, "_thread", ended)
    answer = answered(create_app(config.read(), {}), "/readyz")
    assert answer.status_code == 503
    assert "event loop" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (psycopg.errors.ReadOnlySqlTransaction("read-only"), 503, "not-now"),
        (psycopg.errors.QueryCanceled("timeout"), 503, "not-now"),
        (psycopg.errors.CheckViolation("no"), 500, "database"),
        (psycopg.errors.InsufficientPrivilege("no"), 500, "database"),
    ],
)
def test_so_is_a_request_that_the_database_puts_off(
    error: psycopg.Error, status: int, kind: str, no_tokens_made: None
) -> None:
    app = create_app(config.read(), {})

    @app.get("/refused")
    def refused() -> None:
        with translated():
            raise error

    answer = answered(app, "/refused")
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:timestep:{kind}")
    assert KINDS[kind][0] == status
