"""What is done with many runs: with all that a filter matches, and not with what has changed."""

from __future__ import annotations

import html
import re
import uuid
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI

from tests.support.api_client import asking, client_of, sends
from tests.support.dbos_app import App
from tests.support.run_rows import record_run
from timestep.operations.overview import many

HTML = {"accept": "text/html"}


@pytest.fixture(autouse=True)
def database(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that tests share."""
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)


def open_run(app: App, workflow_id: str, **columns: Any) -> uuid.UUID:
    """A run whose workflow another host executes."""
    app.execute(
        "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, executor_id, "
        "application_version) VALUES (%s, 'PENDING', 'answer', 'another', 'another') "
        "ON CONFLICT DO NOTHING",
        (workflow_id,),
    )
    return record_run(app, workflow_id, columns.pop("status", "running"), **columns)


def fields(page: str) -> dict[str, str]:
    """The hidden fields of a page, and those for numbers."""
    found = re.findall(r'<input type="(?:hidden|number)"[^>]* name="([^"]*)" value="([^"]*)"', page)
    found += re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page)
    return {html.unescape(name): html.unescape(value) for name, value in found}


def as_sent(fields: dict[str, str]) -> dict[str, str]:
    """Fields as a browser sends them: HTML, 4.10.22.4, makes CRLF of each end of a line."""
    end = re.compile("\r\n|\r|\n")
    return {end.sub("\r\n", name): end.sub("\r\n", value) for name, value in fields.items()}


def heading(page: str) -> str:
    (found,) = re.findall(r"<h1>(.*?)</h1>", page, re.DOTALL)
    return str(found)


def statuses(app: App) -> dict[str, str]:
    query = "SELECT workflow_uuid, status FROM dbos.workflow_status WHERE executor_id = 'another'"
    return dict(app.execute(query).fetchall())


async def get(client: httpx.AsyncClient, path: str, status: int = 200) -> str:
    answer = await client.get(path, headers=HTML)
    assert answer.status_code == status, answer.text
    return answer.text


def test_all_that_match_a_filter_are_named_and_cancelled(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MOST", 70)
    for number in range(60):
        open_run(app, f"w/{number}", agent="Ann & Bob")
    record_run(app, "over", "completed", agent="Ann & Bob")
    open_run(app, "other")

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            # Without a filter, and where the page has all, nothing but the page can be ticked.
            assert 'name="all"' not in await get(client, "/?agent=Ann")
            assert 'name="all"' not in await get(client, "/")
            listed = await get(client, "/?agent=Ann+%26+Bob")
            (value, label) = re.findall(r'name="all" value="([^"]*)"[^>]*> ([^<]*)<', listed)[0]
            assert (value, label) == ("agent=Ann+%26+Bob", "all 61 that match this filter")
            preview = await get(client, f"/cancel?all={quote(value)}&run=other")
            assert heading(preview) == "Cancel 60 workflows?"
            assert '61 runs match <a href="/?agent=Ann+%26+Bob">the filter</a> now.' in preview
            assert "60 go on, and will be cancelled; 1 has ended, and stays as it is." in preview
            assert "<summary>and 11 more</summary>" in preview
            form = fields(preview)
            assert len([name for name in form if name.startswith("workflow.")]) == 60
            done = await client.post("/cancel", data=form, headers=HTML)
            assert done.status_code == 303
            assert len(done.headers["location"]) < 5_000
            after = await get(client, done.headers["location"])
            assert heading(after) == "Each of these has ended"
            assert "60 workflows were cancelled, or had ended: these are the first 50" in after
            # Sent again, it has been done.
            again = await client.post("/cancel", data=form, headers=HTML)
            assert again.headers["location"] == done.headers["location"]

    asking(work)
    assert {one for one, status in statuses(app).items() if status != "CANCELLED"} == {"other"}


def test_more_than_may_be_chosen_at_once_are_the_newest(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "MOST", 52)
    for number in range(55):
        open_run(app, f"w{number}")

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            listed = await get(client, "/?agent=Ann")
            assert "the newest 52 of the 55 that match this filter" in listed
            for act in ("cancel", "fork"):
                preview = await get(client, f"/{act}?all=agent%3DAnn")
                assert "52 runs match" in preview
                assert "these are the newest</strong>, and 52 at once are the most" in preview
                assert "w54" in preview
                assert ">w2<" not in preview
            assert "no filter is given" in await get(client, "/cancel?all=", 422)
            assert "neither a time ago" in await get(client, "/fork?all=since%3Dsoon", 422)
            assert "matches the filter any more" in await get(client, "/cancel?all=agent%3DX", 422)

    asking(work)


def test_what_changed_meanwhile_is_said_and_left_alone(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "olga:operator:o")
    for name in ("goes", "too", "asks", "ends", "anew"):
        open_run(app, name)

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            client.headers.update(sends("o"))
            names = ("goes", "too", "asks", "ends", "anew")
            preview = await get(client, "/cancel?" + "&".join(f"run={one}" for one in names))
            app.execute("UPDATE runs SET status = 'interrupted' WHERE workflow_id = 'asks'")
            app.execute(
                "UPDATE runs SET status = 'completed', completed_at = now() "
                "WHERE workflow_id = 'ends'"
            )
            app.execute(
                "UPDATE dbos.workflow_status SET status = 'SUCCESS' WHERE workflow_uuid = 'ends'"
            )
            open_run(app, "anew")
            answer = await client.post("/cancel", data=fields(preview), headers=HTML)
            assert answer.status_code == 409
            page = answer.text
            assert "2 workflows were cancelled. Those below were left alone" in page
            assert heading(page) == "Cancel 2 workflows?"
            assert page.count("it was shown as &#39;running&#39;, and is") == 2
            assert page.count("it has begun another run since") == 1
            assert set(fields(page)) == {"form_token", "workflow.asks", "workflow.anew"}
            # Pressed again, it is done with what the page says now.
            answer = await client.post("/cancel", data=fields(page), headers=HTML)
            assert answer.status_code == 303
            unsaid = await client.post("/cancel", data={"workflow.goes": ""}, headers=HTML)
            assert unsaid.status_code == 422
            assert "the form does not say what was shown" in unsaid.text
            assert (await client.post("/cancel", data={"workflow.x": "y"})).status_code == 404

    asking(work)
    assert statuses(app) == dict.fromkeys(("goes", "too", "asks", "anew"), "CANCELLED") | {
        "ends": "SUCCESS"
    }
    # Each of them by who has pressed the button.
    entries = app.execute("SELECT who, via, subjects FROM timestep.audit WHERE act = 'cancel'")
    found = sorted(entries.fetchall(), key=lambda row: row[2])
    assert found == [("olga", "http", [one]) for one in ("anew", "asks", "goes", "too")]


def test_a_run_that_changed_is_not_forked(app: App) -> None:
    ids = [str(open_run(app, name)) for name in ("goes", "asks")]

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            preview = await get(client, f"/fork?run={ids[0]}&run={ids[1]}")
            assert heading(preview) == "Fork 2 runs?"
            app.execute("UPDATE runs SET status = 'interrupted' WHERE workflow_id = 'asks'")
            answer = await client.post("/fork", data=fields(preview), headers=HTML)
            assert answer.status_code == 409
            assert "it was shown as &#39;running&#39;, and is" in answer.text
            # The other one's row was only written: it is where no run can be forked.
            assert "cannot be forked" in answer.text
            form = {f"turn.{ids[0]}": "1", "once": "x"}
            unsaid = await client.post("/fork", data=form, headers=HTML)
            assert "the form does not say what was shown" in unsaid.text

    asking(work)


def test_a_workflow_whose_id_is_a_runs_is_not_taken_for_that_run(app: App) -> None:
    victim = open_run(app, "victim")
    impostor = open_run(app, str(victim))
    record_run(app, "victim", "completed", parent_run_id=impostor)
    # One that has not begun a run, and has the id of the other's.
    app.execute(
        "INSERT INTO dbos.workflow_status (workflow_uuid, status, name, executor_id, "
        "application_version, queue_name) VALUES (%s, 'ENQUEUED', 'answer', 'another', 'v', 'q')",
        (str(impostor),),
    )

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            page = await get(client, f"/runs/{impostor}")
            assert f">timestep show {impostor}<" in page
            form = re.search(r'action="/cancel"><input [^>]*name="([^"]*)" value="([^"]*)"', page)
            assert form is not None
            preview = await get(client, f"/cancel?{form[1]}={form[2]}")
            assert f"<code>{victim}</code>" in preview
            assert ">victim<" not in preview
            done = await client.post("/cancel", data=fields(preview), headers=HTML)
            assert done.status_code == 303
            assert statuses(app) == {
                "victim": "PENDING",
                str(victim): "CANCELLED",
                str(impostor): "ENQUEUED",
            }
            listed = await get(client, "/")
            ticked = re.findall(
                r'type="checkbox" name="([^"]*)" value="([^"]*)" data-entry', listed
            )
            assert sorted(ticked) == sorted(
                [("run", str(victim)), ("run", str(impostor)), ("workflow", str(impostor))]
            )
            # By a filter, and ticked: each its own, once.
            for asked in ("all=entrypoint%3Danswer", f"workflow={impostor}&run={victim}"):
                preview = await get(client, f"/cancel?{asked}")
                names = {name for name in fields(preview) if name.startswith("workflow.")}
                assert names == {"workflow.victim", f"workflow.{impostor}"}
            # What has no run is no other one's fork.
            preview = await get(client, f"/fork?workflow={impostor}")
            refused = await client.post("/fork", data=fields(preview), headers=HTML)
            assert refused.status_code == 409
            assert "it has begun another run since" in refused.text

    asking(work)


def test_any_id_comes_back_from_a_form(app: App) -> None:
    ids = ["line\nline", "\rcr\r\n", "50%", "a%0Ab", "\x7f\t<&\"'>", "\u2028é/?#"]
    runs = [open_run(app, id_) for id_ in ids]

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:
            preview = await get(client, "/cancel?all=agent%3DAnn")
            form = as_sent(fields(preview))
            page = await get(client, f"/runs/{runs[0]}")
            asked = re.search(r'action="/cancel"><input [^>]*name="(.*)" value="([^"]*)"', page)
            assert asked is not None
            alone = as_sent({asked[1]: html.unescape(asked[2])})
            answer = await client.get("/cancel", params=alone, headers=HTML)
            assert heading(answer.text) == "Cancel 1 workflow?"
            done = await client.post("/cancel", data=form, headers=HTML)
            assert done.status_code == 303
            after = await get(client, done.headers["location"])
            assert heading(after) == "Each of these has ended"

    asking(work)
    assert statuses(app) == dict.fromkeys(ids, "CANCELLED")
