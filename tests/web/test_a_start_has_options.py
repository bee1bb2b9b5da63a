"""The form of an entrypoint takes what a start may be given: checked, kept, and told of each."""

from __future__ import annotations

import html
import re

import pytest
from dbos import DBOS
from fastapi import FastAPI

from tests.support.api_client import asking, client_of
from tests.support.dbos_app import App
from timestep import config
from timestep.operations.entrypoints import lookup
from timestep.web.app import create_app

HTML = {"accept": "text/html"}


@DBOS.workflow()
async def of_queue(queue: str = "none") -> str:
    """Return it: a parameter that is named like an option."""
    return queue


def wrong(page: str) -> dict[str, str]:
    """What is said at each field of options that is wrong."""
    found = re.findall(
        r'name="option\.\w+\.(\w+)"[^>]*aria-invalid.*?<li>(.*?)</li>', page, re.DOTALL
    )
    return {name: html.unescape(text) for name, text in found}


def test_options_are_checked_at_their_fields_and_started_with(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    DBOS.register_queue("slow")
    rows = (
        "SELECT queue_name, priority, status, workflow_timeout_ms, deduplication_id "
        "FROM dbos.workflow_status"
    )

    async def work(web: FastAPI) -> None:
        async with client_of(web) as client:

            async def send(status: int, **options: str) -> str:
                """Start with options; the page, or the address that the answer leads to."""
                fields = {f"option.value.{name}": text for name, text in options.items()}
                form = {"workflow_id": "w", "value.queue": "mine", **fields}
                answer = await client.post("/start/of_queue", data=form, headers=HTML)
                assert answer.status_code == status, answer.text
                return answer.headers.get("location") or answer.text

            new = (await client.get("/start/of_queue", headers=HTML)).text
            assert '<details id="options">' in new
            bad = {
                "queue": "nowhere",
                "priority": "0",
                "delay": "5m",
                "timeout": "-1",
                "deduplication_id": "..",
                "tags": "team=billing\nteam",
            }
            page = await send(422, **bad)
            told = wrong(page)
            assert list(told) == [
                "queue",
                "priority",
                "delay",
                "timeout",
                "deduplication_id",
                "tags",
            ]
            assert "there is no queue 'nowhere'" in told["queue"]
            assert "priority 0 is not between 1 and" in told["priority"]
            assert "This is no number" in told["delay"]
            assert "is not a positive number of seconds" in told["timeout"]
            assert "'team' is not NAME=VALUE" in told["tags"]
            assert '<details id="options" open>' in page
            for text in (*bad.values(), "mine"):
                assert text in page
            assert "given twice" in wrong(await send(422, tags="a=1\na:2"))["tags"]
            assert "begins with 'dbos.'" in wrong(await send(422, tags="dbos.x=1"))["tags"]
            assert app.execute(rows).fetchall() == []

            good = {"queue": "slow", "priority": "7", "delay": "3600", "timeout": "9.5"}
            more = {"deduplication_id": "one\r\n", "tags": " team=billing \r\n\r\nnote:a=b"}
            assert await send(303, **good, **more) == "/runs/w"
            assert app.execute(rows).fetchall() == [("slow", 7, "DELAYED", 9500, "one")]
            # Sent again, it is the same; with other options, it is told so.
            assert await send(303, **good, **more) == "/runs/w"
            other = await send(409, **{**good, "delay": "60"}, **more)
            assert "with another input, or other options" in other
            taken = (await client.get("/start/of_queue", headers=HTML)).text
            (new_id,) = re.findall(r'name="workflow_id" value="([^"]*)"', taken)
            form = {"workflow_id": new_id, "option.value.deduplication_id": "one"}
            form["option.value.queue"] = "slow"
            answer = await client.post("/start/of_queue", data=form, headers=HTML)
            assert answer.status_code == 422
            assert "'one' is taken in the queue" in wrong(answer.text)["deduplication_id"]

    asking(work, create_app(config.read(), {"of_queue": lookup(of_queue)}))
    (entry,) = app.execute(
        "SELECT details FROM timestep.audit WHERE act = 'start' AND refused IS NULL"
    ).fetchall()
    assert entry[0] == {
        "page": True,
        "entrypoint": "of_queue",
        "queue": "slow",
        "priority": 7,
        "delay": 3600,
        "timeout": 9.5,
        "deduplication_id": "one",
        "tags": {"team": "billing", "note": "a=b"},
    }
