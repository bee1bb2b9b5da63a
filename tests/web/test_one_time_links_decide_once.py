"""One-time links: who has one decides about one call, as it was told of, in its time, once."""

from __future__ import annotations

import asyncio
import datetime
import logging
import uuid

import httpx
import pytest
from fastapi import FastAPI

import timestep
from tests.support.api_client import asking, client_of
from tests.support.dbos_app import App
from tests.support.decisions import decide, started, waiting
from tests.web.test_the_inbox_checks_who_decides_what import clerk, logged_in
from timestep.approvals.links import Link, signed
from timestep.errors import ChangedQuestionError, ExpiredLinkError
from timestep.operations.resume import decide_by_link

KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def settings(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "vera:viewer:vvv,olga:operator:ooo")
    monkeypatch.setenv("TIMESTEP_LINK_KEY", KEY)


def link_to(question: timestep.Interruption, *, seconds: float = 3600, hash_: str = "") -> Link:
    until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return Link(uuid.UUID(question.id), hash_ or question.hash, until.replace(microsecond=0))


def path_of(link: Link) -> str:
    return f"/approve/{signed(link, KEY.encode())}"


def test_a_link_asks_once_more_and_decides_once(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="timestep")
    outcome = started(app, clerk({"cents": 1}, {"cents": 2}))
    first, second = app.until(waiting)
    path = path_of(link_to(first))

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            client.headers["accept"] = "text/html"
            for _ in range(3):  # As what looks through messages does.
                page = await client.get(path)
                assert page.status_code == 200
                assert "Refund 1 cents" in page.text
                assert page.headers["cache-control"] == "no-store"
                assert page.headers["referrer-policy"] == "same-origin"
            # It lets nobody see anything else, and decides nothing else.
            for other in ("/approvals", f"/approvals/{second.id}/arguments", "/approve"):
                assert (await client.get(other)).status_code in (303, 404)
            assert (await client.post(path, data={"action": "edit"})).status_code == 422
            assert (await client.post(path)).status_code == 422
            assert [one.resolved_at for one in await asked()] == [None, None]
            done = await client.post(path, data={"action": "reject", "message": "no\r\nmore"})
            assert (done.status_code, done.headers["location"]) == (303, path)
            page = await client.get(path)
            assert "This call is decided" in page.text
            assert "by a one-time link" in " ".join(page.text.split())
            assert "192.0.2.1" not in page.text
            assert "Refund" not in page.text
            # Used again, for the opposite, it changes nothing.
            assert (await client.post(path, data={"action": "approve"})).status_code == 303

    asking(work)
    (done,) = waiting(resolved=True)
    assert (done.resolution_action, done.resolved_by) == ("reject", "a one-time link")
    (entry,) = app.execute(
        "SELECT who, via, address, details->'decisions'->0 FROM timestep.audit WHERE act = 'decide'"
    ).fetchall()
    assert entry[:3] == ("a one-time link", "http", "192.0.2.1")
    assert (entry[3]["link"], entry[3]["seen"]) == (True, first.hash)
    assert path.rpartition("/")[2] not in caplog.text
    decide(approve=[second.id])
    assert outcome.result(60) == "no\nmore; refunded 2"


async def asked() -> list[timestep.Interruption]:
    return await timestep.list_interruptions(workflow_id="w", resolved=None)


def test_a_link_of_another_question_or_time_decides_nothing(app: App) -> None:
    outcome = started(app, clerk({"cents": 1}))
    (question,) = app.until(waiting)
    late, changed = link_to(question, seconds=-5), link_to(question, hash_="0" * 64)

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            client.headers["accept"] = "text/html"
            for link, why in ((late, "time of this link is over"), (changed, "changed meanwhile")):
                page = await client.get(path_of(link))
                assert (page.status_code, why in page.text) == (409, True)
                assert "Refund" not in page.text
                answer = await client.post(path_of(link), data={"action": "approve"})
                assert answer.status_code == 409
            nobody = Link(uuid.UUID(int=1), "0" * 64, late.until)
            for wrong in ("x", signed(late, b"another key"), signed(nobody, KEY.encode())):
                for answer in (
                    await client.get(f"/approve/{wrong}"),
                    await client.post(f"/approve/{wrong}", data={"action": "approve"}),
                ):
                    assert answer.status_code == 404

    asking(work)
    # The statement that decides looks at the time by itself.
    for link, error in ((late, ExpiredLinkError), (changed, ChangedQuestionError)):
        with pytest.raises(error):
            asyncio.run(decide_by_link("w", link, approve=True, by="a one-time link"))
    assert [one.resolved_at for one in waiting(resolved=None)] == [None]
    assert app.execute("SELECT FROM timestep.audit WHERE act = 'decide'").fetchall() == []
    decide(approve="all")
    assert outcome.result(60) == "refunded 1"


def test_a_link_counts_for_nothing_where_they_are_off(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIMESTEP_LINK_KEY")
    path = f"/approve/{signed(Link(uuid.UUID(int=1), '0' * 64, NOW), KEY.encode())}"

    async def stranger(web: FastAPI) -> None:
        async with client_of(web) as client:
            assert (await client.get(path)).status_code == 401
            assert (await client.post(path, data={"action": "approve"})).status_code == 401

    asking(stranger)

    async def known(client: httpx.AsyncClient, token: str) -> None:
        answer = await client.get(path)
        assert (answer.status_code, "no one-time links" in answer.text) == (404, True)

    logged_in("ooo", known)


NOW = datetime.datetime.now(datetime.UTC)


def test_who_has_logged_in_decides_by_a_link_in_the_own_name(app: App) -> None:
    outcome = started(app, clerk({"cents": 1}))
    (question,) = app.until(waiting)
    path = path_of(link_to(question))

    async def work(client: httpx.AsyncClient, token: str) -> None:
        # Another site's page cannot have the browser press it.
        assert (await client.post(path, data={"action": "approve"})).status_code == 403
        form = {"action": "approve", "form_token": token}
        assert (await client.post(path, data=form)).status_code == 303

    logged_in("vvv", work)
    assert outcome.result(60) == "refunded 1"
    (done,) = waiting(resolved=True)
    assert done.resolved_by == "vera"
