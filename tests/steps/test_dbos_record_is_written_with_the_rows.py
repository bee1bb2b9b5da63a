"""Steps whose rows and DBOS's record of them are one statement, beside DBOS's ordinary ones.

Whatever DBOS tells of a run, and does with it, is the same in both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Literal

import psycopg
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    ToolGuardrailFunctionOutput,
    UserError,
    function_tool,
    input_guardrail,
    output_guardrail,
    tool_input_guardrail,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from click.testing import CliRunner
from dbos import DBOS, DBOSPortableJSONSerializer, Serializer, SetWorkflowID
from dbos import error as dbos_errors
from dbos._serialization import DBOSDefaultSerializer
from dbos.cli.cli import workflow as workflow_commands
from psycopg.rows import dict_row

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App, launch, run_it
from timestep.database import not_now
from timestep.database.async_pool import Sender
from timestep.journal import ownership_watch, recorder
from timestep.journal.reads import database
from timestep.runtime import cancellation, process_state, unended_calls

Way = Literal["joint", "ordinary"]
WAYS: tuple[Way, Way] = ("joint", "ordinary")
BOTH = [(first, second) for first in WAYS for second in WAYS]
TIMES = {"started_at_epoch_ms", "completed_at_epoch_ms", "retention_timestamp"}

made: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


@pytest.fixture
def use(app: App, monkeypatch: pytest.MonkeyPatch) -> Callable[[Way], None]:
    """Has steps recorded in one of the ways from now on."""

    def choose(way: Way) -> None:
        monkeypatch.setenv("TIMESTEP_ORDINARY_STEPS", str(way == "ordinary").lower())
        database.forget_databases()
        assert recorder.recorder().is_joint() is (way == "joint")

    return choose


@function_tool
async def look(name: str) -> str:
    made.append(name)
    return f"saw {name}"


@function_tool(failure_error_function=None)
async def fail(name: str) -> str:
    made.append(name)
    raise LookupError(f"no {name}\nanywhere: ä \x00")


@tool_input_guardrail
async def fine(data: Any) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.allow("fine")


@input_guardrail
async def polite(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info={"ä": 1}, tripwire_triggered=given == "trip")


@output_guardrail
async def short(ctx: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


@function_tool(name_override="guarded", tool_input_guardrails=[fine])
async def guarded(name: str) -> str:
    made.append(name)
    return f"guarded {name}"


def agent_with(*turns: list[tuple[str, str]], **options: Any) -> Agent[Any]:
    """Calls tools, each with a name, in each of its turns, and tells what came of it."""

    def answer(items: list[Any]) -> list[Any]:
        seen = outputs(items)
        before = 0
        for turn in turns:
            if before >= len(seen):
                return [function_call(t, {"name": n}, call_id=f"c-{n}") for t, n in turn]
            before += len(turn)
        return [assistant_message(" ".join(map(str, seen.values())))]

    options = {"tools": [look, fail, guarded], **options}
    return Agent("Looker", model=AnsweringModel(answer), **options)


def body_of(agent: Agent[Any], given: str = "go") -> Callable[[], Awaitable[Any]]:
    async def body() -> str:
        with contextlib.suppress(UserError, InputGuardrailTripwireTriggered):
            return str((await timestep.run_agent(agent, given)).final_output)
        return "failed"

    return body


def silent(items: list[Any]) -> list[Any]:
    raise UserError("it says nothing")


def three_turns() -> Agent[Any]:
    return agent_with([("look", "a"), ("guarded", "b")], [("look", "c")])


def broken() -> Agent[Any]:
    return agent_with([("look", "a")], [("fail", "b")])


SCENARIOS: dict[str, Callable[[], Callable[[], Awaitable[Any]]]] = {
    "tools": lambda: body_of(three_turns()),
    "failed tool": lambda: body_of(broken()),
    "guardrails": lambda: body_of(
        agent_with([("guarded", "a")], input_guardrails=[polite], output_guardrails=[short])
    ),
    "tripped": lambda: body_of(agent_with([("look", "a")], input_guardrails=[polite]), "trip"),
    "failed model": lambda: body_of(Agent("Mute", model=AnsweringModel(silent))),
    "nested": lambda: body_of(nesting()),
}


def nesting() -> Agent[Any]:
    inner = agent_with([("look", "a")])
    call = function_call("inner", {"input": "go"}, call_id="n")
    model = ScriptedModel([[call], [assistant_message("done")]])
    return Agent("Outer", model=model, tools=[inner.as_tool("inner", "Looks.")])


def recorded(app: App, workflow_id: str = "w") -> list[dict[str, Any]]:
    """DBOS's records of a workflow's steps, whole but for their times, which are there."""
    with psycopg.connect(app.url, row_factory=dict_row) as connection:
        rows = connection.execute(
            "SELECT * FROM dbos.operation_outputs WHERE workflow_uuid = %s ORDER BY function_id",
            (workflow_id,),
        ).fetchall()
    for row in rows:
        assert row["started_at_epoch_ms"] <= row["completed_at_epoch_ms"]
        assert len({row["output"], row["error"], None}) == 2
        assert abs(row["retention_timestamp"] - row["completed_at_epoch_ms"]) < 60_000
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def forget(app: App) -> None:
    """As if nothing had ever been run."""
    app.execute("TRUNCATE runs CASCADE")
    for table in ("operation_outputs", "workflow_input", "workflow_status"):
        app.execute(f"DELETE FROM dbos.{table}")
    process_state.of(unended_calls.UnendedCalls)._calls.clear()
    made.clear()


def change(app: App, statement: str) -> int:
    return app.execute(statement).rowcount


def counts(app: App) -> dict[str, int]:
    return {table: len(rows) for table, rows in app.everything().items()}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_dbos_holds_the_same_of_a_run(app: App, use: Callable[[Way], None], scenario: str) -> None:
    left = []
    for way in WAYS:
        forget(app)
        use(way)
        said = app.run(SCENARIOS[scenario](), "w")
        # And either way replays what the other one recorded.
        for other in WAYS:
            use(other)
            assert app.replay("w") == said
        left.append((said, made.copy(), recorded(app), counts(app)))
    assert left[0] == left[1]
    assert len(left[0][2]) > 0
    if scenario in ("failed tool", "failed model"):
        assert left[0][2][-1]["error"] is not None


# The command leaves its connections to the end of its process.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_dbos_lists_the_same_steps(app: App, use: Callable[[Way], None]) -> None:
    listed: list[list[dict[str, Any]]] = []
    shown: list[list[dict[str, Any]]] = []
    for way in WAYS:
        forget(app)
        use(way)
        assert app.run(SCENARIOS["failed tool"](), "w") == "failed"
        steps: list[dict[str, Any]] = [{**step} for step in DBOS.list_workflow_steps("w")]
        for step in steps:
            if (error := step["error"]) is not None:
                step["error"] = (type(error), str(error), error.reference)
        listed.append([{k: v for k, v in step.items() if k not in TIMES} for step in steps])
        command = ["steps", "w", "--sys-db-url", app.url]
        result = CliRunner().invoke(workflow_commands, command)
        assert result.exit_code == 0, result.output
        shown.append([{**s, **dict.fromkeys(TIMES)} for s in json.loads(result.stdout)])
    gc.collect()
    assert listed[0] == listed[1]
    assert shown[0] == shown[1]
    names = ["turn 1: Looker", "tool: look (c-a)", "turn 2: Looker", "tool: fail (c-b)"]
    assert [step["function_name"] for step in shown[0]] == names
    assert listed[0][-1]["error"][1].startswith("LookupError: no b anywhere: ä")


def outcome(workflow_id: str) -> str:
    return str(DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02))


@pytest.mark.parametrize("scenario", ["tools", "failed tool"])
def test_dbos_forks_what_was_recorded_in_either_way_in_either_way(
    app: App, use: Callable[[Way], None], scenario: str
) -> None:
    left = []
    for first, second in BOTH:
        forget(app)
        use(first)
        said = app.run(SCENARIOS[scenario](), "w")
        old = recorded(app)
        # Two forks: in the middle, and with a tool's outcome, or failure, the last thing copied.
        for start in (3, old[-1]["function_id"] + 1):
            made.clear()
            use(second)
            with SetWorkflowID(f"fork-{start}"):
                DBOS.fork_workflow("w", start)
            assert outcome(f"fork-{start}") == said
            left.append((start, made.copy(), recorded(app, f"fork-{start}")))
            assert app.replay(f"fork-{start}") == said
        assert recorded(app) == old
    assert left == left[:2] * len(BOTH)


@pytest.fixture
def slow_watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is cancelled learns of it from its next statement alone."""
    monkeypatch.setattr(ownership_watch, "_INTERVAL", 3600.0)
    yield
    ownership_watch.look_now()


