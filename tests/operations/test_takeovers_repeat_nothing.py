"""Other code goes on with what an earlier version left, and repeats nothing recorded."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    Model,
    ModelProvider,
    RunConfig,
    RunContextWrapper,
    function_tool,
    input_guardrail,
    output_guardrail,
)
from agents.testing import assistant_message, function_call
from dbos import DBOS, SetWorkflowID
from dbos._error import DBOSUnexpectedStepError
from openai import OpenAIError

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App, run_it
from timestep.errors import TakeoverError, UnknownRunError
from timestep.journal.recorder import recorder
from timestep.operations.take_over import take_over as begin_takeover
from timestep.runtime import process_state, unended_calls
from timestep.store import setbacks
from timestep.store.fleet import hosts

Body = Callable[[], Awaitable[Any]]

made: list[str] = []
stepped: list[str] = []
checked: list[str] = []
held: list[str] = []
"""Names that a tool does not come back from, in the version that is left."""


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    for one in (made, stepped, checked, held):
        one.clear()


@function_tool
async def look(context: RunContextWrapper[Any], name: str) -> str:
    made.append(name)
    if isinstance(context.context, dict):
        context.context["notes"].append(name)
    while name in held:  # noqa: ASYNC110  # another thread lets it go
        await asyncio.sleep(0.01)
    return f"saw {name}"


@function_tool
async def added(name: str) -> str:
    raise AssertionError("nobody calls it")


@function_tool(needs_approval=True)
async def delete(name: str) -> str:
    made.append(name)
    return f"deleted {name}"


@DBOS.step()
async def first_step() -> str:
    stepped.append("first")
    return "first"


@DBOS.step()
async def second_step() -> str:
    stepped.append("second")
    return "second"


@input_guardrail
async def polite(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    checked.append("input")
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


@output_guardrail
async def brief(ctx: Any, agent: Any, said: Any) -> GuardrailFunctionOutput:
    checked.append("output")
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


def looker(*turns: str, tool: str = "look", **options: Any) -> tuple[Agent[Any], AnsweringModel]:
    """Looks at what each turn names, all of it at once, and tells what it saw."""

    def answer(items: list[Any]) -> list[Any]:
        seen = outputs(items)
        before = 0
        for turn in turns:
            if before >= len(seen):
                return [function_call(tool, {"name": name}, call_id=f"c-{name}") for name in turn]
            before += len(turn)
        return [assistant_message(" ".join(seen.values()))]

    model = AnsweringModel(answer)
    options = {"name": "Looker", "tools": [look, delete], **options}
    return Agent(model=model, **options), model


def body_of(agent: Agent[Any], **options: Any) -> Body:
    async def body() -> str:
        return str((await timestep.run_agent(agent, "go", **options)).final_output)

    return body


def leave(app: App, workflow_id: str, body: Body, at: str) -> None:
    """Let a version execute a workflow until a tool has begun to look at a name, and die there."""
    held.append(at)
    BODIES[workflow_id] = body
    with SetWorkflowID(workflow_id):
        app.started(workflow_id)
    app.until(lambda: at in made)
    app.until(lambda: [r["status"] for r in app.rows("tool_calls")].count("pending") == 1)
    strand(app, workflow_id)
    # What takes it over is another process, which knows nothing of the call that goes on here.
    process_state.of(unended_calls.UnendedCalls)._calls.clear()
    held.clear()


def strand(app: App, workflow_id: str) -> None:
    """The executor of another version of the application had it, and is gone."""
    app.execute(
        "UPDATE dbos.workflow_status SET owner_xid = 'gone', executor_id = 'gone', "
        "application_version = '0' WHERE workflow_uuid = %s",
        (workflow_id,),
    )


def take_over(workflow_id: str, **options: Any) -> timestep.ResumeResult:
    return timestep.resume_workflow_sync(workflow_id, from_checkpoint=True, **options)


def outcome(workflow_id: str) -> str:
    return str(DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02))


@pytest.mark.parametrize("stream", [False, True])
def test_other_code_goes_on_with_the_same_run(app: App, stream: bool) -> None:
    agent, model = looker("a", "b", "c", "d")
    leave(app, "w", body_of(agent, stream=stream), at="c")
    (before,) = app.rows("runs")
    assert (before["status"], model.asked) == ("running", 3)

    new, new_model = looker(
        "a",
        "b",
        "c",
        "d",
        tools=[added, look],
        input_guardrails=[polite],
        output_guardrails=[brief],
        instructions="differ",
    )
    BODIES["w"] = body_of(new, stream=stream)
    assert take_over("w").pending == []

    assert outcome("w") == "saw a saw b saw c saw d"
    assert made == ["a", "b", "c", "c", "d"]
    # Only what was not recorded: turn 3 was answered, and its call was not made.
    assert new_model.asked == 2
    assert checked == ["output"]
    (run,) = app.rows("runs")
    assert (run["id"], run["status"], run["current_turn"]) == (before["id"], "completed", 5)
    assert [row["turn"] for row in app.rows("model_responses", "turn")] == [1, 2, 3, 4, 5]
    (used,) = app.rows("usage_metrics")
    assert used["requests"] == 5
    items = [row["item_type"] for row in app.rows("run_items", "position")]
    assert items == ["tool_call_item", "tool_call_output_item"] * 4 + ["message_output_item"]
    assert app.replay("w") == "saw a saw b saw c saw d"


def test_a_recorded_call_of_a_batch_is_not_repeated(app: App) -> None:
    leave(app, "w", body_of(looker("a", "bcd")[0]), at="c")
    assert sorted(made) == ["a", "b", "c", "d"]
    new, model = looker("a", "bcd", tools=[added, look])
    BODIES["w"] = body_of(new)
    take_over("w")
    assert outcome("w") == "saw a saw b saw c saw d"
    assert sorted(made) == ["a", "b", "c", "c", "d"]
    assert model.asked == 1
    assert app.replay("w") == "saw a saw b saw c saw d"


def test_a_run_that_was_left_in_its_first_turn_begins_with_its_own_input(app: App) -> None:
    leave(app, "w", body_of(looker("ab")[0]), at="b")
    new, model = looker("ab", input_guardrails=[polite])

    async def body() -> str:
        return str((await timestep.run_agent(new, "go, differently")).final_output)

    BODIES["w"] = body
    take_over("w")
    assert outcome("w") == "saw a saw b"
    assert (sorted(made), model.asked, checked) == (["a", "b", "b"], 1, ["input"])
    (run,) = app.rows("runs")
    assert run["input"] == "go"
    assert app.replay("w") == "saw a saw b"


def test_the_context_and_the_session_are_as_they_were(app: App) -> None:
    def version(agent: Agent[Any]) -> Body:
        async def body() -> str:
            context: dict[str, Any] = {"notes": []}
            session = timestep.DatabaseSession("s")
            result = await timestep.run_agent(agent, "go", session=session, context=context)
            return f"{result.final_output}: {','.join(context['notes'])}"

        return body

    leave(app, "w", version(looker("a", "b", "c")[0]), at="b")
    BODIES["w"] = version(looker("a", "b", "c", tools=[added, look])[0])
    take_over("w")
    assert outcome("w") == "saw a saw b saw c: a,b,c"
    told = [row["item_type"] or row["role"] for row in app.rows("session_items", "position")]
    assert told == ["user", *["function_call", "function_call_output"] * 3, "message"]
    assert app.replay("w") == "saw a saw b saw c: a,b,c"


def with_steps(agent: Agent[Any], *steps: Callable[[], Awaitable[str]]) -> Body:
    async def body() -> str:
        said = [await step() for step in steps]
        return f"{'+'.join(said)} {(await timestep.run_agent(agent, 'go')).final_output}"

    return body


def test_a_body_with_a_further_step_before_the_run_goes_on_with_that_run(app: App) -> None:
    leave(app, "w", with_steps(looker("a", "b")[0], first_step), at="b")
    BODIES["w"] = with_steps(looker("a", "b")[0], first_step, second_step)
    take_over("w")
    assert outcome("w") == "first+second saw a saw b"
    assert (stepped, made) == (["first", "second"], ["a", "b", "b"])
    assert len(app.rows("runs")) == 1
    assert app.replay("w") == "first+second saw a saw b"
    # A fork has the steps that are before the run in this code.
    assert outcome(asyncio.run(timestep.fork_run("w", turn=3))) == "first+second saw a saw b"
    assert stepped == ["first", "second"]


def test_a_body_whose_own_steps_are_others_is_told_of_and_repeats_them_on_demand(app: App) -> None:
    leave(app, "w", with_steps(looker("a", "b")[0], first_step), at="b")
    BODIES["w"] = with_steps(looker("a", "b")[0], second_step, first_step)
    take_over("w")
    with pytest.raises(Exception, match="first_step"):
        outcome("w")
    assert stepped == ["first"]
    take_over("w", repeat_steps=True)
    assert outcome("w") == "second+first saw a saw b"
    assert (stepped, made) == (["first", "second", "first"], ["a", "b", "b"])


def test_a_body_that_left_no_unfinished_run_goes_on_with_other_steps(app: App) -> None:
    ended = looker("x")

    async def old() -> str:
        await first_step()
        said = (await timestep.run_agent(ended[0], "go")).final_output
        return f"{said} {await second_step()}"

    async def new() -> str:
        said = await second_step()
        return f"{said} {(await timestep.run_agent(ended[0], 'go')).final_output}"

    app.run(old, "w")
    app.execute("UPDATE dbos.workflow_status SET status = 'PENDING'")
    app.execute("DELETE FROM dbos.operation_outputs WHERE function_name ~ 'second'")
    BODIES["w"] = new
    strand(app, "w")
    take_over("w")
    with pytest.raises(DBOSUnexpectedStepError):
        outcome("w")
    take_over("w", repeat_steps=True)
    assert outcome("w") == "second saw x"
    assert (made, ended[1].asked, len(app.rows("runs"))) == (["x"], 2, 1)
    assert stepped == ["first", "second", "second"]


def test_runs_that_had_ended_are_not_run_again(app: App) -> None:
    early, early_model = looker("x")

    def version(agent: Agent[Any], *steps: Callable[[], Awaitable[str]]) -> Body:
        async def body() -> str:
            said = (await timestep.run_agent(early, "early")).final_output
            for step in steps:
                await step()
            return f"{said}, {(await timestep.run_agent(agent, 'go')).final_output}"

        return body

    leave(app, "w", version(looker("a", "b")[0]), at="b")
    BODIES["w"] = version(looker("a", "b", tools=[added, look])[0], second_step)
    take_over("w")
    assert outcome("w") == "saw x, saw a saw b"
    assert (early_model.asked, made) == (2, ["x", "a", "b", "b"])
    assert len(app.rows("runs")) == 2
    assert app.replay("w") == "saw x, saw a saw b"


def everything(app: App) -> dict[str, list[Any]]:
    """All that is recorded of workflows and runs, but for definitions, and why one was put back."""
    found: dict[str, list[Any]] = {**app.everything()}
    for name in ("agents", "agent_tools", "tools"):
        del found[name]
    for table in ("workflow_status", "operation_outputs"):
        query = f"SELECT to_jsonb(t)::text FROM dbos.{table} t"
        found[table] = sorted(app.execute(query).fetchall())
    found["continuations"] = app.execute("SELECT * FROM timestep.continuations").fetchall()
    return found


def lacks_a_key() -> Body:
    class Provider(ModelProvider):
        def get_model(self, model_name: str | None) -> Model:
            raise OpenAIError("the api_key must be set")

    async def body() -> str:
        agent = Agent(name="Looker", tools=[look, delete], model="any")
        options = RunConfig(model_provider=Provider())
        return str((await timestep.run_agent(agent, "go", run_config=options)).final_output)

    return body


async def has_no_package() -> str:
    import no_such_package  # type: ignore[import-not-found]

    return str(no_such_package)


@pytest.fixture
def installed() -> Iterator[None]:
    """As in a host: code that runs no agent is looked after, too."""
    timestep.install()
    yield
    timestep.uninstall()


@pytest.mark.parametrize(
    ("turn", "body", "reason"),
    [
        (2, body_of(looker("a", "b", name="Other")[0]), "whose agents begin with 'Other'"),
        (1, lacks_a_key(), "OpenAIError: the api_key must be set"),
        (2, has_no_package, "No module named 'no_such_package'"),
    ],
    ids=["agent", "key", "package"],
)
def test_a_takeover_that_cannot_begin_leaves_all_as_it_was(
    app: App, installed: None, turn: int, body: Body, reason: str
) -> None:
    leave(app, "w", body_of(looker("a", "b")[0]), at="ab"[turn - 1])
    before = everything(app)
    for _ in range(2):
        BODIES["w"] = body
        take_over("w")
        app.until(lambda: status_of(app, "w") == ("PENDING", "0", "gone"))
        assert everything(app) == before
        told = asyncio.run(timestep.get_run("w"))
        assert told.obstacle is not None
        assert "version 1 could not take it over, and left it as it was: " in told.obstacle
        assert reason in told.obstacle
    BODIES["w"] = body_of(looker("a", "b")[0])
    take_over("w")
    assert outcome("w") == "saw a saw b"
    assert sorted(made) == sorted(["a", "b", "ab"[turn - 1]])
    assert app.replay("w") == "saw a saw b"


def status_of(app: App, workflow_id: str) -> tuple[Any, ...]:
    (found,) = app.execute(
        "SELECT status, application_version, executor_id FROM dbos.workflow_status "
        "WHERE workflow_uuid = %s",
        (workflow_id,),
    ).fetchall()
    return tuple(found)


def test_a_decision_stays_where_its_takeover_could_not_begin(app: App) -> None:
    BODIES["w"] = body_of(looker("a", tool="delete")[0])
    with SetWorkflowID("w"):
        DBOS.enqueue_workflow("_dbos_internal_queue", run_it, "w")
    app.until(lambda: DBOS.get_workflow_status("w").status == "DELAYED")  # type: ignore[union-attr]  # it is there
    app.execute("UPDATE dbos.workflow_status SET application_version = '0'")
    BODIES["w"] = lacks_a_key()
    take_over("w", approve="all")
    # As if it had been decided alone: the old version goes on with it.
    app.until(lambda: status_of(app, "w")[:2] == ("ENQUEUED", "0"))
    (asked,) = app.rows("interruptions")
    assert asked["resolution_action"] == "approve"
    BODIES["w"] = body_of(looker("a", tool="delete")[0])
    app.execute("UPDATE dbos.workflow_status SET application_version = '1'")
    assert outcome("w") == "deleted a"
    assert made == ["a"]


def test_a_takeover_that_has_begun_does_not_go_back(app: App, installed: None) -> None:
    leave(app, "w", with_steps(looker("a", "b")[0]), at="b")

    async def steps_and_fails() -> str:
        await first_step()
        raise ImportError("later")

    BODIES["w"] = steps_and_fails
    take_over("w")
    app.until(lambda: status_of(app, "w")[:2] == ("DELAYED", "1"))
    assert stepped == ["first"]


def test_a_version_without_the_workflow_takes_nothing_over(app: App) -> None:
    leave(app, "w", body_of(looker("a", "b")[0]), at="b")
    app.execute("UPDATE dbos.workflow_status SET name = 'gone'")
    before = everything(app)
    with pytest.raises(TakeoverError, match="no workflow 'gone'"):
        take_over("w")
    assert everything(app) == before


def test_what_waits_for_a_person_still_waits_in_other_code(app: App) -> None:
    agent, _ = looker("a", "b", tool="delete")
    BODIES["w"] = body_of(agent)
    workflow_id = app.started("w")
    (asked,) = app.until(lambda: asyncio.run(timestep.list_interruptions()))
    strand(app, workflow_id)
    new, model = looker("a", "b", tool="delete", tools=[added, delete])
    BODIES["w"] = body_of(new)
    assert take_over(workflow_id).pending == [asked.id]
    app.until(lambda: DBOS.get_workflow_status(workflow_id).app_version == "1")  # type: ignore[union-attr]  # it is there
    timestep.resume_workflow_sync(workflow_id, approve=[asked.id])
    (more,) = app.until(lambda: asyncio.run(timestep.list_interruptions()))
    assert more.call_id == "c-b"
    # Decided before it goes on in other code once more.
    strand(app, workflow_id)
    timestep.resume_workflow_sync(workflow_id, reject=[more.id], message="no")
    take_over(workflow_id)
    assert outcome(workflow_id) == "deleted a no"
    assert (made, model.asked) == (["a"], 2)
    assert len(app.rows("interruptions")) == 2


def test_a_replay_that_disagreed_goes_on(app: App) -> None:
    leave(app, "w", body_of(looker("a", "b")[0]), at="b")
    other, _ = looker("a", "b", input_guardrails=[polite])
    BODIES["w"] = body_of(other)
    app.execute("UPDATE dbos.workflow_status SET executor_id = 'local', application_version = '1'")
    DBOS._recover_pending_workflows()
    with pytest.raises(Exception, match="step"):
        outcome("w")
    take_over("w")
    assert outcome("w") == "saw a saw b"


@timestep.tool_options(as_workflow=True)
@function_tool
async def apart(name: str) -> str:
    said = await first_step()
    made.append(name)
    while name in held:  # noqa: ASYNC110  # another thread lets it go
        await asyncio.sleep(0.01)
    return f"{said} {name}"


def test_a_call_that_is_a_workflow_goes_on_in_other_code(app: App) -> None:
    leave(app, "w", body_of(looker("a", tool="apart", tools=[apart])[0]), at="a")
    app.execute(
        "UPDATE dbos.workflow_status SET owner_xid = 'gone', executor_id = 'gone', "
        "application_version = '0'"
    )
    new, model = looker("a", tool="apart", tools=[added, apart])
    BODIES["w"] = body_of(new)
    take_over("w")
    assert outcome("w") == "first a"
    assert (stepped, model.asked) == (["first"], 1)
    assert app.replay("w") == "first a"


def test_what_cannot_be_taken_over_is_left_alone(app: App) -> None:
    app.run(body_of(looker("a")[0]), "ended")
    leave(app, "w", body_of(looker("a", "b")[0]), at="b")
    with pytest.raises(UnknownRunError, match="'none'"):
        take_over("none")
    with pytest.raises(TakeoverError, match="has ended"):
        take_over("ended")
    held.append("x")
    BODIES["live"] = body_of(looker("x")[0])
    with SetWorkflowID("live"):
        app.started("live")
    app.until(lambda: "x" in made)
    with pytest.raises(TakeoverError, match="live host"):
        take_over("live")
    held.clear()
    assert outcome("live") == "saw x"
    before = app.everything()
    host = {"application": "timestep-tests", "executor_id": "gone", "claim": uuid.uuid4()}
    host |= {"node": "elsewhere", "process_id": 1, "identity": None, "lease": 3600}
    with recorder().engine.connect() as connection:
        assert hosts.claim(connection, host, None)
        hosts.tell(connection, host, "0", reads_pickles=False)
        with pytest.raises(TakeoverError, match="live host"):
            take_over("w")
        hosts.release(connection, host)
    assert app.everything() == before
    BODIES["w"] = body_of(looker("a", "b")[0])
    take_over("w")
    assert outcome("w") == "saw a saw b"


def undone(workflow_id: str, meanwhile: str) -> None:
    """Take a workflow over, let something happen, and give it back, as where it cannot begin."""
    found = recorder()
    values = {"workflow_id": workflow_id, "reason": "no key", "version": "1"}
    with found.transactions.begin() as connection:
        begin_takeover(connection, workflow_id)
        connection.exec_driver_sql(meanwhile)
        setbacks.undo(connection, found.schema, values)


def test_giving_it_back_leaves_what_others_did_meanwhile(app: App) -> None:
    leave(app, "w", body_of(looker("a", "b")[0]), at="b")
    app.run(body_of(looker("x")[0]), "child")
    app.execute(
        "UPDATE dbos.workflow_status SET status = 'PENDING', parent_workflow_id = 'w', "
        "executor_id = 'gone', owner_xid = 'gone', application_version = '0' "
        "WHERE workflow_uuid = 'child'"
    )
    app.execute(
        "UPDATE runs SET status = 'running', completed_at = NULL, final_output = NULL "
        "WHERE workflow_id = 'child'"
    )
    ends = (
        "UPDATE dbos.workflow_status SET status = 'SUCCESS' WHERE workflow_uuid = 'child'; "
        "UPDATE runs SET status = 'completed', completed_at = now(), final_output = '1', "
        "updated_at = clock_timestamp() WHERE workflow_id = 'child'"
    )

    undone("w", meanwhile=ends)

    query = "SELECT workflow_id, status FROM runs ORDER BY workflow_id"
    assert app.execute(query).fetchall() == [("child", "completed"), ("w", "running")]
    # What an earlier version kept has runs of the workflows inside, too.
    keeps_more = (
        "; UPDATE timestep.takeovers SET before = jsonb_set(before, '{runs}', before -> 'runs' || "
        '(SELECT to_jsonb(r) || \'{"status": "running", "completed_at": null, '
        "\"updated_at\": null}' FROM runs r WHERE workflow_id = 'child'))"
    )
    app.execute("UPDATE dbos.workflow_status SET status = 'PENDING' WHERE workflow_uuid = 'child'")
    undone("w", meanwhile=ends + keeps_more)
    assert app.execute(query).fetchall() == [("child", "completed"), ("w", "running")]
    take_over("w")
    assert outcome("w") == "saw a saw b"


def test_giving_it_back_does_without_a_deduplication_id_that_another_has(app: App) -> None:
    leave(app, "w", body_of(looker("a", "b")[0]), at="b")
    app.run(body_of(looker("x")[0]), "other")
    holds = "UPDATE dbos.workflow_status SET queue_name = 'q', deduplication_id = 'd' "
    app.execute(f"{holds} WHERE workflow_uuid = 'w'")
    query = "SELECT queue_name, deduplication_id FROM dbos.workflow_status ORDER BY workflow_uuid"

    undone("w", meanwhile="SELECT 1")
    assert app.execute(query).fetchall()[1] == ("q", "d")
    undone("w", meanwhile=f"{holds} WHERE workflow_uuid = 'other'")

    assert app.execute(query).fetchall() == [("q", "d"), ("q", None)]
    assert status_of(app, "w") == ("PENDING", "0", "gone")
    take_over("w")
    assert outcome("w") == "saw a saw b"
