"""The page of all runs: what each does, how many there are, filters, and what is done with many."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.support.api_client import asking, client_of, sends
from tests.support.dbos_app import App
from tests.support.hostile_text import ATTACK, obeyed
from tests.support.run_rows import record_call, record_question, record_run
from timestep.operations.overview import counts

HTML = {"accept": "text/html"}


@pytest.fixture(autouse=True)
def database(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that tests share."""
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)


def rows_of(page: str) -> dict[str, str]:
    """The text of each row, by the name of its entrypoint."""
    found = {}
    for row in re.findall(r"<tr data-row.*?</tr>", page, re.DOTALL):
        text = " ".join(re.sub(r"<[^>]*>", " ", re.sub("</?bdi>", "", row)).split())
        found[text.split()[0] if row.count("badge") == 0 else names(row)[0]] = text
    return found


def names(page: str) -> list[str]:
    return re.findall(r'<a href="/runs/[^"]*">([^<]*)</a>', page)


def told(page: str) -> dict[str, str]:
    """The counts by status."""
    found = re.findall(r'class="(\w+)"[^>]*>[^<]*<span class="many">([^<]*)', page)
    return dict(found)


async def get(client: httpx.AsyncClient, path: str, status: int = 200) -> str:
    answer = await client.get(path, headers=HTML)
    assert answer.status_code == status, answer.text
    return answer.text


def test_each_run_tells_in_a_line_what_it_does_or_said(app: App) -> None:
    asks = record_run(app, "w1", "running", workflow_name="asks")
    calls = record_run(app, "w2", "running", workflow_name="calls")
    for number in range(5):
        record_call(app, calls, f"tool_{number}")
    record_call(app, calls, "done", status="executed", completed_at="2026-01-01T00:00Z")
    waits = record_run(app, "w3", "interrupted", workflow_name="waits")
    record_question(app, waits, "launch", description="Launch <b>the moon</b>")
    record_question(app, waits, "later")
    plain = record_run(app, "w4", "interrupted", workflow_name="plain")
    record_question(app, plain, "launch", reason="in_doubt")
    record_run(app, "w5", "failed", workflow_name="fails", error_message="first\nsecond")
    record_run(app, "w6", "completed", workflow_name="says", final_output="It is <done>.")
    record_run(app, "w7", "completed", workflow_name="long", final_output=["x" * 5_000_000])
    record_run(app, "w9", "failed", workflow_name="tells", error_message="y" * 5_000_000)
    record_run(app, "w8", "cancelled", workflow_name="ends", cancel_reason="timeout")
    record_run(app, "w10", "cancelled", workflow_name="stops")
    record_run(app, "w11", "cancelled", workflow_name="halts")
    app.execute(
        "INSERT INTO timestep.audit (who, via, act, subjects, details, refused) VALUES "
        "('ann', 'cli', 'cancel', '{w10}', '{}', NULL), "
        "('bob', 'cli', 'cancel', '{w10}', '{}', 'AlreadyEndedError')"
    )
    record_run(app, "w2", "running", workflow_name="inner", parent_run_id=calls, root_run_id=calls)
    app.execute("UPDATE runs SET current_agent_id = agent_id WHERE id = %s", (asks,))

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            page = await get(client, "/")
            found = rows_of(page)
            assert list(found) == [
                "halts", "stops", "ends", "tells", "long", "says", "fails", "plain", "waits",
                "calls", "asks",
            ]  # fmt: skip
            assert "asks the model" in found["asks"]
            assert "calls tool_0, tool_1, tool_2 and 2 more" in found["calls"]
            assert "1 inside" in found["calls"]
            assert "Launch &lt;b&gt;the moon&lt;/b&gt; (and 1 more)" in found["waits"]
            assert "Did it happen? launch({&#34;target&#34;: &#34;moon&#34;})" in found["plain"]
            assert "ValueError: first" in found["fails"]
            assert "second" not in found["fails"]
            assert "It is &lt;done&gt;." in found["says"]
            assert "its time was over" in found["ends"]
            assert "cancelled by ann at the command line" in found["stops"]
            assert "by" not in found["halts"]
            assert len(page) < 60_000
            nested = await get(client, "/?nested=1&workflow_id=w2")
            assert list(rows_of(nested)) == ["inner", "calls"]
            assert "inside a run" in nested

    asking(work)


def test_a_workflow_that_has_begun_no_run_is_listed_by_what_it_lacks(app: App) -> None:
    async def nothing() -> str:
        return "done"

    app.run(nothing, "lacks/it")
    app.execute(
        "UPDATE dbos.workflow_status SET status = 'DELAYED', delay_until_epoch_ms = 9e12::bigint, "
        "output = NULL, application_version = 'v0', queue_name = 'q', executor_id = NULL, "
        "recovery_attempts = 0 "
        "WHERE workflow_uuid = 'lacks/it'"
    )
    app.execute(
        "INSERT INTO timestep.setbacks (workflow_id, version, reason, delay_until) "
        "VALUES ('lacks/it', 'v0', 'no OPENAI_API_KEY', 9e12::bigint)"
    )

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            page = await get(client, "/")
            assert '<a href="/runs/lacks%2Fit">run_it</a>' in page
            assert "lacks something: no OPENAI_API_KEY" in page
            assert '<span class="badge failed">stuck</span>' in page
            # Until when its start is delayed, or when it is tried again.
            when = r'may begin <time datetime="2255-03-14T16:00:00.000\+00:00"'
            assert re.search(when, page)
            assert re.search(
                f"Waits in the queue, and {when}", await get(client, "/runs/lacks%2Fit")
            )
            told = (await client.get("/api/runs/lacks%2Fit")).json()["workflow"]
            assert told["delayed_until"] == "2255-03-14T16:00:00+00:00"
            change = "UPDATE dbos.workflow_status SET delay_until_epoch_ms = 1"
            app.execute(change)
            assert "may begin" not in await get(client, "/") + await get(client, "/runs/lacks%2Fit")
            app.execute(change.replace("= 1", "= 9e12::bigint"))
            asked = await get(client, "/cancel?run=lacks%2Fit")
            assert "Cancel 1 workflow?" in asked
            assert "lacks something" in await get(client, "/health")
            # It has no run that could be forked.
            form = {"turn.lacks/it": "1", "once": "x", "seen.lacks/it": "running -"}
            refused = await client.post("/fork", data=form, headers=HTML)
            assert refused.status_code == 422
            assert "Those that are marked were not forked" in refused.text

    asking(work)