@pytest.mark.usefixtures("slow_watch")
def test_what_is_cancelled_starts_no_further_effect_and_goes_on_when_it_is_resumed(
    app: App, use: Callable[[Way], None]
) -> None:
    cancelled: list[bool] = []

    @function_tool(name_override="look")
    async def cancelling(name: str) -> str:
        made.append(name)
        if name == "b" and not cancelled:
            cancelled.append(True)
            change(app, "UPDATE dbos.workflow_status SET status = 'CANCELLED'")
        return f"saw {name}"

    left = []
    for first, second in BOTH:
        forget(app)
        cancelled.clear()
        use(first)
        agent = agent_with([("look", "a")], [("look", "b")], [("look", "c")], tools=[cancelling])
        with pytest.raises(dbos_errors.DBOSAwaitedWorkflowCancelledError):
            app.run(body_of(agent), "w")
        assert made == ["a", "b"]
        assert isinstance(agent.model, AnsweringModel)
        assert agent.model.asked == 2
        names = ["turn 1: Looker", "tool: look (c-a)", "turn 2: Looker"]
        assert app.steps("w") == names
        assert [run["status"] for run in app.rows("runs")] == ["cancelled"]

        use(second)
        resumed = DBOS.resume_workflow("w").get_result(polling_interval_sec=0.02)
        assert resumed == "saw a saw b saw c"
        # What was under way had ended, which this process knows, and is not done again.
        assert made == ["a", "b", "c"]
        assert agent.model.asked == 4
        left.append((recorded(app), counts(app)))
        assert app.replay("w") == resumed
    assert left == left[:1] * len(BOTH)


