"""A workflow that is put aside stays so until somebody tries it once more, or cancels it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import assistant_message, function_call
from click.testing import CliRunner
from dbos import DBOS

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App, run_it
from timestep.cli import main
from timestep.errors import UnknownRunError
from timestep.operations.queries import executions
from timestep.store.fleet import process_ends


@function_tool(needs_approval=True)
async def act() -> str:
    return "acted"


def answer(items: list[Any]) -> list[Any]:
    done = outputs(items)
    return [assistant_message(*done.values()) if done else function_call("act", {}, call_id="c")]


asker = Agent("Asker", model=AnsweringModel(answer), tools=[act])


def status(workflow_id: str) -> str:
    found = DBOS.get_workflow_status(workflow_id)
    assert found is not None
    return found.status


def aside(app: App, workflow_id: str) -> None:
    """Begin a workflow that asks, and put it aside while it waits."""

    async def body() -> str:
        return str((await timestep.run_agent(asker, "go")).final_output)

    BODIES[workflow_id] = body
    asyncio.run(timestep.start_run(run_it, {"key": workflow_id}, workflow_id=workflow_id))
    app.until(lambda: status(workflow_id) == "DELAYED")
    app.execute(
        "UPDATE dbos.workflow_status SET delay_until_epoch_ms = %s WHERE workflow_uuid = %s "
        "RETURNING 1",
        (process_ends.NEVER, workflow_id),
    )
    app.execute(
        "INSERT INTO timestep.process_ends (workflow_id, ends, recorded, delay_until) "
        "VALUES (%s, 2, '', %s) RETURNING 1",
        (workflow_id, process_ends.NEVER),
    )


def said(*command: str) -> str:
    return " ".join(CliRunner().invoke(main, command).output.split())


def test_a_decision_is_kept_until_it_is_tried_once_more(app: App) -> None:
    aside(app, "w")
    assert "w: put aside: the host ended 2 times in a row" in said("approvals")
    found = asyncio.run(timestep.get_run("w"))
    assert found.workflow is not None
    assert (found.workflow.status, found.workflow.delayed_until) == ("DELAYED", None)

    decided = timestep.resume_workflow_sync("w", approve="all")

    assert (len(decided.resolved), decided.goes_on, status("w")) == (1, False, "DELAYED")
    assert (decided.reason or "").startswith("put aside: the host ended 2 times in a row")
    assert said("resume", "w", "--again") == "w goes on"
    assert DBOS.retrieve_workflow("w").get_result(polling_interval_sec=0.02) == "acted"
    counted = app.execute("SELECT ends, delay_until FROM timestep.process_ends").fetchall()
    assert counted == [(1, None)]
    # There is nothing to be tried any more, and there never was anything of that name.
    again = timestep.resume_workflow_sync("w", again=True)
    assert (again.goes_on, again.reason) == (False, "the workflow has completed")
    with pytest.raises(UnknownRunError, match="there is no workflow 'x'"):
        timestep.resume_workflow_sync("x", again=True)


def test_what_dbos_gave_up_is_told_and_may_be_tried_again(app: App) -> None:
    aside(app, "w")
    app.execute(
        "UPDATE dbos.workflow_status SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED', "
        "queue_name = NULL, recovery_attempts = 102, completed_at = 1 RETURNING 1"
    )
    told = "w: given up: it was executed 102 times, and DBOS recovers it no more: try it once more"
    for command in (["show", "w"], ["approvals"]):
        assert told in said(*command)
        assert "its workflow has ended" not in said(*command)
    (asked,) = asyncio.run(timestep.get_run("w")).interruptions
    assert (asked.obstacle or "").startswith("given up: ")
    told = said("resume", "w", "--approve", "all")
    assert "with `timestep resume w --again`, and decide then" in told
    # Nothing was counted of it.
    app.execute("DELETE FROM timestep.process_ends RETURNING 1")

    tried = timestep.resume_workflow_sync("w", again=True, approve="all")

    assert (len(tried.resolved), tried.goes_on, tried.reason) == (1, True, None)
    counted = app.execute("SELECT ends, recorded <> '', delay_until FROM timestep.process_ends")
    assert counted.fetchall() == [(1, True, None)]
    assert DBOS.retrieve_workflow("w").get_result(polling_interval_sec=0.02) == "acted"


def test_it_may_be_decided_and_tried_at_once_or_ended(app: App) -> None:
    for workflow_id in ("both", "ended", "taken"):
        aside(app, workflow_id)

    both = timestep.resume_workflow_sync("both", approve="all", again=True)
    assert (len(both.resolved), both.goes_on, both.reason) == (1, True, None)
    assert DBOS.retrieve_workflow("both").get_result(polling_interval_sec=0.02) == "acted"

    taken = timestep.resume_workflow_sync("taken", approve="all", from_checkpoint=True)
    assert (taken.goes_on, taken.reason) == (True, None)
    assert DBOS.retrieve_workflow("taken").get_result(polling_interval_sec=0.02) == "acted"

    assert "put aside" in said("show", "ended")
    # Who began it, and waits for it, is told so.
    app.execute(
        "UPDATE dbos.workflow_status SET parent_workflow_id = 'both', status = 'DELAYED' "
        "WHERE workflow_uuid = 'ended' RETURNING 1"
    )
    standing = executions.of_workflows(["both", "ended"])["both"]
    assert standing.is_stuck
    assert (standing.obstacle or "").startswith("put aside: the host of 'ended' in it ended 2 ")
    said("cancel", "ended")
    assert status("ended") == "CANCELLED"
    assert "put aside" not in said("show", "ended")
