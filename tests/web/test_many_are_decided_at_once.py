"""One confirmation of many questions, of one run or several: some may be decided meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
import html
import re
from collections.abc import Callable, Coroutine
from typing import Any

import httpx
import pytest

import timestep
from tests.support.dbos_app import App
from tests.support.decisions import started, waiting
from tests.web.test_the_inbox_checks_who_decides_what import (
    HOSTILE,
    asked,
    clerk,
    fields,
    logged_in,
    tokens,
)
from timestep.operations.overview import inbox

__all__ = ["tokens"]

MESSAGE = 'not "now" & <here>'


def after_a_look(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], Coroutine[Any, Any, Any]]
) -> None:
    """Have somebody act right after the page looks at the questions the next time."""
    look = inbox.questions

    async def and_act(ids: Any) -> Any:
        found = await look(ids)
        monkeypatch.setattr(inbox, "questions", look)
        # In the own name, and not in that of whose request it is.
        await asyncio.create_task(act(), context=contextvars.Context())
        return found

    monkeypatch.setattr(inbox, "questions", and_act)


def test_many_are_decided_each_with_its_entry_or_none_that_changed(app: App) -> None:
    count = 52
    outcome = started(app, clerk(*({"cents": number} for number in range(count))))
    first, *_ = app.until(waiting)

    async def work(client: httpx.AsyncClient, token: str) -> None:
        form = await fields(action="reject", message="no\r\nmore", form_token=token)
        stale = {**form, f"question.{first.id}": f"{'0' * 64} {HOSTILE}"}
        answer = await client.post("/approvals/decide", data=stale)
        assert answer.status_code == 409
        assert f"Go on with the other {count - 1}" in answer.text
        assert "<script>" not in answer.text
        assert [one.resolved_at for one in await asked(resolved=None)] == [None] * count
        page = await client.post(
            "/approvals/confirm", data={"action": "reject", "all": "w", "form_token": token}
        )
        assert page.status_code == 200
        assert page.text.count("Refund ") == count
        answer = await client.post("/approvals/decide", data=form)
        # Proxies refuse answers with a long head.
        assert len(answer.headers["location"]) < 2000
        page = await client.get(answer.headers["location"])
        assert "There may be more" in page.text

    logged_in("ooo", work)
    assert outcome.result(60) == "; ".join(["no\nmore"] * count)
    entries = app.execute(
        "SELECT who, address, details FROM timestep.audit WHERE act = 'decide'"
    ).fetchall()
    assert [entry[:2] for entry in entries] == [("olga", "192.0.2.1")]
    assert all(one["seen"] for one in entries[0][2]["decisions"])


def test_what_is_decided_in_the_same_moment_is_told(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = started(app, clerk({"cents": 1}, {"cents": 2}))
    first, second = app.until(waiting)

    async def work(client: httpx.AsyncClient, token: str) -> None:
        form = await fields(action="approve", form_token=token)
        after_a_look(
            monkeypatch,
            lambda: timestep.resume_workflow("w", reject=[first.id], message="no", by="bob"),
        )
        answer = await client.post("/approvals/decide", data=form)
        page = re.sub(r"\s+", " ", answer.text)
        assert answer.status_code == 409
        assert "Nothing was decided" in page
        assert "It was decided before you." in page
        assert "by bob" in page
        assert "Go on with the other 1…" in page
        assert [one.id for one in await asked()] == [second.id]

    logged_in("ooo", work)
    timestep.resume_workflow_sync("w", approve=[second.id])
    assert outcome.result(60) == "no; refunded 2"


def test_of_several_runs_what_others_decided_is_told_and_the_rest_goes_on(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    amounts = {"w1": (1,), "w2": (2, 3), "w3": (4,)}
    outcomes = {
        name: started(app, clerk(*({"cents": one} for one in own)), workflow_id=name)
        for name, own in amounts.items()
    }

    def asked_now() -> dict[str, timestep.Interruption]:
        """What waits, by the amount."""
        found = asyncio.run(timestep.list_interruptions())
        return {str(one.arguments["cents"]): one for one in found}

    app.until(lambda: len(asked_now()) == 4)
    asked_first = asked_now()

    def hidden(page: str) -> dict[str, str]:
        found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page)
        return {name: html.unescape(value) for name, value in found}

    async def work(client: httpx.AsyncClient, token: str) -> None:
        async def send(path: str, status: int, **form: str) -> str:
            answer = await client.post(f"/approvals/{path}", data={"form_token": token, **form})
            assert answer.status_code == status, answer.text
            return re.sub(r"\s+", " ", answer.text)

        ticked = {f"question.{one.id}": f"{one.hash} shown" for one in asked_first.values()}
        page = await send("confirm", 200, action="reject", **ticked)
        assert "<h1>Reject 4 calls?</h1>" in page
        # One of them is decided before the button is pressed: none is, and the others go on.
        await timestep.resume_workflow("w1", approve=[asked_first["1"].id], by="bob")
        typed = {"message": MESSAGE, "always": "yes"}
        page = await send("decide", 409, **hidden(page), **typed)
        assert "<h1>Nothing was decided</h1>" in page
        assert page.count("It was decided before you.") == 1
        assert "by bob" in page
        assert "Go on with the other 3…" in page
        page = await send("confirm", 200, **hidden(page))
        assert "<h1>Reject 3 calls?</h1>" in page
        # What was typed before is there.
        assert 'name="always" value="yes" checked' in page
        assert MESSAGE in html.unescape(page)

        # One is decided after the page has looked: its run's are left, the other run's are not.
        after_a_look(
            monkeypatch,
            lambda: timestep.resume_workflow("w2", approve=[asked_first["2"].id], by="bob"),
        )
        page = await send("decide", 409, **hidden(page), **typed)
        assert "<h1>Not all of it was decided</h1>" in page
        assert "1 call was decided." in page
        assert page.count("It was decided before you.") == 1
        assert "Refund 2 cents" in page
        assert "Go on with the other 1…" in page
        page = await send("confirm", 200, **hidden(page))
        assert "Refund 3 cents" in page
        answer = await client.post("/approvals/decide", data={**hidden(page), **typed})
        assert answer.status_code == 303

    logged_in("ooo", work)
    assert outcomes["w1"].result(60) == "refunded 1"
    assert outcomes["w2"].result(60) == f"refunded 2; {MESSAGE}"
    assert outcomes["w3"].result(60) == MESSAGE
    entries = app.execute(
        "SELECT who, subjects[1], jsonb_array_length(details->'decisions') FROM timestep.audit "
        "WHERE act = 'decide' AND refused IS NULL ORDER BY id"
    ).fetchall()
    assert entries == [("bob", "w1", 1), ("bob", "w2", 1), ("olga", "w3", 1), ("olga", "w2", 1)]
