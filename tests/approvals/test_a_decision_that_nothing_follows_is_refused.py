"""A workflow that plain Runner.run gave its interruptions ends: nobody decides into the void."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psycopg
import pytest
from agents import Agent, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from click.testing import CliRunner
from dbos import error as dbos_errors

import timestep
from tests.support.dbos_app import App
from tests.support.decisions import decide, started, until_held_up, waiting
from timestep.cli import main
from timestep.errors import NobodyWaitsError, UnknownInterruptionError
from timestep.journal.fail_fast_read import reading
from timestep.store import parked_workflows


@function_tool(needs_approval=True)
async def launch(target: str) -> str:
    return f"launched {target}"


def asker() -> Agent[None]:
    steps = [
        [function_call("launch", {"target": "moon"}, call_id="c")],
        [assistant_message("done")],
    ]
    return Agent("Asker", tools=[launch], model=ScriptedModel(steps))


def test_what_an_ended_workflow_asked_is_not_decided(app: App) -> None:
    async def returns() -> str:
        result = await timestep.DurableRunner.run(asker(), "go")
        return f"{len(result.interruptions)} asked"

    assert app.run(returns, "w") == "1 asked"
    (asked,) = asyncio.run(timestep.list_interruptions())
    assert not asked.is_waited_for
    told = "its workflow has ended; whoever goes on with its state decides"
    for command in (["approvals"], ["show", "w"]):
        text = CliRunner().invoke(main, command).stdout
        assert told in " ".join(text.split())
        assert "timestep resume" not in text
    count = parked_workflows.count
    assert [reading(partial(count, schema=schema)) for schema in ("dbos", None)] == [0, 1]
    before = app.rows("interruptions"), app.rows("tool_calls")
    for decision in ({"approve": "all"}, {"reject": [asked.id]}, {"supply": {asked.id: 1}}):
        with pytest.raises(NobodyWaitsError, match=r"'w' has completed .*state\.approve\(\)"):
            asyncio.run(timestep.resume_workflow("w", **decision))
    refused = CliRunner().invoke(main, ["resume", "w", "--approve", "all"])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert (app.rows("interruptions"), app.rows("tool_calls")) == before


def test_what_is_cancelled_while_a_decision_waits_is_not_decided(app: App) -> None:
    """Whoever decides is told how the workflow stands when the decision is written."""

    outcome = started(app, asker())
    app.until(waiting)
    with psycopg.connect(app.url) as holder, ThreadPoolExecutor(1) as another:
        holder.execute("SELECT FROM interruptions FOR UPDATE")
        told = another.submit(decide, approve="all")
        until_held_up(app, 1)
        holder.execute("UPDATE dbos.workflow_status SET status = 'CANCELLED', owner_xid = NULL")
        holder.commit()
        # The run's own row may tell of it by then, too.
        with pytest.raises((NobodyWaitsError, UnknownInterruptionError), match="cancelled"):
            told.result(60)
    assert [row["resolved_at"] for row in app.rows("interruptions")] == [None]
    with pytest.raises(dbos_errors.DBOSAwaitedWorkflowCancelledError):
        outcome.result(60)


def test_a_decision_made_again_says_that_nothing_follows(app: App) -> None:
    async def waits() -> str:
        decide = asyncio.create_task(_decided())
        result = await timestep.run_agent(asker(), "go")
        await decide
        return str(result.final_output)

    async def _decided() -> None:
        while True:
            if found := await timestep.list_interruptions(workflow_id="w"):
                break
            await asyncio.sleep(0.01)
        (asked,) = found
        assert asked.is_waited_for
        result = await timestep.resume_workflow("w", approve="all")
        assert (result.resolved, result.goes_on, result.reason) == ([asked.id], True, None)

    assert app.run(waits, "w") == "done"
    again = asyncio.run(timestep.resume_workflow("w", approve="all"))
    assert (len(again.resolved), again.goes_on, again.reason) == (
        1,
        False,
        "the workflow has completed",
    )
