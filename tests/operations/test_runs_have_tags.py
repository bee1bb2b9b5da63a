"""Runs are told apart by the tags that their workflows were started with."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from agents import Agent
from agents.testing import ScriptedModel, assistant_message
from click.testing import CliRunner
from dbos import DBOS
from fastapi import FastAPI

import timestep
from tests.support.api_client import asking, client_of
from tests.support.dbos_app import App
from tests.support.problems import problem
from timestep import config
from timestep.cli import main
from timestep.errors import AlreadyStartedError, InvalidQueryError, InvalidTagsError
from timestep.operations.access.audit import list_audit
from timestep.operations.entrypoints import Entrypoint, lookup
from timestep.store.reads import runs, workflow_tags
from timestep.web.app import create_app


@DBOS.workflow()
async def say(words: str = "hello") -> str:
    agent = Agent("Talker", model=ScriptedModel([[assistant_message(f"so: {words}")]]))
    return str((await timestep.run_agent(agent, words)).final_output)


@DBOS.workflow()
async def tagging(tags: dict[str, str]) -> str:
    return await timestep.start_run(say, {}, workflow_id="inner", tags=tags)


def start(entrypoint: Any = say, given: dict[str, Any] | None = None, **options: Any) -> str:
    return asyncio.run(timestep.start_run(entrypoint, given or {}, **options))


def output(workflow_id: str) -> Any:
    return DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02)


def listed(**filters: Any) -> list[str | None]:
    """The workflows of all runs that are found, page by page."""
    found: list[str | None] = []
    cursor: str | None = None
    while True:
        page = asyncio.run(timestep.list_runs(**filters, cursor=cursor))
        found += [run.workflow_id for run in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


def tags_of(workflow_id: str) -> dict[str, Any]:
    return asyncio.run(timestep.get_run(workflow_id)).tags


ODD = {"ünder 'x\"\\": "{},\n100%", "team": "billing ✓"}


def test_runs_are_shown_and_found_by_their_tags(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    DBOS.register_queue("own", polling_interval_sec=0.02)
    given: dict[str, dict[str, str] | None] = {
        "w0": {"team": "billing", "tier": "1"},
        "w1": {"team": "sales"},
        "w2": None,
        "w3": {"team": "billing"},
        "w4": ODD,
    }
    for number, (workflow_id, tags) in enumerate(given.items()):
        # In this process and in a queue.
        queue = "own" if number % 2 else None
        output(start(workflow_id=workflow_id, tags=tags, queue=queue))
        assert tags_of(workflow_id) == (tags or {})
    output(start(workflow_id="bare"))
    DBOS.update_workflow_attributes("bare", {"team": 7, "level": {"deep": None}})
    assert output(start(tagging, {"tags": {"team": "inner"}}, workflow_id="outer")) == "inner"
    output("inner")
    assert (tags_of("inner"), tags_of("outer")) == ({"team": "inner"}, {})
    assert tags_of("bare") == {"team": 7, "level": {"deep": None}}

    for looked_through in (runs.LOOKED_THROUGH, 2, 1):
        monkeypatch.setattr(runs, "LOOKED_THROUGH", looked_through)
        for limit in (1, 50):
            for tag, expected in (
                ("team:billing", ["w3", "w0"]),
                ("team=billing", ["w3", "w0"]),
                ("team", ["inner", "bare", "w4", "w3", "w1", "w0"]),
                (["team:billing", "tier"], ["w0"]),
                (["team:billing", "team:sales"], []),
                ((), ["inner", "bare", "w4", "w3", "w2", "w1", "w0"]),
                ("nobody", []),
                ("team:7", []),  # What is no text is found by its name.
                ("tier:1", ["w0"]),
                ("level", ["bare"]),
                (f"team:{ODD['team']}", ["w4"]),
                (["ünder 'x\"\\:{},\n100%"], ["w4"]),
            ):
                assert listed(tag=tag, limit=limit) == expected, (tag, limit)
            assert listed(tag="team", text="HELLO", status="completed", workflow_id="w1") == ["w1"]
            assert listed(tag="team:sales", agent="nobody", limit=limit) == []

    def at_terminal(*arguments: str) -> str:
        answer = CliRunner().invoke(main, arguments)
        assert answer.exit_code == 0, answer.output
        return answer.stdout

    page = json.loads(at_terminal("runs", "--json", "--tag", "team:billing", "--tag", "tier"))
    assert [(run["workflow_id"], run["tags"]) for run in page["items"]] == [("w0", given["w0"])]
    assert "  tags       team=billing, tier=1\n" in at_terminal("show", "w0")
    assert '  tags       team=7, level={"deep": null}\n' in at_terminal("show", "bare")
    assert "  tags  " not in at_terminal("show", "w2")

    async def over_http(web: FastAPI) -> None:
        async with client_of(web) as client:
            answer = await client.get("/api/runs?tag=team:billing&tag=tier")
            assert [run["tags"] for run in answer.json()["items"]] == [given["w0"]]
            answer = await client.get("/api/runs/w1")
            tag = answer.headers["etag"]
            assert answer.json()["tags"] == {"team": "sales"}
            unchanged = await client.get("/api/runs/w1", headers={"If-None-Match": tag})
            assert unchanged.status_code == 304
            await DBOS.update_workflow_attributes_async("w1", {"team": "x"}, merge=True)
            changed = await client.get("/api/runs/w1", headers={"If-None-Match": tag})
            assert changed.json()["tags"] == {"team": "x"}
            for bad in ("", ":", "team:", ":billing", "te\x00am"):
                assert f"tag {bad!r}" in problem(
                    await client.get("/api/runs", params={"tag": bad}), 422
                )

    asking(over_http)
    with pytest.raises(InvalidQueryError, match="tag 'team:' is neither NAME:VALUE nor NAME"):
        listed(tag="team:")

    # A replay is not told what became of the tags of what it started.
    DBOS.update_workflow_attributes("inner", None)
    assert app.replay("outer") == "inner"
    # A fork has the tags of the workflow that it is one of.
    assert tags_of(asyncio.run(timestep.fork_run("w0", turn=1))) == given["w0"]


def test_the_same_start_again_is_the_same_run_if_it_has_the_tags(app: App) -> None:
    tags = {"team": "billing"}
    for _ in range(2):
        assert start(workflow_id="w", tags=tags) == "w"
    assert start(workflow_id="w") == "w"
    with pytest.raises(AlreadyStartedError, match=r"without these tags \('team', 'tier'\)"):
        start(workflow_id="w", tags={"team": "sales", "tier": "1"})
    output("w")
    assert tags_of("w") == tags
    (entry,) = asyncio.run(list_audit(act="start", subject="w")).items
    assert entry.details == {"entrypoint": "say", "tags": tags}


BAD: tuple[tuple[Any, str], ...] = (
    ({"a:b": "x"}, "its name has a ':' or '='"),
    ({"a=b": "x"}, "its name has a ':' or '='"),
    ({"": "x"}, "its name is empty"),
    ({"a\x00": "x"}, "its name has a NUL character"),
    ({"dbos.otelContext": "x"}, "its name begins with 'dbos.'"),
    ({"n" * 101: "x"}, "its name has 101 characters, and may have 100"),
    ({"team": ""}, "its value '' is empty"),
    ({"team": "x\x00"}, "has a NUL character"),
    ({"team": "\ud800"}, "half of a surrogate pair"),
    ({"team": "v" * 1001}, "its value has 1001 characters, and may have 1000"),
)


def test_tags_that_cannot_be_are_told_one_by_one(app: App) -> None:
    for tags, reason in BAD:
        with pytest.raises(InvalidTagsError) as caught:
            start(workflow_id="w", tags=tags)
        (field,) = caught.value.fields
        assert reason in field["detail"]
    for tags in (
        {1: "x"},
        {"team": 1},
        {"team": None},
        ["team"],
        "team",
        {str(n): "x" for n in range(51)},
    ):
        with pytest.raises(InvalidTagsError):
            start(workflow_id="w", tags=tags)

    async def over_http(web: FastAPI) -> None:
        async with client_of(web) as client:
            path = "/api/workflows/say/runs"
            answer = await client.post(path, json={"tags": {"a:b": "x", "team": "", "ok": "y"}})
            assert "the tag 'a:b': its name" in problem(answer, 422)
            assert answer.json()["type"] == "urn:timestep:invalid-tags"
            assert [one["pointer"] for one in answer.json()["errors"]] == ["/a:b", "/team"]
            answer = await client.post(path, json={"tags": {"team": 1, "tier": None}})
            assert problem(answer, 422)
            pointers = [one["pointer"] for one in answer.json()["errors"]]
            assert pointers == ["/body/tags/team", "/body/tags/tier"]
            answer = await client.post(path, json={"tags": {"team": "x"}, "workflow_id": "http"})
            assert answer.status_code == 202

    entrypoints: dict[str, Entrypoint] = {"say": lookup(say)}
    asking(over_http, create_app(config.read(), entrypoints))
    output("http")
    assert tags_of("http") == {"team": "x"}
    assert listed(workflow_id="w") == []


def test_tags_in_sqlite_are_found_as_in_postgresql(tmp_path: Path) -> None:
    """With PGlite, DBOS's tables are in a file of SQLite's."""
    file = tmp_path / "dbos.sqlite"
    with sqlite3.connect(file) as made:
        made.execute("CREATE TABLE workflow_status (workflow_uuid TEXT, attributes TEXT)")
        made.executemany(
            "INSERT INTO workflow_status VALUES (?, ?)",
            [
                ("a", json.dumps({"team": "billing"})),
                ("b", json.dumps(ODD)),
                ("c", None),
                ("d", "null"),
                ("e", json.dumps({"team": 7})),
                ("f", json.dumps({"tier": "billing", "7": "7"})),
            ],
        )
    made.close()
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        for tags, expected in (
            ([("team", None)], ["a", "b", "e"]),
            ([("team", "billing")], ["a"]),
            ([("team", "7")], []),
            (list(ODD.items()), ["b"]),
            ([("team", "billing"), ("tier", None)], []),
            ([("7", "7"), ("tier", None)], ["f"]),
        ):
            found = workflow_tags.tagged(connection, "main", tags, limit=None)
            assert sorted(found) == expected, tags
        shown = workflow_tags.of_workflows(connection, "main", ["a", "c", "f"])
        assert {id_: json.loads(text) for id_, text in shown.items()} == {
            "a": {"team": "billing"},
            "f": {"tier": "billing", "7": "7"},
        }
    engine.dispose()
