"""The inbox without a browser: roles, forged forms, hostile text, and what no longer waits."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from agents import Agent, function_tool
from agents.testing import assistant_message, function_call
from fastapi import FastAPI

import timestep
from tests.support.api_client import OWN, asking, client_of, sends
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import App
from tests.support.decisions import started, waiting

HOSTILE = '</dd><script>alert(1)</script><img src=x onerror="alert(2)">\u202egnp.exe\x1b[31m\x00'


@timestep.tool_options(describe="Refund {cents} cents: {note}")
@function_tool(needs_approval=True)
async def refund(cents: int, note: str = "") -> str:
    return f"refunded {cents}"


def clerk(*arguments: dict[str, Any]) -> Agent[Any]:
    """An agent that asks for a refund of each of these, and says how much was refunded."""
    calls: list[Any] = [
        function_call("refund", given, call_id=f"c{number}")
        for number, given in enumerate(arguments)
    ]

    def answer(items: list[Any]) -> list[Any]:
        found = outputs(items)
        told = "; ".join(str(found[key]) for key in sorted(found))
        return [assistant_message(told)] if found else calls

    return Agent(name="Clerk <b>", model=AnsweringModel(answer), tools=[refund])


@pytest.fixture(autouse=True)
def tokens(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    known = "vera:viewer:vvv,olga:operator:ooo,adam:admin:aaa"
    monkeypatch.setenv("TIMESTEP_API_TOKENS", known)


def logged_in(token: str, work: Callable[[httpx.AsyncClient, str], Awaitable[None]]) -> None:
    """Do `work` with a browser of a login, and the token of its forms."""

    async def run(web: FastAPI) -> None:
        async with client_of(web) as client:
            client.headers.update({"accept": "text/html", "origin": OWN})
            await client.post("/login", data={"token": token})
            page = (await client.get("/login")).text
            found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
            assert found is not None
            await work(client, found[1])

    asking(run)


async def asked(**which: Any) -> list[timestep.Interruption]:
    """What the workflow asks."""
    return await timestep.list_interruptions(workflow_id="w", **which)


async def fields(**given: str) -> dict[str, str]:
    """What a form says of the questions that wait."""
    shown = {f"question.{one.id}": f"{one.hash} shown" for one in await asked()}
    return {**shown, **given}


def test_a_viewer_sees_and_may_not_press(app: App) -> None:
    outcome = started(app, clerk({"cents": 50}))
    (question,) = app.until(waiting)

    async def work(client: httpx.AsyncClient, token: str) -> None:
        page = (await client.get("/approvals")).text
        assert "Refund 50 cents" in page
        assert "This takes the role operator: vera is a viewer." in page
        buttons = re.findall(r"<button[^>]*name=\"action\"[^>]*>", page)
        assert buttons, page
        assert all(" disabled" in one for one in buttons)
        for path in ("confirm", "decide", f"{question.id}/edit"):
            form = await fields(action="approve", form_token=token)
            assert (await client.post(f"/approvals/{path}", data=form)).status_code == 403
        edit = (await client.get(f"/approvals/{question.id}/edit")).text
        assert "disabled" in edit
        assert (await client.post("/start/x", data={"form_token": token})).status_code == 403

    logged_in("vvv", work)
    assert [one.resolved_at for one in waiting(resolved=None)] == [None]
    timestep.resume_workflow_sync("w", approve="all")
    assert outcome.result(60) == "refunded 50"


def test_only_a_form_of_the_login_decides_and_in_its_name(app: App) -> None:
    outcome = started(app, clerk({"cents": 50}))
    (question,) = app.until(waiting)

    async def work(client: httpx.AsyncClient, token: str) -> None:
        form = await fields(action="approve", by="mallory", who="mallory")
        forged: list[tuple[dict[str, str], dict[str, str]]] = [
            ({}, {}),
            ({"form_token": "0" * 64}, {}),
            ({"form_token": token}, {"origin": "https://evil.example"}),
        ]
        for more, headers in forged:
            for path in ("confirm", "decide"):
                sent = {**form, **more}
                answer = await client.post(f"/approvals/{path}", data=sent, headers=headers)
                assert answer.status_code == 403
        assert [one.resolved_at for one in await asked(resolved=None)] == [None]
        # No form but that of what was shown, and of an act that there is, is one.
        edits = await fields(action="edit", form_token=token)
        assert (await client.post("/approvals/confirm", data=edits)).status_code == 422
        for wrong in (
            {"action": "approve"},
            await fields(action="destroy"),
            {"action": "approve", "question.x": "y"},
            {"action": "approve", f"question.{question.id.upper()}": question.hash},
            {"action": "approve", f"question.{question.id.replace('-', '')}": question.hash},
            {"action": "approve", f"question.{'0' * 8}-0000-0000-0000-{'0' * 12}": "y"},
        ):
            for path in ("decide", "confirm"):
                sent = {**wrong, "form_token": token}
                answer = await client.post(f"/approvals/{path}", data=sent)
                assert answer.status_code in (404, 422), answer.text
        odd = question.id.upper()
        sent = await fields(action="edit", form_token=token)
        sent[f"question.{odd}"] = question.hash
        assert (await client.post(f"/approvals/{odd}/edit", data=sent)).status_code == 404
        changed = {"action": "approve", f"question.{question.id}": "0" * 64}
        answer = await client.post("/approvals/decide", data={**changed, "form_token": token})
        assert answer.status_code == 409
        assert "it changed meanwhile" in answer.text

        sent = {**form, "form_token": token}
        answer = await client.post("/approvals/decide", data=sent)
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"/approvals?done={question.id}",
        )
        # Sent twice it tells who decided, and changes nothing.
        again = await client.post("/approvals/decide", data=sent)
        assert again.status_code == 409
        assert "by olga" in re.sub(r"\s+", " ", again.text)
        seen = re.sub(r"\s+", " ", (await client.get("/approvals?resolved=true")).text)
        assert "Who decided was shown this" in seen
        assert "by olga on the page" in seen
        assert "192.0.2.1" not in seen, "addresses are for admins"

    logged_in("ooo", work)
    assert outcome.result(60) == "refunded 50"
    (row,) = app.rows("interruptions")
    assert row["resolved_by"] == "olga"

    async def admin(client: httpx.AsyncClient, token: str) -> None:
        assert "192.0.2.1" in (await client.get("/approvals?resolved=true")).text

    logged_in("aaa", admin)


def test_edited_arguments_are_checked_and_kept(app: App) -> None:
    outcome = started(app, clerk({"cents": 5000, "note": "a\nb"}))
    (question,) = app.until(waiting)

    async def work(client: httpx.AsyncClient, token: str) -> None:
        form = await fields(action="edit", form_token=token)
        path = f"/approvals/{question.id}/edit"
        wrong = {**form, "value.cents": "12 euros", "value.note": "<b>keep</b>"}
        answer = await client.post(path, data=wrong)
        assert answer.status_code == 422
        assert "This is no whole number" in answer.text
        assert "12 euros" in answer.text
        assert "&lt;b&gt;keep&lt;/b&gt;" in answer.text
        # What the schema refuses is told at its field, and beside what cannot be read.
        answer = await client.post(path, data={**wrong, "json.note": "3"})
        assert "This is no whole number" in answer.text
        assert "3 is not of type" in answer.text
        answer = await client.post(path, data={**form, "json.cents": '"5"', "value.note": ""})
        assert answer.status_code == 422
        assert "is not of type" in answer.text
        right = {**form, "value.cents": "50", "value.note": "a\r\nb"}
        answer = await client.post(path, data=right)
        assert answer.status_code == 200
        found = re.search(r'name="arguments" value="([^"]*)"', answer.text)
        assert found is not None
        arguments = found[1].replace("&#34;", '"')
        assert json.loads(arguments) == {"cents": 50, "note": "a\nb"}
        for bad in ("{", '{"cents": "x"}', "[]"):
            sent = {**form, "arguments": bad}
            assert (await client.post("/approvals/decide", data=sent)).status_code == 422
        answer = await client.post("/approvals/decide", data={**form, "arguments": arguments})
        assert answer.status_code == 303

    logged_in("ooo", work)
    assert outcome.result(60) == "refunded 50"


def test_hostile_text_is_text_and_breaks_no_page(app: App) -> None:
    agent = clerk({"cents": 1, "note": HOSTILE}, {"cents": 2}, {"cents": 3})

    async def body() -> str:
        # What waits nowhere reads none of it meanwhile.
        return str(len((await timestep.DurableRunner.run(agent, HOSTILE)).interruptions))

    assert app.run(body, "w") == "3"
    first, second, third = waiting()
    deep = "[" * 5000 + "]" * 5000
    update = "UPDATE interruptions SET arguments = %s::text::jsonb WHERE id = %s"
    app.execute(update, (deep, second.id))
    app.execute(update, (json.dumps({"note": "<i>" * 1_700_000}), third.id))

    async def work(client: httpx.AsyncClient, token: str) -> None:
        page = await client.get("/approvals")
        confirmed = await client.post(
            "/approvals/confirm", data={"action": "approve", "all": "w", "form_token": token}
        )
        for answer in (page, confirmed):
            assert answer.status_code == 200, answer.text
            assert len(answer.text) < 150_000
            for bad in ("<script>alert", "<img", "<i>", "<b>", "\u202e", "\x1b", "\x00"):
                assert bad not in answer.text
            assert r"\u202egnp.exe\x1b[31m\x00" in answer.text
            assert "… all of it" in answer.text
        whole = await client.get(f"/approvals/{third.id}/arguments")
        assert len(whole.content) > 5_000_000
        assert whole.headers["content-type"] == "application/json"
        assert (await client.get(f"/approvals/{second.id}/arguments")).text == deep
        edit = await client.get(f"/approvals/{first.id}/edit")
        assert edit.status_code == 200
        assert "<script>alert" not in edit.text
        # What has no fields is shown beside them.
        app.execute(update, (json.dumps(["drop", HOSTILE[:-1]]), first.id))
        edit = await client.get(f"/approvals/{first.id}/edit")
        shown = re.search(rf'name="question.{first.id}" value="([0-9a-f]{{64}}) ', edit.text)
        assert shown is not None
        form = {"action": "edit", "form_token": token, f"question.{first.id}": shown[1]}
        form |= {"value.cents": "5", "value.note": "", "empty.note": "text"}
        confirmed = await client.post(f"/approvals/{first.id}/edit", data=form)
        for answer in (edit, confirmed):
            assert answer.status_code == 200, answer.text
            assert "drop" in answer.text
            assert "<script>alert" not in answer.text
        for one in (second, third):
            edit = await client.get(f"/approvals/{one.id}/edit")
            assert (edit.status_code, "for a form" in edit.text) == (422, True)

    logged_in("ooo", work)


def test_questions_of_a_workflow_that_has_ended_say_so(app: App) -> None:
    async def body() -> str:
        result = await timestep.DurableRunner.run(clerk({"cents": 5}), "go")
        return str(len(result.interruptions))

    assert app.run(body, "w") == "1"
    (question,) = waiting()

    async def work(client: httpx.AsyncClient, token: str) -> None:
        page = (await client.get("/approvals?workflow_id=w")).text
        assert "The workflow has completed and waits for nothing" in page
        buttons = re.findall(r"<button[^>]*name=\"action\"[^>]*>", page)
        shown = [one for one in buttons if 'id="' in one]
        assert shown, page
        assert all(" disabled" in one for one in shown)
        form = await fields(action="approve", form_token=token)
        answer = await client.post("/approvals/decide", data=form)
        assert answer.status_code == 409
        assert "has completed and waits for nothing" in answer.text
        assert (
            "Nothing waits for a decision."
            in (await client.get("/approvals?workflow_id=another")).text
        )
        for path in ("/approvals?cursor=x", "/approvals?workflow_id=%00"):
            assert (await client.get(path)).status_code == 422
        assert (await client.get("/approvals?done=x")).status_code == 404
        assert (await client.get("/approvals/x/edit")).status_code == 404

    logged_in("ooo", work)
    assert question.is_waited_for is False


def test_a_page_is_made_with_a_bearer_token_and_without_one_leads_to_the_login(app: App) -> None:
    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            client.headers["accept"] = "text/html"
            answer = await client.get("/approvals?workflow_id=w")
            assert answer.headers["location"] == "/login?next=%2Fapprovals%3Fworkflow_id%3Dw"
            answer = await client.get("/approvals", headers=sends("vvv"))
            assert "Nothing waits for a decision." in answer.text

    asking(work)


def test_questions_inside_runs_say_where_they_are_asked(app: App) -> None:
    inner = clerk({"cents": 7})
    tool = inner.as_tool("ask_clerk", "Ask the clerk.")

    def answer(items: list[Any]) -> list[Any]:
        found = outputs(items)
        call = function_call("ask_clerk", {"input": "refund me"}, call_id="outer")
        return [assistant_message(str(found["outer"]))] if found else [call]

    outcome = started(app, Agent(name="Boss", model=AnsweringModel(answer), tools=[tool]))
    app.until(waiting)

    async def work(client: httpx.AsyncClient, token: str) -> None:
        page = re.sub(r"\s+", " ", (await client.get("/approvals")).text)
        assert "What led to it, in the run of Clerk &lt;b&gt; inside that of Boss" in page
        assert "refund me" in page
        assert "started by" not in page, "code has started it"
        form = await fields(action="approve", always="yes", form_token=token)
        assert (await client.post("/approvals/decide", data=form)).status_code == 303

    logged_in("ooo", work)
    assert outcome.result(60) == "refunded 7"
    (question,) = waiting(resolved=True)
    assert question.resolution_always