def test_a_step_of_another_name_is_dbos_own_error(app: App, use: Callable[[Way], None]) -> None:
    said = []
    for way in WAYS:
        forget(app)
        use(way)
        app.run(SCENARIOS["tools"](), "w")
        change(app, "UPDATE dbos.operation_outputs SET function_name = 'it' WHERE function_id = 2")
        before = app.everything()
        with pytest.raises(dbos_errors.DBOSUnexpectedStepError) as caught:
            app.recover("w")
        said.append(str(caught.value))
        assert app.everything()["run_items"] == before["run_items"]
        assert len(made) == 3
    assert said[0] == said[1]


@pytest.mark.parametrize("scenario", ["tools", "failed tool", "guardrails", "failed model"])
def test_rows_that_dbos_has_no_record_of_are_recorded_without_a_second_effect(
    app: App, use: Callable[[Way], None], scenario: str
) -> None:
    """Killed between the two commits of the ordinary way."""
    left = []
    for way in WAYS:
        forget(app)
        use(way)
        said = app.run(SCENARIOS[scenario](), "w")
        whole, effects, before = recorded(app), made.copy(), counts(app)
        for number in {row["function_id"] for row in whole}:
            deleted = f"DELETE FROM dbos.operation_outputs WHERE function_id >= {number}"
            assert change(app, deleted) > 0
            assert app.recover("w") == said
            assert recorded(app) == whole
        assert made == effects
        assert counts(app) == before
        left.append(whole)
    assert left[0] == left[1]


def relaunch(app: App, **config: Any) -> None:
    DBOS.destroy()
    database.forget_databases()
    launch(app.url, **config)


@pytest.mark.own_database
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            "UPDATE dbos.dbos_migrations SET version = 126",
            "DBOS's tables have version 126, and known here is 125",
        ),
        (
            "ALTER TABLE dbos.operation_outputs ADD COLUMN weight int",
            "DBOS's table operation_outputs has other columns than known here: weight",
        ),
    ],
)
def test_tables_that_are_not_known_leave_dbos_its_ordinary_steps(
    app: App,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    changed: str,
    reason: str,
) -> None:
    monkeypatch.delenv("TIMESTEP_ORDINARY_STEPS", raising=False)
    change(app, changed)
    relaunch(app)

    async def run(number: int) -> str:
        BODIES[f"w{number}"] = body_of(three_turns())
        with SetWorkflowID(f"w{number}"):
            return await run_it(f"w{number}")

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(run(number) for number in range(5)))

    with caplog.at_level(logging.WARNING, "timestep"):
        assert asyncio.run(all_of_them()) == ["saw a guarded b saw c"] * 5
        assert app.replay("w0") == "saw a guarded b saw c"
    assert [r.getMessage() for r in caplog.records if r.name == "timestep"] == [
        f"DBOS records the steps itself, which costs more: {reason}"
    ]
    assert not recorder.recorder().is_joint()
    # A known one again: what was recorded in the one way goes on in the other.
    change(app, "UPDATE dbos.dbos_migrations SET version = 125")
    change(app, "ALTER TABLE dbos.operation_outputs DROP COLUMN IF EXISTS weight")
    relaunch(app)
    assert app.replay("w0") == "saw a guarded b saw c"
    assert recorder.recorder().is_joint()


