"""What led to a question: the session before, who was given what, what became of each call."""

from __future__ import annotations

import html
import json
import re
from concurrent.futures import Future
from threading import Thread
from typing import Any

import pytest
from agents import Agent, FunctionTool, function_tool
from agents.testing import assistant_message, function_call
from fastapi import FastAPI

import timestep
from tests.approvals.test_decisions_for_other_versions import of_another_version, parked
from tests.support.api_client import asking, client_of
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import App
from tests.support.decisions import decide, waiting
from timestep import DatabaseSession
from timestep.serialization.documents.json_text import dumps
from timestep.store.reads.overview import inbox as store


@function_tool(needs_approval=True)
async def run_shell(command: str, note: str = "") -> str:
    if command == "fail":
        raise ValueError("no such disk")
    return f"ran {command}"


def shell(*turns: list[Any], name: str = "Shell", tool: FunctionTool = run_shell) -> Agent[Any]:
    """An agent that wants to make all calls of a turn at once, and says at last that it did."""
    calls: list[list[Any]] = [
        [
            function_call(
                tool.name,
                one if isinstance(one, dict) else {"command": one},
                call_id=f"{name}-{turn}{place}",
            )
            for place, one in enumerate(commands)
        ]
        for turn, commands in enumerate(turns)
    ]

    def answer(items: list[Any]) -> list[Any]:
        done = outputs(items)
        for turn in calls:
            if turn[0].call_id not in done:
                return list(turn)
        return [assistant_message("It is done.")]

    return Agent(name=name, model=AnsweringModel(answer), tools=[tool])


def begun(app: App, *runs: tuple[Agent[Any], Any], session: bool = False) -> Future[str]:
    """A workflow `w` that has these runs one after the other, in a session where that is asked."""
    outcome: Future[str] = Future()

    async def body() -> str:
        kept = DatabaseSession("customer-7") if session else None
        for agent, given in runs:
            result = await timestep.run_agent(agent, given, session=kept)
        return str(result.final_output)

    def work() -> None:
        try:
            outcome.set_result(app.run(body, "w"))
        except Exception as error:  # noqa: BLE001  # the future raises it to the test
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    return outcome