def test_counts_stop_where_they_would_take_long(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MOST", 3)
    for number in range(5):
        record_run(app, f"c{number}", "completed", agent="Bob" if number else "Ann")
    record_run(app, "f", "failed", error_message="why")
    record_run(app, "r", "running", workflow_name="other")

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            wanted = {"completed": "3+", "failed": "1", "running": "1"}
            zero = {"interrupted": "0", "cancelled": "0"}
            assert told(await get(client, "/?status=failed")) == {**wanted, **zero}
            # Of the four newest of those that are asked for, which are all that is known.
            least = told(await get(client, "/?agent=Bob"))
            assert (least["completed"], least["failed"]) == ("3+", "0+")
            assert told(await get(client, "/?agent=Ann"))["completed"] == "1"
            assert told(await get(client, "/?agent=nobody"))["completed"] == "0"
            assert told(await get(client, "/?entrypoint=other"))["running"] == "1"
            assert told(await get(client, "/?text=WHY"))["failed"] == "1"
            assert told(await get(client, "/?until=1d"))["completed"] == "0"

    asking(work)


def test_filters_stay_in_the_address_and_tell_what_is_wrong(app: App) -> None:
    for number in range(51):
        record_run(app, f"w/{number}", "completed", agent="Ann & Bob")

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            page = await get(client, "/?agent=Ann+%26+Bob&since=7d&cursor=")
            assert len(names(page)) == 50
            assert 'value="Ann &amp; Bob"' in page
            (older,) = re.findall(r'<a rel="next" href="([^"]*)"', page)
            assert older.startswith("/?agent=Ann+%26+Bob&amp;since=7d&amp;cursor=")
            (last,) = names(await get(client, older.replace("&amp;", "&")))
            assert last == "answer"
            assert 'href="/?agent=Ann+%26+Bob&amp;since=7d&amp;status=failed"' in page
            assert names(await get(client, "/?tag=team:billing")) == []
            assert "is neither NAME:VALUE nor NAME" in await get(client, "/?tag=:", 422)
            wrong = await get(client, "/?since=yesterday&agent=%00&status=odd&text=x", 422)
            assert "is neither a time ago" in wrong
            assert "has a NUL character" in wrong
            assert "is not one of running" in wrong
            assert 'value="yesterday"' in wrong
            assert 'value="x"' in wrong
            await get(client, "/?cursor=odd", 422)
            options = await get(client, "/complete/workflow_id?text=W%2F7")
            assert options.split('"')[1::2] == ["w/7"]
            options = await get(client, "/complete/agent?text=bob")
            assert "Ann &amp; Bob" in options
            await get(client, "/complete/secrets", 422)

    asking(work)


def test_hostile_text_is_shown_as_text(app: App) -> None:
    attack = f'</td><script>alert(1)</script>"{ATTACK}'
    id_ = record_run(
        app, attack, "failed", agent=attack, workflow_name=attack, error_message=attack
    )
    deep: Any = []
    for _ in range(800):
        deep = [deep]
    record_run(app, "deep", "completed", final_output=deep)

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            for path in ("/", "/?nested=1", f"/fork?run={id_}", "/agents"):
                page = await get(client, path)
                assert "<script>alert" not in page
                assert obeyed(page) == []
                assert "&lt;script&gt;alert(1)" in page

    asking(work)


def test_who_only_views_can_press_nothing(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "vera:viewer:v,olga:operator:o")
    id_ = record_run(app, "w", "running")

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:

            async def ask(token: str, method: str, path: str, **more: Any) -> httpx.Response:
                headers = {**sends(token), **HTML}
                return await client.request(method, path, headers=headers, **more)

            page = (await ask("v", "GET", "/")).text
            assert page.count("This takes the role operator: vera is a viewer.") == 4
            assert page.count(" disabled ") == 2
            assert " disabled " not in (await ask("o", "GET", "/")).text
            for act in ("cancel", "fork"):
                refused = await ask("v", "POST", f"/{act}", data={"workflow.w": "running"})
                assert refused.status_code == 403
                assert "<h1>Forbidden</h1>" in refused.text
                shown = await ask("v", "GET", f"/{act}?run={id_}")
                assert shown.status_code == 200
                assert (await ask("o", "GET", f"/{act}?run=nothing")).status_code == 404
                many = "&".join(f"run={number}" for number in range(1001))
                assert "1000 at once may be" in (await ask("o", "GET", f"/{act}?{many}")).text
                none = await ask("o", "GET", f"/{act}")
                assert none.status_code == 422
                assert "no run is chosen" in none.text
            for turn in ("0", "-1", "x", "9" * 5000, "²"):
                wrong = await ask("o", "POST", "/fork", data={f"turn.{id_}": turn})
                assert wrong.status_code == 422
                assert "is not a number of a turn, counted from 1" in wrong.text
            left = await client.get("/?agent=Ann", headers=HTML)
            assert left.headers["location"] == "/login?next=%2F%3Fagent%3DAnn"

    asking(work)