@pytest.mark.own_database
@pytest.mark.parametrize("scenario", ["tools", "failed tool"])
@pytest.mark.parametrize("serializer", [DBOSPortableJSONSerializer(), DBOSDefaultSerializer])
def test_dbos_may_record_with_another_serializer(
    app: App, use: Callable[[Way], None], serializer: Serializer, scenario: str
) -> None:
    relaunch(app, serializer=serializer)
    left = []
    for way in WAYS:
        forget(app)
        use(way)
        said = app.run(SCENARIOS[scenario](), "w")
        for other in WAYS:
            use(other)
            assert app.replay("w") == said
        whole = recorded(app)
        assert {row["serialization"] for row in whole} == {serializer.name()}
        change(app, "DELETE FROM dbos.operation_outputs WHERE function_id >= 3")
        assert app.recover("w") == said
        assert recorded(app) == whole
        effects = made.copy()
        with SetWorkflowID("fork"):
            DBOS.fork_workflow("w", whole[-1]["function_id"] + 1)
        assert outcome("fork") == said
        assert made == effects
        left.append((whole, effects))
    assert left[0] == left[1]


def test_a_statement_whose_answer_is_lost_is_sent_again_and_counts_once(
    app: App, use: Callable[[Way], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = Sender.execute
    lost: set[tuple[object, ...]] = set()

    async def losing(sender: Sender, sql: str, parameters: Sequence[bytes | None]) -> Any:
        answer = await execute(sender, sql, parameters)
        # Without the sender's clock, which goes on.
        texts = [text for text in parameters if not re.fullmatch(rb"[\d.]+", text or b"")]
        if (sent := (sql, *texts)) not in lost:
            lost.add(sent)
            raise psycopg.OperationalError("the connection is lost")
        return answer

    monkeypatch.setattr(not_now, "_FIRST_PAUSE", 0.001)
    left = []
    for way in WAYS:
        forget(app)
        use(way)
        said = app.run(SCENARIOS["failed tool"](), "w")
        whole, before = recorded(app), counts(app)
        forget(app)
        lost.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Sender, "execute", losing)
            assert app.run(SCENARIOS["failed tool"](), "w") == said
        assert len(lost) == 6, "four steps, the run's beginning, its end"
        assert made == ["a", "b"]
        assert (recorded(app), counts(app)) == (whole, before)
        assert [row["requests"] for row in app.rows("usage_metrics")] == [2]
        left.append(whole)
    assert left[0] == left[1]


def test_a_step_that_dbos_has_another_record_of_is_dbos_own_error(
    app: App, use: Callable[[Way], None]
) -> None:
    @function_tool(name_override="look")
    async def interfering(name: str) -> str:
        made.append(name)
        change(
            app,
            "INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, function_name, "
            "completed_at_epoch_ms) VALUES ('w', 3, 'tool: look (c-a)', 1)",
        )
        return f"saw {name}"

    said = []
    for way in WAYS:
        forget(app)
        use(way)
        agent = agent_with([("look", "a")], [("look", "b")], tools=[interfering])
        with pytest.raises(dbos_errors.DBOSStepNondeterminismError) as caught:
            app.run(body_of(agent), "w")
        said.append(str(caught.value))
        assert made == ["a"]
        assert isinstance(agent.model, AnsweringModel)
        assert agent.model.asked == 1
    assert said[0] == said[1]


def test_a_commit_is_waited_for_however_often_its_caller_is_cancelled() -> None:
    async def body() -> None:
        may_end = asyncio.Event()
        ended = []

        async def work() -> None:
            await may_end.wait()
            ended.append(True)

        task = asyncio.ensure_future(cancellation.to_its_end(work()))
        for _ in range(3):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            task.cancel()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True]

    asyncio.run(body())