@pytest.fixture
def inbox(app: App, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the page says, without its markup."""
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)

    def read(path: str = "/approvals") -> str:
        found: list[str] = []

        async def work(web: FastAPI) -> None:
            async with client_of(web, "127.0.0.1") as client:
                answer = await client.get(path, headers={"accept": "text/html"})
                assert answer.status_code == 200, answer.text
                found.append(answer.text)

        asking(work)
        return plain(found[0])

    return read


def plain(page: str) -> str:
    """What a page says, without its markup."""
    return html.unescape(" ".join(re.sub(r"<[^>]*>", "", page).split()))


def test_each_call_says_what_became_of_it_and_the_session_leads_to_it(app: App, inbox: Any) -> None:
    clerk = shell(["made", "fail"], ["rm"], name="Clerk")
    boss = shell(
        [{"input": "delete /srv/a"}],
        name="Boss",
        tool=clerk.as_tool("ask_clerk", "Ask the clerk."),
    )
    runs = ((shell(["refused", "given"]), "look around"), (boss, "now delete them"))
    outcome = begun(app, *runs, session=True)
    app.until(lambda: len(waiting()) == 2)
    decide(reject=["Shell-00"], supply={"Shell-01": "by hand"})
    app.until(lambda: len(waiting()) == 2)
    decide(approve="all")
    (question,) = app.until(lambda: [one for one in waiting() if one.call_id == "Clerk-10"])
    page = inbox()
    place = 0
    for told in (
        "Before, in the session customer-7:",
        "user said look around",
        "Shell wanted to call run_shell, which was rejected",
        "Shell wanted to call run_shell, and a person gave the result instead",
        "the model was told, as run_shell was not called",
        "a person gave the result of run_shell by hand",
        "Shell said It is done.",
        "Given to Boss: user said now delete them",
        "In the run of Clerk: user said delete /srv/a",
        "Clerk called run_shell",
        "Clerk called run_shell, which failed",
        "run_shell gave ran made",
        "run_shell failed",
    ):
        assert told in page[place:], (told, page)
        place = page.index(told, place)
    decide(approve=[question.id])
    assert outcome.result(60) == "It is done."


def test_a_call_that_was_decided_beside_one_that_waits_says_so(app: App, inbox: Any) -> None:
    outcome = begun(app, (shell(["a", "b", "c", "d"]), "go"))
    app.until(lambda: len(waiting()) == 4)
    decide(approve=["Shell-00"], reject=["Shell-01"], supply={"Shell-02": 1})
    page = inbox()
    for told in (
        "Shell may call run_shell, which was approved, and has not yet",
        "Shell wanted to call run_shell, which was rejected",
        "Shell wanted to call run_shell, and a person gave the result instead",
    ):
        assert told in page, (told, page)
    assert "Shell called" not in page
    app.execute(
        "INSERT INTO timestep.audit (who, via, act, subjects) "
        "VALUES ('ann', 'http', 'fork', ARRAY['w', 'another'])"
    )
    assert "Shell · forked by ann" in inbox()
    # However much was given, its end is told.
    given = [{"role": "user", "content": [{"type": "input_text", "text": "x" * 50_000}]}] * 4
    given += [{"role": "user", "content": "delete them"}, {"role": "user", "content": "y" * 50_000}]
    app.execute("UPDATE runs SET input = %s::text::jsonb", (json.dumps(given),))
    page = inbox()
    assert "before 3 items" in page
    for told in (f"user said {'x' * 700} …", "user said delete them", f"user said {'y' * 700} …"):
        assert told in page
    decide(approve=["Shell-03"])
    assert outcome.result(60) == "It is done."


@pytest.mark.parametrize("many", [1, 60])
def test_no_long_argument_hides_another(app: App, inbox: Any, many: int) -> None:
    outcome = begun(app, (shell(["a"]), "go"))
    (question,) = app.until(waiting)
    long = {f"a{number}": "x" * (3_000_000 // many) for number in range(many)}
    deep = json.loads("[" * 400 + "]" * 400)
    given = {**long, "z": deep, "note": "all of it", "command": "rm -rf /"}
    update = "UPDATE interruptions SET arguments = %s::text::jsonb WHERE id = %s"
    app.execute(update, (json.dumps(given), question.id))
    # As JSONB cannot hold it, it is text there.
    set_aside = {**given, "z": "\x00"}
    for shown, told in (
        (set_aside, "They cannot be shown by their names here"),
        ({**set_aside, "a0": "x" * 60_000} if many == 1 else None, "command rm -rf /"),
    ):
        if shown is not None:
            app.execute(update, (dumps(shown), question.id))
            assert told in inbox()
    app.execute(update, (json.dumps(given), question.id))
    page = inbox()
    assert len(page) < 80_000
    assert "command rm -rf /" in page
    assert "note all of it" in page or "note" in page[page.index("more: ") :]
    assert f"… all of it ({3_000_000 // many:,} characters)" in page
    assert "It cannot be edited: its arguments are too long" in page
    decide(approve=[question.id])
    assert outcome.result(60) == "It is done."


def test_what_is_decided_while_the_page_is_read_is_not_on_it(
    app: App, inbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = begun(app, (shell(["a"]), "go"))
    app.until(waiting)
    with monkeypatch.context() as patched:
        patched.setattr(store, "of_workflows", lambda *_: [])
        assert "Nothing waits for a decision." in inbox()
    decide(approve="all")
    assert outcome.result(60) == "It is done."


def test_what_was_decided_says_what_it_was_and_by_whom(app: App, inbox: Any) -> None:
    outcome = begun(app, (shell(["a", "b", "c", "d"]), "go"))
    app.until(lambda: len(waiting()) == 4)
    questions = {one.call_id: one for one in waiting()}

    async def work(web: FastAPI) -> None:
        async with client_of(web, "127.0.0.1") as client:
            client.headers["accept"] = "text/html"
            asked = questions["Shell-03"]
            form = {"action": "approve", f"question.{asked.id}": asked.hash}
            page = await client.post("/approvals/confirm", data=form)
            assert "Always in this run" in page.text
            done = await client.post("/approvals/decide", data=form)
            assert "command: d" in plain((await client.get(done.headers["location"])).text)
            resume = "/api/workflows/w/resume"
            await client.post(resume, json={"reject": [questions["Shell-02"].id]})
            edit = {questions["Shell-00"].id: {"command": "z", "note": ""}}
            await client.post(resume, json={"edit": edit})

    asking(work)
    timestep.resume_workflow_sync("w", reject=["Shell-01"], by="timeout")
    assert outcome.result(60) == "It is done."
    page = inbox("/approvals?resolved=true")
    place = 0
    for told in (  # What was decided last comes first.
        "command: b",
        "Rejected by itself, as nobody had decided in time ·",
        'command: "a" → "z"',
        "Approved with other arguments over HTTP, without a token, from 127.0.0.1",
        "command: c",
        "Rejected over HTTP, without a token, from 127.0.0.1",
        "command: d",
        "Approved on the page, without a login, from 127.0.0.1",
    ):
        assert told in page[place:], (told, page[place:])
        place = page.index(told, place)


def test_a_call_in_doubt_that_needs_no_approval_has_no_always(app: App, inbox: Any) -> None:
    outcome = begun(app, (shell(["a"]), "go"))
    (asked,) = app.until(waiting)
    app.execute("UPDATE interruptions SET reason = 'in_doubt'")

    async def work(web: FastAPI) -> None:
        async with client_of(web, "127.0.0.1") as client:
            form = {"action": "reject", f"question.{asked.id}": asked.hash}
            page = await client.post("/approvals/confirm", data=form)
            assert "What the model is told of it" in page.text
            assert "Always in this run" not in page.text

    asking(work)
    app.execute("UPDATE interruptions SET reason = 'needs_approval'")
    decide(reject="all")
    assert outcome.result(60) == "It is done."


def test_that_nobody_goes_on_is_told_wherever_one_decides(app: App, inbox: Any) -> None:
    (asked,) = parked(app, "w", "moon")
    of_another_version(app, "w")
    commands = ("timestep resume w --from-checkpoint", "timestep cancel w")
    copied = [f'<code>{one}</code> <button type="button" class="copy"' for one in commands]

    async def work(web: FastAPI) -> None:
        async with client_of(web, "127.0.0.1") as client:
            client.headers["accept"] = "text/html"
            form = {"action": "approve", f"question.{asked.id}": asked.hash}
            waits = await client.get("/approvals")
            confirmed = await client.post("/approvals/confirm", data=form)
            done = await client.post("/approvals/decide", data=form)
            decided = await client.get(done.headers["location"])
            run = await client.get("/runs/w")
            health = await client.get("/health")
            for page in (waits, confirmed, decided, run, health):
                assert all(one in page.text for one in copied), page.text
                assert "--approve" not in page.text
            assert "A decision would be recorded, but nobody may follow it now" in confirmed.text
            assert "It is decided, but nobody may go on with it now" in decided.text

    asking(work)
