"""A call that may have been made already is told as such wherever one decides outside the pages."""

from __future__ import annotations

import asyncio
import datetime
import json
import uuid
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner

import timestep
from tests.support.dbos_app import App
from tests.support.interrupting_agents import deleter
from timestep.approvals.webhook import Webhook
from timestep.cli import asking, main
from timestep.cli.commands import start
from timestep.cli.timeline import Timeline
from timestep.operations.queries.records import RunEvent

WAYS = (
    "timestep resume w --approve q1   makes it once more",
    "timestep resume w --supply q1 RESULT   gives its result",
    "timestep resume w --reject q1   tells the model",
)
MAY_BE = "may have been made already"


def told_by_watch(reason: str) -> str:
    question = {"id": "q1", "reason": reason, "tool_name": "pay", "arguments": {"cents": 5}}
    data = {"workflow_id": "w", "agent_name": "Bank", "parent_run_id": None}
    event = RunEvent(
        cursor="1.0",
        kind="run",
        type="run.waiting",
        run_id="r",
        turn=1,
        position=0,
        attempt=None,
        response_id=None,
        data={**data, "questions": [question]},
    )
    return "\n".join(line.plain for line in Timeline().entries(event))


def test_watch_tells_it() -> None:
    told = told_by_watch("in_doubt")
    assert all(one in told for one in (MAY_BE, *WAYS)), told
    usual = told_by_watch("needs_approval")
    assert "timestep resume w --approve q1" in usual
    assert MAY_BE not in usual
    assert "--supply" not in usual


def test_start_tells_it_while_it_waits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    question = SimpleNamespace(id="q1", reason="in_doubt", tool_name="pay", resolved_at=None)
    statuses = ["SUCCESS", "PENDING", "PENDING"]

    async def get_run(workflow_id: str) -> Any:
        workflow = SimpleNamespace(status=statuses.pop(), output=None)
        return SimpleNamespace(
            workflow=workflow, interruptions=[question], is_left_alone=False, is_stuck=False
        )

    monkeypatch.setattr(start, "_POLL", 0.0)
    asyncio.run(start._outcome(cast("Any", SimpleNamespace(get_run=get_run)), "w"))
    said = capsys.readouterr().err
    # It is told once, however often it is looked at.
    assert [said.count(one) for one in (MAY_BE, *WAYS)] == [1] * 4, said


def row(reason: str) -> dict[str, Any]:
    names = ("call_id", "description", "hash", "expires_at")
    return {
        **dict.fromkeys(names),
        "id": uuid.UUID(int=1),
        "run_id": uuid.UUID(int=2),
        "type": "tool_approval",
        "reason": reason,
        "tool_name": "pay",
        "agent_name": "Bank",
        "arguments": {"cents": 5},
        "created_at": datetime.datetime.now(datetime.UTC),
    }


@pytest.mark.parametrize("is_chat", [True, False])
def test_messages_tell_it(is_chat: bool) -> None:
    webhook = Webhook("https://chat.example", None, is_chat, None)
    usual = json.loads(webhook.message("w", "r", [row("needs_approval")]))
    doubt = json.loads(webhook.message("w", "r", [row("needs_approval"), row("in_doubt")]))
    if is_chat:
        assert usual["text"].endswith("Decide with: timestep resume w --approve all")
        assert "may have been called already: to approve it calls it once more" in doubt["text"]
        assert str(uuid.UUID(int=1)) in doubt["text"]
        assert doubt["text"].endswith(
            "Decide with: timestep resume w, which asks about each; or with --approve ID, "
            "--supply ID RESULT, --reject ID"
        )
    else:
        assert usual["data"]["resume"]["command"] == "timestep resume w --approve all"
        assert doubt["data"]["resume"]["command"] == "timestep resume w"
        warned = [one.get("warning") for one in doubt["data"]["interruptions"]]
        assert warned == [
            None,
            "this call may have been made already; to approve it makes it once more",
        ]


def test_lists_stories_and_the_prompt_tell_it(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)

    async def body() -> Any:
        result = await timestep.run_agent(deleter(), "tidy up", on_interruption="return")
        return len(result.interruptions)

    app.run(body, "w")
    app.execute("UPDATE dbos.workflow_status SET status = 'PENDING', completed_at = NULL")
    app.execute("UPDATE interruptions SET reason = 'in_doubt'")
    first, second = asyncio.run(timestep.list_interruptions())
    ways = [one.replace("q1", first.id) for one in WAYS]
    for command in (["approvals"], ["show", "w"]):
        told = " ".join(CliRunner().invoke(main, command).stdout.split())
        for one in (MAY_BE, *ways):
            assert " ".join(one.split()) in told, (command, one, told)

    monkeypatch.setattr(asking, "is_somebody_there", lambda: True)
    answers = 'u\n\nu\ndone\n{"done": true}\nr\n\n'
    asked = CliRunner().invoke(main, ["resume", "w"], input=answers)
    assert asked.exit_code == 0, asked.output
    assert asked.stdout.count(MAY_BE) == 2
    assert "[a]pprove, [r]eject, s[u]pply, [s]kip or [q]uit?" in asked.stdout
    assert "'done' is not JSON" in asked.stderr
    assert "given a result, 1 still to decide" in asked.stdout
    rows = {str(one["id"]): one for one in app.rows("interruptions")}
    found = [rows[one.id]["resolution_action"] for one in (first, second)]
    assert found == ["supply", "reject"]
    assert rows[first.id]["resolution_output"] == {"done": True}
