"""The page of one run: all of it is reached part by part, and nothing that it holds breaks it."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import html
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, SetWorkflowID
from fastapi import FastAPI

import timestep
from tests.approvals.test_a_decision_that_nothing_follows_is_refused import asker
from tests.support.api_client import asking, client_of, sends
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App
from tests.support.hostile_text import ATTACK, obeyed
from tests.support.recorded_runs import change, long_run
from tests.support.run_rows import record_run
from timestep.operations.queries.records import Interruption, Run
from timestep.operations.queries.story.standing import standing_of

HTML = {"accept": "text/html"}


@pytest.fixture(autouse=True)
def database(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)


def browse(work: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def asked(web: FastAPI) -> None:
        async with client_of(web, "127.0.0.1") as client:
            client.headers.update(HTML)
            await work(client)

    asking(asked)


def turns(page: str) -> list[int]:
    return [int(found) for found in re.findall(r'<section class="turn" id="turn-(\d+)"', page)]


def steps(page: str) -> list[str]:
    return re.findall(r'<li class="step [^"]*" id="([^"]*)"', page)


def compared_steps(page: str) -> list[str]:
    """The calls on a page that compares two runs, each as often as it is there."""
    return re.findall(r'#(call-[^"]*)">In its run', page)


def link(page: str, text: str) -> str | None:
    found = re.search(rf'<a href="([^"]*)"[^>]*>{text}</a>', page)
    return html.unescape(found[1]) if found else None


def test_a_long_run_is_read_part_by_part(app: App) -> None:
    long_run(app.url, "long", turns=120, failed=(7, 90))

    async def work(client: httpx.AsyncClient) -> None:
        newest = (await client.get("/runs/long")).text
        assert turns(newest) == list(range(61, 121))
        assert "so far 1,200, $0.12" in newest, "the running total is of all turns before, too"
        found, page = turns(newest), newest
        while (before := link(page, "Earlier turns")) is not None:
            page = (await client.get(before)).text
            found = turns(page) + found
        assert found == list(range(1, 121))
        page = (await client.get(str(link(newest, "from the first")))).text
        found = turns(page)
        while (after := link(page, "Later turns")) is not None:
            page = (await client.get(after)).text
            found += turns(page)
        assert found == list(range(1, 121))
        assert turns((await client.get("/runs/long?turn=33")).text)[0] == 33

        failed = (await client.get("/runs/long?only=failed")).text
        assert turns(failed) == [7, 90]
        assert len(steps(failed)) == 2
        assert "OSError: gone" in failed
        said = (await client.get("/runs/long", params={"text": "LOOK 11"})).text
        assert turns(said) == [11, *range(110, 120)]
        both = {"text": "look 7", "only": "failed"}
        assert turns((await client.get("/runs/long", params=both)).text) == [7]
        assert turns((await client.get("/runs/long", params={"text": "100%"})).text) == []
        every = (await client.get("/runs/long", params={"text": "look"})).text
        more = (await client.get(str(link(every, "More")))).text
        assert (turns(every)[-1], turns(more)[0]) == (50, 51)
        for bad in ("only=x", "text=%00", "turn=x", "after=-1", "text=a&cursor=x"):
            assert (await client.get(f"/runs/long?{bad}")).status_code == 422
        assert (await client.get("/runs/nobody")).status_code == 404

    browse(work)


def test_an_answer_of_many_calls_is_told_where_it_begins(app: App) -> None:
    @function_tool
    def look(at: int) -> str:
        return f"saw {at}"

    asked = [function_call("look", {"at": at}, call_id=f"c{at}") for at in range(130)]
    model = ScriptedModel([asked, [assistant_message("done")]])

    async def body() -> str:
        return str(
            (await timestep.run_agent(Agent("A", model=model, tools=[look]), "go")).final_output
        )

    assert app.run(body, "w") == "done"

    async def work(client: httpx.AsyncClient) -> None:
        page = (await client.get("/runs/w?turn=1")).text
        found = steps(page)
        assert found[0].startswith("answer-")
        while (after := link(page, "Later turns")) is not None:
            page = (await client.get(after)).text
            found += steps(page)
        assert [one.partition("-")[0] for one in found] == ["answer", *["call"] * 130, "answer"]
        assert len(set(found)) == 132

    browse(work)


def test_what_a_turn_has_more_of_than_fits_is_on_the_next_page(app: App) -> None:
    long_run(app.url, "wide", turns=130)
    long_run(app.url, "short", turns=3)
    for table in ("run_items", "tool_calls"):
        change(app.url, f"UPDATE {table} SET turn = 1 WHERE turn BETWEEN 2 AND 129")

    async def work(client: httpx.AsyncClient) -> None:
        page = (await client.get("/runs/wide?turn=1")).text
        found = steps(page)
        while (after := link(page, "Later turns")) is not None:
            page = (await client.get(after)).text
            found += steps(page)
        calls = [one for one in found if one.startswith("call-")]
        assert len(calls) == len(set(calls)) == 130
        # Of a turn that is cut the newest steps are shown first, and its beginning is before them.
        newest = (await client.get("/runs/wide")).text
        assert turns(newest) == [130]
        page = (await client.get(str(link(newest, "Earlier turns")))).text
        assert len(steps(page)) == 60
        assert 'id="turn-1-from-' in page
        assert "Turn 1, continued" in page
        # So it is where two are compared, whichever of them has more.
        for one, other in (("wide", "wide"), ("wide", "short"), ("short", "wide")):
            page = (await client.get(f"/runs/{one}/compare?with={other}")).text
            assert "What is here of turn 1 is the same" in page or other != one
            assert "Turn 1 has more steps than fit: it goes on after these." in page
            found = compared_steps(page)
            while (after := link(page, "The rest of turn 1|Turns from")) is not None:
                page = (await client.get(after)).text
                found += compared_steps(page)
            assert len(found) == (260 if one == other else 133)
            assert len(set(found)) == (130 if one == other else 133)
            assert set(calls) <= set(found)
        # Nobody asks for a turn that is not there but by a link of an earlier time.
        assert steps((await client.get("/runs/wide?turn=999")).text) == steps(newest)

    browse(work)


def run_inside(url: str, run: str, which: str) -> None:
    """Write a run inside of a run for each of its calls `c` that a condition lets through.

    They are counted in their calls, and began after all of these had ended.
    """
    change(
        url,
        f"""INSERT INTO runs (id, workflow_id, root_run_id, parent_run_id, agent_id, status, input,
            sdk_version, metadata, started_at, completed_at)
        SELECT md5(c.id::text)::uuid, 'w', c.run_id, c.run_id, c.agent_id, 'completed', '""', '0',
            jsonb_build_object('counted_in_step', c.id), '2026-01-03', '2026-01-03'
        FROM tool_calls c WHERE c.run_id = %s AND {which}""",
        run,
    )


def test_a_run_inside_is_shown_in_its_call(app: App) -> None:
    run = long_run(app.url, "wide", turns=310)
    run_inside(app.url, run, "true")
    # One that is counted in nothing, and one in what is no call.
    loose = [record_run(app, "wide", "completed", agent="Bob", parent_run_id=run) for _ in range(2)]
    step = json.dumps({"counted_in_step": str(uuid.uuid4())})
    change(app.url, "UPDATE runs SET metadata = %s::jsonb WHERE id = %s", step, loose[1])
    for table in ("run_items", "tool_calls", "model_responses"):
        change(app.url, f"UPDATE {table} SET turn = 1, created_at = '2026-01-01'")
    ids = app.execute("SELECT id, md5(id::text)::uuid FROM tool_calls").fetchall()
    expected = {str(call): [str(inside)] for call, inside in ids}

    async def work(client: httpx.AsyncClient) -> None:
        found: dict[str, list[str]] = {}
        after: str | None = "/runs/wide?turn=1"
        while after is not None:
            page = (await client.get(after)).text
            after = link(page, "Later turns")
            for one in re.split(r'(?=<li class="step )', page)[1:]:
                kind, _, id_ = steps(one)[0].partition("-")
                inside = re.findall(r'<details class="run" id="inside-([^"]*)"', one)
                if kind == "call":
                    found[id_] = inside
                elif inside:
                    found.setdefault(kind, []).extend(inside)
        assert sorted(found.pop("inside")) == sorted(map(str, loose))
        assert found == expected
        # So it is where calls are looked for.
        for asked in ("look 300", "look 7"):
            page = (await client.get("/runs/wide", params={"text": asked})).text
            calls = [one.removeprefix("call-") for one in steps(page)]
            assert calls
            inside = re.findall(r'id="inside-([^"]*)"', page)
            assert inside == [one for call in calls for one in expected[call]]

    browse(work)


def test_of_many_runs_inside_one_call_the_newest_are_shown(app: App) -> None:
    run = long_run(app.url, "wide", turns=25)
    run_inside(app.url, run, "true")
    call = "(SELECT id FROM tool_calls WHERE turn = 2)"
    change(
        app.url,
        f"UPDATE runs SET metadata = jsonb_build_object('counted_in_step', {call}), started_at = "
        "started_at - (SELECT (30 - turn) * interval '1 s' FROM tool_calls c "
        "WHERE md5(c.id::text)::uuid = runs.id) WHERE parent_run_id IS NOT NULL",
    )
    newest = app.execute(
        "SELECT id FROM runs WHERE parent_run_id IS NOT NULL ORDER BY started_at OFFSET 5"
    ).fetchall()

    async def work(client: httpx.AsyncClient) -> None:
        page = (await client.get("/runs/wide")).text
        assert re.findall(r'id="inside-([^"]*)"', page) == [str(id_) for (id_,) in newest]
        assert "25 runs inside" in page
        assert link(page, "5 earlier runs inside") == "/?workflow_id=wide&nested=1"

    browse(work)


def test_what_is_unfolded_is_inside_of_the_run(app: App) -> None:
    outer, other = (long_run(app.url, name, turns=10) for name in ("outer", "other"))
    run_inside(app.url, outer, "true")
    (row,) = app.execute(
        "SELECT md5(id::text)::uuid FROM tool_calls WHERE run_id = %s AND turn = 1", (outer,)
    ).fetchall()
    deeper = str(record_run(app, "w", "completed", agent="Bob", parent_run_id=row[0]))
    gone = str(
        record_run(app, "w", "completed", agent="Bob", parent_run_id=outer, deleted_at="2026-01-04")
    )

    async def unfolded(client: httpx.AsyncClient, *ids: str) -> tuple[list[str], str]:
        answer = await client.get("/runs/outer", params={"unfolded": list(ids)})
        assert answer.status_code == 200
        shown = re.findall(r'id="inside-([^"]*)"[^>]* open>', answer.text)
        return shown, answer.text

    async def work(client: httpx.AsyncClient) -> None:
        page = (await client.get("/runs/outer")).text
        inside = re.findall(r'id="inside-([^"]*)"', page)
        assert len(inside) == 10
        wrong = ["nobody", "", "x\x00", str(uuid.uuid4()), outer, other, "outer", gone]
        assert (await unfolded(client, *wrong))[0] == []
        shown, page = await unfolded(client, *wrong, inside[3], deeper, inside[3])
        assert shown == [inside[3]]
        more = link(page, "Show it here")
        assert more is not None
        assert httpx.URL(more).params.get_list("unfolded") == [inside[3], deeper, inside[0]]
        shown, page = await unfolded(client, *inside)
        assert shown == inside[:8]
        assert "Show it here" not in page
        assert "It has done nothing yet" not in page

    browse(work)


def test_hostile_text_and_documents_are_shown_as_text(app: App) -> None:
    run = long_run(app.url, "hostile", turns=4)
    script = "<script>alert(1)</script><img src=x onerror=alert(2)>" + ATTACK.replace("\x00", "")
    deep = "[" * 5_000 + "]" * 5_000
    change(app.url, "UPDATE tool_calls SET arguments = %s::jsonb, tool_name = %s", deep, script)
    change(
        app.url,
        "UPDATE tool_calls SET output = jsonb_build_object('a', jsonb_build_object('b', %s::text),"
        " %s::text, 1) WHERE turn = 2",
        script,
        script,
    )
    change(
        app.url,
        "UPDATE tool_calls SET output = to_jsonb(repeat('<b>', 1700000)) WHERE turn = 3",
    )
    change(
        app.url,
        "UPDATE run_items SET item_type = 'message_output_item', tool_call_id = NULL, item_data ="
        " jsonb_build_object('content', jsonb_build_array(jsonb_build_object('text', %s::text)))"
        " WHERE turn = 4 AND model_response_id IS NOT NULL",
        script,
    )
    change(app.url, "UPDATE model_responses SET model = %s, usage = %s::jsonb", script, deep)
    change(app.url, "UPDATE agents SET name = %s", script)

    async def work(client: httpx.AsyncClient) -> None:
        answer = await client.get("/runs/hostile")
        assert answer.status_code == 200
        assert len(answer.content) < 300_000
        assert "alert(1)" in answer.text
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert "<b><b>" not in answer.text
        assert obeyed(answer.text) == []
        whole: list[str] = re.findall(r'href="([^"]*/documents/[^"]*)"', answer.text)
        sizes = {}
        for path in whole:
            document = await client.get(path)
            assert document.headers["content-type"] == "text/plain; charset=utf-8"
            assert document.headers["x-content-type-options"] == "nosniff"
            sizes[path.rpartition("/documents/")[2].partition("/")[0]] = len(document.content)
        assert sizes["arguments"] == 10_000
        assert sizes["output"] == 5_100_002
        change(app.url, "UPDATE runs SET final_output = to_jsonb(repeat('<b>', 1700000))")
        answer = await client.get("/runs/hostile")
        assert len(answer.content) < 300_000
        assert f"/runs/{run}/documents/final_output/{run}" in answer.text
        whole_output = await client.get(f"/runs/{run}/documents/final_output/{run}")
        assert len(whole_output.content) == 5_100_002
        for path in ("item/x", "nothing/x", f"item/{run}"):
            assert (await client.get(f"/runs/{run}/documents/{path}")).status_code == 404
        found = await client.get("/runs/hostile", params={"text": script})
        assert len(steps(found.text)) == 1

    browse(work)


def test_what_a_provider_called_is_shown(app: App) -> None:
    long_run(app.url, "hosted", turns=2)
    change(
        app.url,
        """UPDATE run_items SET tool_call_id = NULL,
            item_data = '{"type": "web_search_call", "action": {"query": "owls"}}'
        WHERE turn = 1 AND model_response_id IS NOT NULL""",
    )

    async def work(client: httpx.AsyncClient) -> None:
        assert "owls" in (await client.get("/runs/hosted")).text

    browse(work)


def test_who_may_only_view_is_told_so(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "vic:viewer:short,olga:operator:long")
    run = long_run(app.url, "viewed", turns=1)
    change(
        app.url,
        "UPDATE runs SET status = 'running', completed_at = NULL, final_output = NULL"
        " WHERE id = %s",
        run,
    )

    async def work(client: httpx.AsyncClient) -> None:
        client.headers.update(sends("short"))
        page = (await client.get("/runs/viewed")).text
        assert re.search(r"<button[^>]* disabled[^>]*>Cancel…</button>", page)
        for path in ("/cancel", "/runs/viewed/fork"):
            assert (await client.post(path)).status_code == 403
        assert (await client.get("/runs/viewed/traceback")).status_code == 403
        assert (await client.get("/runs/viewed/fork")).status_code == 200
        client.headers.update(sends("long"))
        page = (await client.get("/runs/viewed")).text
        assert re.search(r"<button[^>]*>Cancel…</button>", page)
        assert " disabled" not in page

    browse(work)


def test_a_run_is_cancelled_after_a_page_that_names_it(app: App) -> None:
    async def body() -> str:
        return str((await timestep.run_agent(asker(), "y")).final_output)

    BODIES["w"] = body
    with SetWorkflowID("w"):
        app.started("w")
    app.until(lambda: [row["status"] for row in app.rows("runs")] == ["interrupted"])

    async def work(client: httpx.AsyncClient) -> None:
        page = (await client.get("/runs/w")).text
        form = re.search(r'action="(/cancel)"><input [^>]*name="([^"]*)" value="([^"]*)"', page)
        assert form is not None
        asked = (await client.get(form[1], params={form[2]: form[3]})).text
        assert "Cancel 1 workflow?" in asked
        assert [row["status"] for row in app.rows("runs")] == ["interrupted"]
        seen = re.search(r'name="(workflow\.w)" value="([^"]*)"', asked)
        assert seen is not None
        assert (await client.post("/cancel", data={seen[1]: seen[2]})).status_code == 303
        assert [row["status"] for row in app.rows("runs")] == ["cancelled"]
        # What it waited for, it waits for no more.
        first, later = [(await client.get("/runs/w")).text for _ in range(2)]
        spans = re.compile(r'<span class="took">([^<]*)</span>')
        assert spans.findall(first) == spans.findall(later) != []

    browse(work)


def test_what_the_model_was_shown_in_any_turn_is_edited(app: App) -> None:
    @function_tool
    def look(at: str) -> str:
        return f"saw \u05d9\u05e8\u05d7 at {at}"

    def answer(items: list[Any]) -> list[Any]:
        found = outputs(items)
        asked = [function_call("look", {"at": "noon"}, call_id="c")]
        return [assistant_message(str(found))] if found else asked

    async def body() -> str:
        model = AnsweringModel(answer)
        agent = Agent("A", instructions="Look well.", model=model, tools=[look])
        return str((await timestep.run_agent(agent, "go")).final_output)

    app.run(body, "w")

    async def work(client: httpx.AsyncClient) -> None:
        page = (await client.get("/runs/w/fork?turn=2")).text
        assert "Look well.</textarea>" in page
        fields = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page))
        text = re.search(r'<textarea id="text"[^>]*>\n([^<]*)</textarea>', page)
        assert text is not None
        shown = html.unescape(text[1])
        assert [one.get("type", one.get("role")) for one in json.loads(shown)] == [
            "user",
            "function_call",
            "function_call_output",
        ]
        assert "saw \u05d9\u05e8\u05d7 at noon" in shown
        same = {**fields, "turn": "2", "way": "keep", "text": shown.replace("\n", "\r\n")}
        answered = await client.post("/runs/w/fork", data=same)
        assert answered.status_code == 303
        edited = {**same, "workflow_id": "edited", "text": shown.replace("noon", "night")}
        asked = await client.post("/runs/w/fork", data=edited)
        assert (asked.status_code, "was changed" in asked.text) == (422, True)
        # A slip makes no text of all that was said, and another turn is asked about.
        for slip in (edited["text"][:-1] + ",]", "[{}, 1]", shown.replace("}", "", 1)):
            sent = {**edited, "way": "replace", "text": slip}
            asked = await client.post("/runs/w/fork", data=sent)
            assert (asked.status_code, "begins as a list" in asked.text) == (422, True)
        asked = await client.post("/runs/w/fork", data={**edited, "way": "append", "text": shown})
        assert (asked.status_code, "in addition instead" in asked.text) == (422, True)
        asked = await client.post("/runs/w/fork", data={**edited, "way": "replace", "turn": "1"})
        assert (asked.status_code, "was of turn 2" in asked.text) == (422, True)
        assert 'name="for_turn" value="1"' in asked.text
        answered = await client.post("/runs/w/fork", data={**edited, "way": "replace"})
        assert answered.headers["location"] == "/runs/edited"

        changed = {**edited, "workflow_id": "told", "text": shown, "instructions": "Look twice."}
        assert (await client.post("/runs/w/fork", data=changed)).status_code == 303

    browse(work)
    for name in ("edited", "told"):
        DBOS.retrieve_workflow(name).get_result(polling_interval_sec=0.02)

    async def read(client: httpx.AsyncClient) -> None:
        page = (await client.get("/runs/edited")).text
        assert "What the model was shown in turn 2 instead" in page
        assert "at night" in page.partition('id="changed"')[2]
        page = (await client.get("/runs/told")).text
        assert "Look twice." in page.partition('id="changed"')[2]
        compared = (await client.get("/runs/w/compare?with=told")).text
        assert "Look twice." in compared

    browse(read)
    found: str = DBOS.retrieve_workflow("edited").get_result(polling_interval_sec=0.02)
    assert found == "{'c': 'saw \u05d9\u05e8\u05d7 at night'}"


def test_a_fork_is_asked_for_again_with_what_is_wrong(app: App) -> None:
    long_run(app.url, "forked", turns=2)

    async def work(client: httpx.AsyncClient) -> None:
        given = {"turn": "two", "way": "append", "text": "", "instructions": "Be <b>", "model": ""}
        answer = await client.post("/runs/forked/fork", data=given)
        assert answer.status_code == 422
        assert "Give the number of a turn" in answer.text
        assert "Say what the model is shown" in answer.text
        assert 'value="two"' in answer.text
        assert "Be &lt;b&gt;</textarea>" in answer.text
        answer = await client.post(
            "/runs/forked/fork", data={**given, "turn": "1", "for_turn": "1", "text": "x"}
        )
        assert answer.status_code == 422
        assert "cannot be forked" in answer.text
        # What was typed is not dropped where another choice leaves it out: it is asked about.
        typed = {
            **given,
            "turn": "1",
            "for_turn": "1",
            "way": "keep",
            "text": "something else",
        }
        answer = await client.post("/runs/forked/fork", data=typed)
        assert answer.status_code == 422
        assert "The text below was changed" in answer.text
        assert re.search(r'value="replace" checked', answer.text)
        assert "something else</textarea>" in answer.text
        both = await client.get("/runs/forked/compare", params={"with": "nobody"})
        assert both.status_code == 422
        assert "there is no run and no workflow" in both.text

    browse(work)


def test_runs_are_compared_turn_by_turn(app: App) -> None:
    one, other = (long_run(app.url, name, turns=70) for name in ("one", "other"))
    change(
        app.url,
        """UPDATE tool_calls SET output = '"saw a cat"' WHERE run_id = %s AND turn = 7""",
        other,
    )
    change(
        app.url,
        "UPDATE runs SET forked_from_run_id = %s, forked_at_turn = 3 WHERE id = %s",
        one,
        other,
    )

    async def work(client: httpx.AsyncClient) -> None:
        page = (await client.get("/runs/one?turn=1")).text
        assert "Forks: 2 runs of one family" in page
        page = (await client.get(str(link(page, "compare")))).text
        assert re.findall(r"<summary>(Turns? .*)</summary>", page) == [
            "Turns 1 to 6 are the same",
            "Turns 8 to 60 are the same",
        ]
        assert page.count('class="pair differs"') == 1
        assert "saw a cat" in page
        page = (await client.get(str(link(page, "Turns from 61 on")))).text
        assert re.findall(r"<summary>(Turns? .*)</summary>", page) == [
            "Turns 61 to 70 are the same"
        ]

    browse(work)


def test_why_a_run_is_as_it_is(app: App) -> None:
    standings = {
        "failed": (
            "status = 'failed', error_type = 'OSError', error_message = '<b>no</b> disk', "
            "error_turn = 2",
            "Failed in turn 2 with OSError: <b>no</b> disk",
        ),
        "mute": (
            "status = 'failed', error_type = 'OSError', error_message = ''",
            "Failed with OSError",
        ),
        "late": (
            "status = 'cancelled', cancel_reason = 'timeout'",
            "Cancelled, as its time was over",
        ),
        "asks": ("status = 'running', completed_at = NULL", "Asks the model of Ann in turn 3"),
        "decided": (
            "status = 'interrupted', completed_at = NULL",
            "Everything is decided, and it goes on",
        ),
        "guarded": (
            "status = 'failed', error_type = 'InputGuardrailTripwireTriggered', "
            "error_message = 'Guardrail InputGuardrail triggered tripwire'",
            "Stopped by the guardrail no_secrets of its input",
        ),
        "done": ("final_output = '{\"answer\": [1, 2]}'", "Completed"),
    }
    for name, (columns, _) in standings.items():
        run = long_run(app.url, name, turns=2)
        change(app.url, f"UPDATE runs SET {columns} WHERE id = %s", run)
        if name == "guarded":
            change(
                app.url,
                "INSERT INTO guardrail_results (id, run_id, agent_id, turn, position, "
                "guardrail_name, type, tripwire_triggered) SELECT gen_random_uuid(), id, agent_id, "
                "1, 1, 'no_secrets', 'input', true FROM runs WHERE id = %s",
                run,
            )

    async def work(client: httpx.AsyncClient) -> None:
        for name, (_, expected) in standings.items():
            page = (await client.get(f"/runs/{name}")).text
            found = re.search(r'<p class="sentence">([^<]*)<', page)
            assert found is not None
            assert html.unescape(found[1]) == expected

    browse(work)


def test_nobody_is_told_that_a_run_goes_on_that_does_not() -> None:
    run = dataclasses.replace(Run("r", "w", "work", "interrupted"), obstacle="start a host")
    found = asyncio.run(standing_of(run))
    assert found.sentence == "Everything is decided, and nobody goes on with it"
    assert found.help == "start a host"


def test_a_call_that_may_have_been_made_is_told_so() -> None:
    one = Interruption(
        id="q",
        run_id="r",
        workflow_id="w",
        type="tool_approval",
        reason="in_doubt",
        tool_name="charge",
        call_id="c",
        arguments={},
        agent_name="A",
        created_at=datetime.datetime.now(datetime.UTC),
        expires_at=None,
        resolved_at=None,
        resolution_action=None,
        resolution_message=None,
        resolution_always=False,
        resolved_by=None,
    )
    run = dataclasses.replace(Run("r", "w", "work", "interrupted"), interruptions=[one])
    told = "Waits for a person to say what became of "
    assert asyncio.run(standing_of(run)).sentence == f"{told}a call that may have been made already"
    other = dataclasses.replace(one, reason="needs_approval")
    both = dataclasses.replace(run, interruptions=[one, other])
    assert asyncio.run(standing_of(both)).sentence == "Waits for a person to make 2 decisions"
