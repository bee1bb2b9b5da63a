"""Workflows that wait for a person outside the process: nothing of them is left in it."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from typing import Any

import psycopg
import pytest
from agents import Agent, function_tool
from agents.testing import assistant_message, function_call
from dbos import DBOS
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App, run_it
from tests.support.passing_time import HOUR
from timestep.approvals import wait_for_decision
from timestep.dbos_internals import executions, process
from timestep.errors import UnknownInterruptionError
from timestep.journal.recorder import Recorder
from timestep.runtime import draining, process_state

made: list[int] = []
left: list[str] = []


@function_tool(needs_approval=True)
async def act(n: int) -> str:
    made.append(n)
    return f"did {n}"


def agent_of(calls: int) -> Agent[Any]:
    """An agent that asks for one approval after the other."""

    def answer(items: list[Any]) -> list[Any]:
        done = outputs(items)
        if len(done) < calls:
            n = len(done)
            return [function_call("act", {"n": n}, call_id=f"c{n}")]
        return [assistant_message(" ".join(str(done[key]) for key in sorted(done)))]

    return Agent("Asker", model=AnsweringModel(answer), tools=[act])


def begun(workflow_id: str, calls: int = 1, **options: Any) -> str:
    """A workflow that nobody in this process awaits; its id."""
    made.clear()
    left.clear()
    run_options = {k: options.pop(k) for k in ("approval_timeout",) if k in options}
    agent = agent_of(calls)

    async def body() -> str:
        try:
            return str((await timestep.run_agent(agent, "go", **run_options)).final_output)
        finally:
            left.append(workflow_id)

    BODIES[workflow_id] = body
    return asyncio.run(
        timestep.start_run(run_it, {"key": workflow_id}, workflow_id=workflow_id, **options)
    )


def status(workflow_id: str) -> str:
    found = DBOS.get_workflow_status(workflow_id)
    assert found is not None
    return found.status


def parked(app: App, workflow_id: str) -> None:
    app.until(lambda: status(workflow_id) == "DELAYED")


def undecided(workflow_id: str) -> list[str]:
    found = asyncio.run(timestep.list_interruptions(workflow_id=workflow_id))
    return [asked.id for asked in found]


def result(workflow_id: str) -> Any:
    return DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02)


def test_a_waiting_workflow_leaves_nothing_in_its_process(app: App) -> None:
    begun("first")
    parked(app, "first")
    threads = threading.active_count()
    for number in range(30):
        begun(f"w{number}")
    for number in range(30):
        parked(app, f"w{number}")
    gc.collect()
    tasks = [task for task in gc.get_objects() if isinstance(task, asyncio.Task)]
    assert [task for task in tasks if not task.done() and "run_it" in repr(task)] == []
    assert threading.active_count() <= threads + 40  # DBOS's pool, which grows by itself.
    assert {row["status"] for row in app.rows("runs")} == {"interrupted"}


def test_a_decision_brings_a_parked_workflow_back_to_where_it_was(app: App) -> None:
    begun("w", calls=2)
    parked(app, "w")
    assert made == []
    # Its row says so before its execution has ended.
    app.until(lambda: left == ["w"])
    timestep.resume_workflow_sync("w", approve="all")
    app.until(lambda: undecided("w") and status("w") == "DELAYED")
    timestep.resume_workflow_sync("w", approve="all")
    assert result("w") == "did 0 did 1"
    assert made == [0, 1]
    steps = ["turn 1: Asker", "tool: act (c0)", "turn 2: Asker", "tool: act (c1)", "turn 3: Asker"]
    assert app.steps("w") == steps
    assert app.replay("w") == "did 0 did 1"


def test_being_asked_often_does_not_look_like_failing_often(app: App) -> None:
    """DBOS gives up on a workflow that was executed too often."""
    begun("w", calls=3)
    for _ in range(3):
        app.until(lambda: undecided("w") and status("w") == "DELAYED")
        timestep.resume_workflow_sync("w", approve="all")
    assert result("w") == "did 0 did 1 did 2"
    found = DBOS.get_workflow_status("w")
    assert found is not None
    assert found.recovery_attempts is not None
    assert found.recovery_attempts <= 1


def test_a_part_of_the_decisions_leaves_it_parked(app: App) -> None:
    calls = [function_call("act", {"n": n}, call_id=f"c{n}") for n in range(2)]
    model = AnsweringModel(lambda items: [assistant_message("ok")] if outputs(items) else calls)
    agent = Agent("Asker", model=model, tools=[act])
    made.clear()

    async def body() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    BODIES["w"] = body
    asyncio.run(timestep.start_run(run_it, {"key": "w"}, workflow_id="w"))
    parked(app, "w")
    assert timestep.resume_workflow_sync("w", approve=["c0"]).pending == undecided("w")
    assert status("w") == "DELAYED"
    timestep.resume_workflow_sync("w", reject=["c1"])
    assert result("w") == "ok"
    assert made == [0]


def test_a_decision_is_never_lost_to_the_moment_of_parking(app: App) -> None:
    """Whoever decides as soon as the question is there meets the workflow before or behind it."""
    rounds = 15
    for number in range(rounds):
        key = f"w{number}"
        begun(key)
        app.until(functools.partial(undecided, key))
        timestep.resume_workflow_sync(key, approve="all")
        assert result(key) == "did 0", number


def test_a_parked_workflow_is_back_when_its_time_to_be_decided_is_over(app: App) -> None:
    begun("w", approval_timeout=HOUR)
    parked(app, "w")
    app.execute("UPDATE interruptions SET expires_at = now()")
    app.execute("UPDATE dbos.workflow_status SET delay_until_epoch_ms = 1")
    assert "Nobody decided in time" in result("w")
    assert made == []
    (asked,) = app.rows("interruptions")
    assert (asked["resolution_action"], asked["resolved_by"]) == ("reject", "timeout")
    assert asked["resolved_at"] >= asked["expires_at"]


@pytest.mark.parametrize("cause", ["cancelled", "timeout"])
def test_a_run_that_dbos_cancels_while_it_is_parked_ends(
    app: App, monkeypatch: pytest.MonkeyPatch, cause: str
) -> None:
    monkeypatch.setattr(wait_for_decision, "_SWEEP", 0.0)
    begun("w", timeout=HOUR if cause == "timeout" else None)
    parked(app, "w")
    if cause == "cancelled":
        DBOS.cancel_workflow("w")
    else:
        app.execute("UPDATE dbos.workflow_status SET workflow_deadline_epoch_ms = 1")
    app.until(lambda: [row["status"] for row in app.rows("runs")] == ["cancelled"])
    assert app.rows("runs")[0]["cancel_reason"] == cause
    assert undecided("w") == []
    with pytest.raises(UnknownInterruptionError, match="its run is cancelled"):
        timestep.resume_workflow_sync("w", approve="all")
    assert [row["resolved_at"] for row in app.rows("interruptions")] == [None]


def test_runs_side_by_side_wait_where_they_are(app: App) -> None:
    """To park the workflow would cut off what its other tasks do."""
    agent = agent_of(1)
    made.clear()

    async def body() -> str:
        runs = [timestep.run_agent(agent, str(n)) for n in range(2)]
        return " / ".join(str(run.final_output) for run in await asyncio.gather(*runs))

    BODIES["w"] = body
    asyncio.run(timestep.start_run(run_it, {"key": "w"}, workflow_id="w"))
    first, second = app.until(lambda: len(found := undecided("w")) == 2 and found)
    timestep.resume_workflow_sync("w", approve=[first])
    app.until(lambda: made == [0])
    assert status("w") == "PENDING"
    timestep.resume_workflow_sync("w", approve=[second])
    assert result("w") == "did 0 / did 0"
    assert app.replay("w") == "did 0 / did 0"


def test_a_question_that_the_code_left_alone_keeps_nobody_parked(app: App) -> None:
    agent = agent_of(1)
    made.clear()

    async def body() -> str:
        left_alone = await timestep.run_agent(agent, "first", on_interruption="return")
        answer = await timestep.run_agent(agent, "second")
        return f"{len(left_alone.interruptions)} left, {answer.final_output}"

    BODIES["w"] = body
    asyncio.run(timestep.start_run(run_it, {"key": "w"}, workflow_id="w"))
    parked(app, "w")
    _, second = undecided("w")
    timestep.resume_workflow_sync("w", approve=[second])
    assert result("w") == "1 left, did 0"
    assert made == [0]


def test_a_cancelled_workflow_that_is_resumed_waits_as_before(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait_for_decision, "_SWEEP", 0.0)
    begun("w")
    parked(app, "w")
    DBOS.cancel_workflow("w")
    app.until(lambda: [row["status"] for row in app.rows("runs")] == ["cancelled"])
    DBOS.resume_workflow("w")
    parked(app, "w")
    timestep.resume_workflow_sync("w", approve="all")
    assert result("w") == "did 0"
    assert made == [0]


def test_a_decided_question_has_no_time_to_come_back_at(app: App) -> None:
    """A workflow that comes back for nothing again and again is one that DBOS gives up."""
    calls = [function_call("act", {"n": n}, call_id=f"c{n}") for n in range(2)]
    model = AnsweringModel(lambda items: [assistant_message("ok")] if outputs(items) else calls)
    agent = Agent("Asker", model=model, tools=[act])

    async def body() -> str:
        left.append("w")
        return str((await timestep.run_agent(agent, "go", approval_timeout=60)).final_output)

    left.clear()
    BODIES["w"] = body
    asyncio.run(timestep.start_run(run_it, {"key": "w"}, workflow_id="w"))
    parked(app, "w")
    timestep.resume_workflow_sync("w", approve=["c0"])
    app.execute("UPDATE interruptions SET expires_at = now() WHERE call_id = 'c0'")
    DBOS.resume_workflow("w")
    app.until(lambda: left == ["w", "w"])
    parked(app, "w")
    with psycopg.connect(app.url) as connection:
        (found,) = connection.execute(
            "SELECT delay_until_epoch_ms > extract(epoch FROM now() + interval '20 s') * 1000 "
            "FROM dbos.workflow_status WHERE workflow_uuid = 'w'"
        ).fetchall()
    assert found == (True,)


def test_a_workflow_that_cannot_be_executed_keeps_no_other_one(app: App) -> None:
    """This process owns all that it takes from a queue at once."""
    DBOS.register_queue("slow", polling_interval_sec=3600)
    begun("w", queue="slow")
    executions.take_enqueued("slow")
    parked(app, "w")
    app.execute(
        "INSERT INTO dbos.workflow_status SELECT (jsonb_populate_record(s, jsonb_build_object("
        "'workflow_uuid', 'a', 'name', 'nobody', 'status', 'ENQUEUED', 'created_at', 1))).* "
        "FROM dbos.workflow_status s WHERE workflow_uuid = 'w'"
    )
    timestep.resume_workflow_sync("w", approve="all")
    assert result("w") == "did 0"
    assert status("a") == "PENDING"


@pytest.mark.own_database
def test_a_process_that_ends_takes_nothing(app: App) -> None:
    begun("w")
    parked(app, "w")
    draining.close()
    try:
        process.stop_dequeuing()
        timestep.resume_workflow_sync("w", approve="all")
        assert status("w") == "ENQUEUED"
    finally:
        # With the gate, who would take it where the gate is open again.
        process_state.close()


def test_who_hears_of_decisions_outlives_a_pool_without_connections(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[bool] = []
    sweep = Recorder.end_cancelled

    def failing(self: Recorder) -> None:
        if not failed:
            failed.append(True)
            raise PoolTimeoutError
        sweep(self)

    monkeypatch.setattr(wait_for_decision, "_SWEEP", 0.0)
    monkeypatch.setattr(Recorder, "end_cancelled", failing)
    begun("w")
    parked(app, "w")
    app.until(lambda: failed)
    DBOS.cancel_workflow("w")
    app.until(lambda: [row["status"] for row in app.rows("runs")] == ["cancelled"])


def test_a_decision_is_heard_of_after_a_cut_and_one_meanwhile_is_found(app: App) -> None:
    listens = "SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN timestep_decisions' AND " + (
        "datname = current_database()"
    )
    for workflow_id in ("meanwhile", "later"):
        begun(workflow_id)
        parked(app, workflow_id)
    with psycopg.connect(app.url, autocommit=True) as connection:
        (cut,) = connection.execute(listens.encode()).fetchall()
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", cut)
        timestep.resume_workflow_sync("meanwhile", approve="all")
        assert result("meanwhile") == "did 0"
        app.until(lambda: connection.execute(listens.encode()).fetchall() not in ([], [cut]))
    timestep.resume_workflow_sync("later", approve="all")
    assert result("later") == "did 0"


open_door = threading.Event()
sent: list[str] = []


@DBOS.step()
async def send(mail: str) -> str:
    sent.append(mail)
    await asyncio.to_thread(open_door.wait, 60)
    return mail


def test_a_step_that_goes_on_beside_the_run_is_waited_for(app: App) -> None:
    """Parked, the workflow would not own what the step did, and do it again."""
    open_door.clear()
    sent.clear()
    made.clear()
    agent = agent_of(1)

    async def body() -> str:
        sending = asyncio.create_task(send("mail"))
        answer = await timestep.run_agent(agent, "go")
        return f"{answer.final_output}, sent {await sending}"

    BODIES["w"] = body
    asyncio.run(timestep.start_run(run_it, {"key": "w"}, workflow_id="w"))
    app.until(lambda: sent and process_state.of(wait_for_decision.Decisions).awaits("w"))
    assert status("w") == "PENDING"
    open_door.set()
    parked(app, "w")
    timestep.resume_workflow_sync("w", approve="all")
    assert result("w") == "did 0, sent mail"
    assert (sent, made) == (["mail"], [0])
    assert app.replay("w") == "did 0, sent mail"
