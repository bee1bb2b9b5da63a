"""A decision for a workflow whose version no live host runs says so, and may take it over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, function_tool
from agents.testing import assistant_message, function_call
from click.testing import CliRunner
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App, run_it
from timestep.cli import main
from timestep.errors import NobodyWaitsError, TakeoverError, UnknownInterruptionError

made: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


@function_tool(needs_approval=True)
async def launch(target: str) -> str:
    made.append(target)
    return f"launched {target}"


def asks(*targets: str) -> Any:
    def answer(items: list[Any]) -> list[Any]:
        if seen := outputs(items):
            return [assistant_message(" and ".join(seen.values()))]
        return [function_call("launch", {"target": name}, call_id=name) for name in targets]

    async def body() -> str:
        agent = Agent("Asker", tools=[launch], model=AnsweringModel(answer))
        return str((await timestep.run_agent(agent, "go")).final_output)

    return body


def parked(app: App, workflow_id: str, *targets: str) -> list[timestep.Interruption]:
    """The questions of a workflow that waits outside any process."""
    BODIES[workflow_id] = asks(*targets)
    with SetWorkflowID(workflow_id):
        DBOS.enqueue_workflow("_dbos_internal_queue", run_it, workflow_id)
    app.until(lambda: status(workflow_id) == "DELAYED")
    return asyncio.run(timestep.list_interruptions(workflow_id=workflow_id))


def status(workflow_id: str) -> str:
    found = DBOS.get_workflow_status(workflow_id)
    assert found is not None
    return found.status


def of_another_version(app: App, workflow_id: str, **columns: str) -> None:
    values = {"application_version": "old", **columns}
    for name, value in values.items():
        app.execute(f"UPDATE dbos.workflow_status SET {name} = %s WHERE workflow_uuid = %s",
                    (value, workflow_id))  # fmt: skip


def resume(workflow_id: str, **decision: Any) -> timestep.ResumeResult:
    return timestep.resume_workflow_sync(workflow_id, **decision)


def said(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_it_is_told_wherever_one_decides(app: App) -> None:
    (asked,) = parked(app, "w", "moon")
    assert asked.obstacle is None
    assert "no live host" not in said("approvals") + said("show", "w") + said("runs")
    of_another_version(app, "w")
    told = (
        "no live host runs its version old; if no application of yours does: start a host with the "
        "code of that version, or go on in another with "
        "`timestep resume w --from-checkpoint`, or end it with `timestep cancel w`"
    )
    (asked,) = asyncio.run(timestep.list_interruptions())
    assert (asked.is_waited_for, asked.obstacle) == (True, told)
    run = asyncio.run(timestep.get_run("w"))
    assert (run.is_stuck, run.obstacle, run.executor) == (True, told, None)
    for command in (["approvals"], ["show", "w"], ["runs"]):
        assert f"w: {told}" in said(*command)
    assert "(no live host runs its version old; if no" in said("approvals")
    assert "interrupted (no live host)" in said("runs")
    assert "Decide:" not in said("approvals")

    done = resume("w", approve="all")
    assert (done.resolved, done.goes_on) == ([asked.id], False)
    assert done.reason == told
    assert said("resume", "w", "--approve", "all") == f"decided 1 w: {done.reason}"
    # A host of that version: one that says so, as hosts do.
    app.execute(
        "INSERT INTO timestep.hosts (application, executor_id, claim, version, node, process_id, "
        "seen_at, expires_at) VALUES ('timestep-tests', 'h', gen_random_uuid(), 'old', 'n', 1, "
        "now(), now() + interval '1 hour')"
    )
    again = resume("w", approve="all")
    assert (again.goes_on, again.reason) == (True, None)
    assert asyncio.run(timestep.get_run("w")).is_stuck is False


def test_an_application_is_taken_to_run_the_newest_version(app: App) -> None:
    parked(app, "w", "moon")
    of_another_version(app, "w", application_version="newest", application_name="other")
    app.execute(
        "INSERT INTO dbos.application_versions (version_id, version_name, application_name, "
        "version_timestamp, created_at) VALUES ('v', 'newest', 'other', 1, 1)"
    )
    done = resume("w", approve="all")
    assert (done.goes_on, done.reason) == (True, None)


def test_a_decision_and_a_takeover_are_one(app: App) -> None:
    first, second = parked(app, "w", "moon", "mars")
    of_another_version(app, "w")
    before = app.everything(), status("w")
    with pytest.raises(UnknownInterruptionError):
        resume("w", approve=["moon", "venus"], from_checkpoint=True)
    assert (app.everything(), status("w")) == before
    assert version(app) == "old"
    done = resume("w", approve=["moon"], reject=["mars"], message="no", from_checkpoint=True)
    assert (set(done.resolved), done.pending, done.goes_on) == ({first.id, second.id}, [], True)
    assert outcome("w") == "launched moon and no"
    assert (made, version(app)) == (["moon"], "1")
    assert len(app.rows("model_responses")) == 2


def test_what_is_taken_over_undecided_asks_in_the_new_version(app: App) -> None:
    (asked,) = parked(app, "w", "moon")
    of_another_version(app, "w")
    assert said("resume", "w", "--from-checkpoint") == "w goes on from its newest checkpoint"
    app.until(lambda: version(app) == "1" and status("w") == "DELAYED")
    (still,) = asyncio.run(timestep.list_interruptions())
    assert (still.id, still.hash, still.obstacle) == (asked.id, asked.hash, None)
    assert (resume("w", approve="all").goes_on, outcome("w")) == (True, "launched moon")


def test_nothing_is_decided_where_a_live_host_executes_it(app: App) -> None:
    parked(app, "w", "moon")
    before = app.everything()
    # As one that waits in a host's memory.
    of_another_version(app, "w", status="PENDING", executor_id="local", application_version="1")
    with pytest.raises(TakeoverError, match="live host"):
        resume("w", approve="all", from_checkpoint=True)
    assert app.everything() == before


def test_the_command_decides_and_takes_over(app: App) -> None:
    parked(app, "w", "moon")
    of_another_version(app, "w")
    told = said("resume", "w", "--approve", "all", "--from-checkpoint")
    assert told == "decided 1 w goes on from its newest checkpoint"
    assert outcome("w") == "launched moon"


@pytest.mark.parametrize("ends_as", ["CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"])
def test_what_a_workflow_asked_that_is_no_more_executed_is_decided_with_a_takeover_only(
    app: App, ends_as: str
) -> None:
    parked(app, "w", "moon")
    # As DBOS does, which tells Timestep nothing.
    of_another_version(app, "w", status=ends_as, application_version="1")
    (asked,) = app.rows("interruptions")
    assert asked["resolved_at"] is None
    # Where a host has swept already, its run is cancelled, too.
    refusals = (NobodyWaitsError, UnknownInterruptionError)
    with pytest.raises(refusals, match=r"cancelled|recovered too many times"):
        resume("w", approve="all")
    assert app.rows("interruptions") == [asked]
    assert [one.is_waited_for for one in asyncio.run(timestep.list_interruptions())] in (
        [False],
        [],
    )
    resume("w", approve="all", from_checkpoint=True)
    assert outcome("w") == "launched moon"


def outcome(workflow_id: str) -> str:
    return str(DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02))


def version(app: App) -> str:
    (found,) = app.execute("SELECT application_version FROM dbos.workflow_status").fetchall()
    return str(found[0])
