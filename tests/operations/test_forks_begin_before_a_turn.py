"""New runs from the checkpoint before a turn of an old one, which stays as it was."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    ModelSettings,
    RunConfig,
    RunContextWrapper,
    UserError,
    function_tool,
    input_guardrail,
)
from agents.testing import assistant_message, function_call
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App
from timestep.errors import (
    AlreadyStartedError,
    InvalidInputError,
    UnknownCheckpointError,
    UnknownRunError,
)

made: list[str] = []
counted: list[int] = []
_ids = itertools.count()


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()
    counted.clear()


@function_tool
async def look(name: str) -> str:
    made.append(name)
    return f"saw {name}"


@function_tool(name_override="look")
async def note(context: RunContextWrapper[Any], name: str) -> str:
    context.context["notes"].append(name)
    return f"saw {name}"


@function_tool(failure_error_function=None)
async def fail() -> str:
    made.append("fail")
    raise ValueError("it failed")


@input_guardrail
async def polite(ctx: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


@DBOS.step()
async def count() -> int:
    counted.append(1)
    return len(counted)


def looker(last: int = 3, **options: Any) -> tuple[Agent[Any], AnsweringModel]:
    """Looks once a turn, and tells in its last turn what it saw."""

    def answer(items: list[Any]) -> list[Any]:
        seen = outputs(items)
        if len(seen) == last - 1:
            said = [str(i["content"]) for i in items if i.get("role") == "user"]
            return [assistant_message(" ".join([*said, *seen.values()]))]
        turn = len(seen) + 1
        return [function_call("look", {"name": f"{turn}"}, call_id=f"c{next(_ids)}")]

    model = AnsweringModel(answer)
    return Agent(name="Looker", model=model, tools=[look], **options), model


def body_of(agent: Agent[Any], given: Any = "go", **options: Any) -> Callable[[], Any]:
    async def body() -> str:
        return str((await timestep.run_agent(agent, given, **options)).final_output)

    return body


def fork(workflow_id: str, **options: Any) -> str:
    return asyncio.run(timestep.fork_run(workflow_id, **options))


def outcome(workflow_id: str) -> str:
    return str(DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02))


def old_rows(app: App, before: dict[str, list[str]]) -> dict[str, list[str]]:
    """Rows that were there before and are not any more, or are changed."""
    now = app.everything()
    gone = {table: [row for row in rows if row not in now[table]] for table, rows in before.items()}
    return {table: rows for table, rows in gone.items() if rows}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_fork_begins_with_its_turn_and_leaves_the_old_run_alone(
    app: App, turn: int, stream: bool
) -> None:
    agent, model = looker()
    assert app.run(body_of(agent, stream=stream), "old") == "go saw 1 saw 2"
    before, steps, asked = app.everything(), app.steps("old"), model.asked
    (old,) = app.rows("runs")
    made.clear()

    new = fork("old", turn=turn)

    assert outcome(new) == "go saw 1 saw 2"
    assert model.asked - asked == 4 - turn
    assert made == ["1", "2"][turn - 1 :]
    assert old_rows(app, before) == {}
    assert app.steps("old") == steps
    (run,) = [row for row in app.rows("runs") if row["workflow_id"] == new]
    assert (run["forked_from_run_id"], run["forked_at_turn"]) == (old["id"], turn)
    assert (run["status"], run["current_turn"]) == ("completed", 3)
    turns = [r["turn"] for r in app.rows("model_responses", "turn") if r["run_id"] == run["id"]]
    assert turns == [1, 2, 3][turn - 1 :]
    (used,) = [row for row in app.rows("usage_metrics") if row["run_id"] == run["id"]]
    assert used["requests"] == 4 - turn
    assert app.replay(new) == "go saw 1 saw 2"
    assert app.replay("old") == "go saw 1 saw 2"


def test_the_fork_of_another_applications_run_is_for_its_newest_version(app: App) -> None:
    agent, _ = looker()
    app.run(body_of(agent), "old")
    app.execute("UPDATE dbos.workflow_status SET application_name = 'another'")
    fork("old", turn=2, new_workflow_id="new")
    stands = "SELECT application_name, application_version, status FROM dbos.workflow_status"
    new = app.execute(f"{stands} WHERE workflow_uuid = 'new'").fetchone()
    assert new == ("another", None, "ENQUEUED")
    DBOS.cancel_workflow("new")


def test_a_fork_is_told_and_links_to_the_old_run(app: App) -> None:
    agent, _ = looker()
    app.run(body_of(agent), "old")
    (old,) = app.rows("runs")
    new = fork(str(old["id"]), turn=3)
    outcome(new)
    run = asyncio.run(timestep.get_run(new))
    assert (run.forked_from_run_id, run.forked_at_turn) == (str(old["id"]), 3)
    status = DBOS.get_workflow_status(new)
    assert status is not None
    assert status.forked_from == "old"


@pytest.mark.parametrize(
    ("turn", "options", "said"),
    [
        (1, {"input": "come"}, "come saw 1 saw 2"),
        (1, {"append": "please"}, "go please saw 1 saw 2"),
        (3, {"append": "please"}, "go please saw 1 saw 2"),
        (3, {"append": [{"role": "user", "content": "now"}]}, "go now saw 1 saw 2"),
        (3, {"input": "anew"}, "anew saw 1 saw 2"),
    ],
)
def test_a_fork_is_given_other_items(
    app: App, turn: int, options: dict[str, Any], said: str
) -> None:
    agent, _ = looker()
    app.run(body_of(agent), "old")
    new = fork("old", turn=turn, **options)
    assert outcome(new) == said
    assert app.replay(new) == said


def test_a_fork_asks_another_model_with_other_instructions(app: App) -> None:
    asked: list[tuple[Any, ...]] = []

    class Other(AnsweringModel):
        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            asked.append((kwargs["system_instructions"], kwargs["model_settings"].temperature))
            return await super().get_response(*args, **kwargs)

    class Provider:
        def get_model(self, name: str | None) -> Any:
            assert name == "other"
            return Other(lambda items: [assistant_message("other")])

        async def aclose(self) -> None:
            return

    agent, model = looker(instructions="as ever", model_settings=ModelSettings(top_p=0.5))
    config: Any = RunConfig(model_provider=Provider())  # type: ignore[arg-type]  # a stand-in
    app.run(body_of(agent, run_config=config), "old")
    before = model.asked
    changes = {"instructions": "differ", "model": "other", "model_settings": {"temperature": 0.3}}
    new = fork("old", turn=2, agent=changes)
    assert outcome(new) == "other"
    assert asked == [("differ", 0.3)]
    assert model.asked == before
    assert app.replay(new) == "other"


def test_a_fork_is_executed_by_other_code(app: App) -> None:
    agent, _ = looker()
    app.run(body_of(agent), "old")
    other, model = looker(last=4)
    BODIES["old"] = body_of(other)
    new = fork("old", turn=3)
    assert outcome(new) == "go saw 1 saw 2 saw 3"
    assert model.asked == 2


def test_a_fork_keeps_what_the_workflow_did_before_its_run(app: App) -> None:
    first, first_model = looker()
    second, second_model = looker()

    async def body() -> str:
        number = await count()
        said = (await timestep.run_agent(first, "first")).final_output
        number += await count()
        more = (await timestep.run_agent(second, "second")).final_output
        return f"{number} {said} {more}"

    said = app.run(body, "old")
    assert said == "3 first saw 1 saw 2 second saw 1 saw 2"
    before = app.everything()
    made.clear()
    new = fork("old", turn=3)
    assert outcome(new) == said
    assert (made, len(counted), first_model.asked, second_model.asked) == ([], 2, 3, 4)
    assert old_rows(app, before) == {}
    assert app.replay(new) == said
    # A fork of the fork, and one of the first run by its id.
    again = fork(new, turn=3)
    assert outcome(again) == said
    assert (first_model.asked, second_model.asked) == (3, 5)
    (run,) = [r for r in app.rows("runs") if r["workflow_step"] == 2 and r["workflow_id"] == "old"]
    early = fork(str(run["id"]), turn=2)
    assert outcome(early) == "5 first saw 1 saw 2 second saw 1 saw 2".replace("5", "4")
    assert (first_model.asked, second_model.asked) == (5, 8)


def test_a_forks_context_is_as_the_calls_of_earlier_turns_left_it(app: App) -> None:
    agent, _ = looker(last=4)
    agent = agent.clone(tools=[note])

    async def body() -> str:
        context: dict[str, Any] = {"notes": []}
        result = await timestep.run_agent(agent, "go", context=context)
        assert result.final_output == "go saw 1 saw 2 saw 3"
        return ",".join(context["notes"])

    assert app.run(body, "old") == "1,2,3"
    new = fork("old", turn=3)
    assert outcome(new) == "1,2,3"
    assert app.replay(new) == "1,2,3"


@pytest.mark.parametrize("stream", [False, True])
def test_dbos_own_fork_takes_copied_steps_from_the_old_run(app: App, stream: bool) -> None:
    agent, model = looker(input_guardrails=[polite])

    async def body() -> str:
        number = await count()
        with contextlib.suppress(UserError):
            await timestep.run_agent(failing, "fail", stream=stream)
        said = (await timestep.run_agent(agent, "go", stream=stream)).final_output
        return f"{number} {said}"

    failing = Agent(
        name="Failing",
        model=(failing_model := AnsweringModel(lambda _: [function_call("fail", {}, call_id="f")])),
        tools=[fail],
    )
    said = app.run(body, "old")
    asked = [model.asked, failing_model.asked]
    failing_model.asked = 0
    before = app.everything()
    steps = app.execute(
        "SELECT function_id, function_name FROM dbos.operation_outputs ORDER BY 1"
    ).fetchall()
    assert [name.split(":")[0] for _, name in steps][1:] == [
        *["turn 1", "tool"],
        *["input guardrail", "turn 1", "tool", "turn 2", "tool", "turn 3"],
    ]
    for start in [1, *(number + 1 for number, _ in steps)]:
        counted.clear()
        made.clear()
        model.asked = 0
        with SetWorkflowID(f"new-{start}"):
            new = DBOS.fork_workflow("old", start).get_workflow_id()
        assert outcome(new) == said
        left = [name for number, name in steps if number >= start]
        assert model.asked == len([name for name in left if name.endswith(": Looker")])
        asked += [model.asked, failing_model.asked]
        failing_model.asked = 0
        assert len(made) == len([name for name in left if name.startswith("tool:")])
        assert len(counted) == (1 if start == 1 else 0)
        assert app.replay(new) == said
    assert old_rows(app, before) == {}
    # Each fork has the whole story, and counts what it used itself.
    for run in app.rows("runs"):
        if run["workflow_id"] == "old" or run["status"] != "completed":
            continue
        items = [row for row in app.rows("run_items") if row["run_id"] == run["id"]]
        assert len(items) == 5
    assert sum(row["requests"] for row in app.rows("usage_metrics")) == sum(asked)


def test_a_fork_adds_to_the_session_what_it_says_itself(app: App) -> None:
    agent, _ = looker()

    async def body() -> str:
        session = timestep.DatabaseSession("s")
        await timestep.run_agent(agent, "first", session=session)
        said = (await timestep.run_agent(talker, "second", session=session)).final_output
        return f"{said} of {len(await session.get_items())}"

    talker = Agent(
        name="Talker",
        model=AnsweringModel(
            lambda items: [
                assistant_message(f"{len(items)} seen")
                if any(i.get("call_id") == "t" for i in items)
                else function_call("look", {"name": "x"}, call_id="t")
            ]
        ),
        tools=[look],
    )
    assert app.run(body, "old") == "9 seen of 10"
    before = app.everything()
    new = fork("old", turn=2)
    assert outcome(new) == "9 seen of 11"
    gone = old_rows(app, before)
    assert gone.keys() <= {"sessions"}, gone
    (added,) = [
        row
        for row in app.rows("session_items", "position")
        if str(row["id"]) not in str(before["session_items"])
    ]
    assert added["role"] == "assistant"
    assert app.replay(new) == "9 seen of 11"


def test_a_fork_that_cannot_be_changes_nothing(app: App) -> None:
    agent, _ = looker()
    nesting = Agent(
        name="Outer",
        model=AnsweringModel(
            lambda items: (
                [assistant_message("done")]
                if outputs(items)
                else [function_call("inner", {"input": "go"}, call_id="i1")]
            )
        ),
        tools=[agent.as_tool("inner", "Looks.")],
    )
    app.run(body_of(nesting), "old")
    app.run(body_of(looker()[0]), "other")
    (inside,) = [row for row in app.rows("runs") if row["parent_run_id"] is not None]
    before = app.everything()
    bad: list[tuple[str, dict[str, Any], type[Exception], str]] = [
        ("none", {"turn": 1}, UnknownRunError, "'none'"),
        ("old", {"turn": 3}, UnknownCheckpointError, "turns 1 to 2"),
        ("old", {"turn": 0}, UnknownCheckpointError, "turn 0"),
        ("old", {"turn": True}, InvalidInputError, "True"),
        (str(inside["id"]), {"turn": 1}, InvalidInputError, "is inside run"),
        ("old", {"turn": 1, "input": ""}, InvalidInputError, "empty"),
        ("old", {"turn": 1, "input": object()}, InvalidInputError, "cannot be an input"),
        ("old", {"turn": 1, "input": "a", "append": "b"}, InvalidInputError, "either"),
        ("old", {"turn": 1, "agent": {"tools": []}}, InvalidInputError, "'tools'"),
        ("old", {"turn": 1, "agent": {"model": 1}}, InvalidInputError, "model"),
        ("old", {"turn": 1, "agent": {"model_settings": {"x": 1}}}, InvalidInputError, "fit"),
        ("old", {"turn": 1, "new_workflow_id": "other"}, AlreadyStartedError, "'other'"),
        (
            "old",
            {"turn": 1, "new_workflow_id": str(inside["id"])},
            InvalidInputError,
            "is the id of a run",
        ),
    ]
    for name, options, kind, text in bad:
        with pytest.raises(kind, match=text):
            fork(name, **options)
    assert app.everything() == before
    count = app.execute("SELECT count(*) FROM timestep.continuations").fetchone()
    assert count == (0,)


def test_the_same_fork_under_the_same_id_is_one(app: App) -> None:
    agent, model = looker()
    app.run(body_of(agent), "old")
    assert fork("old", turn=3, new_workflow_id="new") == "new"
    assert fork("old", turn=3, new_workflow_id="new") == "new"
    assert outcome("new") == "go saw 1 saw 2"
    assert model.asked == 4
    with pytest.raises(AlreadyStartedError):
        fork("old", turn=2, new_workflow_id="new")
