"""A person approves a call with other arguments: it is made, shown and recorded with those."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    RunConfig,
    Runner,
    RunState,
    ShellTool,
    SQLiteSession,
    ToolExecutionConfig,
    ToolGuardrailFunctionOutput,
    function_tool,
    output_guardrail,
    tool_input_guardrail,
)
from agents.testing import assistant_message, function_call
from dbos import DBOS

import timestep
from tests.sdk.test_builtin_tools_are_steps import shell_call
from tests.sdk.test_mcp_servers_are_asked_once import Fake
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import App
from tests.support.decisions import decide, started, waiting
from timestep.errors import (
    AlreadyResolvedError,
    ChangedQuestionError,
    InvalidArgumentsError,
    InvalidInputError,
    UnknownInterruptionError,
)

made: list[tuple[str, Any]] = []
"""The calls that were made."""
shown: list[dict[str, Any]] = []
"""The calls that the model was shown, each time that it was asked."""


@function_tool(needs_approval=True)
async def refund(order: str, cents: int, note: str | None = None) -> str:
    made.append((order, cents))
    return f"refunded {cents} for {order}"


@function_tool
async def look(name: str) -> str:
    return f"{name} is old"


CALLS: list[Any] = [
    function_call("refund", {"order": "o1", "cents": 5000, "note": None}, call_id="c1"),
    function_call("look", {"name": "a"}, call_id="c2"),
    function_call("refund", {"order": "o2", "cents": 100, "note": None}, call_id="c3"),
]


def answer(items: list[Any]) -> list[Any]:
    """What a clerk's model answers: it asks for the calls, and then tells what came of them."""
    shown[:] = [item for item in items if item.get("type") == "function_call"]
    found = outputs(items)
    if not found:
        return CALLS
    return [assistant_message(" | ".join(f"{k}: {v}" for k, v in sorted(found.items())))]


def clerk(**options: Any) -> Agent[Any]:
    made.clear()
    return Agent(name="Clerk", model=AnsweringModel(answer), tools=[refund, look], **options)


EDITED = {"order": "o1", "cents": 50, "note": "half of it"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_made_and_shown_as_edited_and_both_versions_are_kept(
    app: App, stream: bool
) -> None:
    outcome = started(app, clerk(), stream=stream)
    first, _ = app.until(waiting)
    result = decide(edit={first.id: EDITED}, approve=["c3"], by="ann")
    assert (len(result.resolved), result.goes_on) == (2, True)

    told = "c1: refunded 50 for o1 | c2: a is old | c3: refunded 100 for o2"
    assert outcome.result(timeout=60) == told
    assert sorted(made) == [("o1", 50), ("o2", 100)]
    assert json.loads(shown[0]["arguments"]) == EDITED
    assert CALLS[0].arguments == '{"order":"o1","cents":5000,"note":null}', "not the model's own"

    asked = {"order": "o1", "cents": 5000, "note": None}
    one, other = waiting(resolved=True)
    assert (one.arguments, one.resolution_arguments) == (asked, EDITED)
    assert (one.resolution_action, one.resolved_by) == ("edit", "ann")
    assert (other.resolution_action, other.resolution_arguments) == ("approve", None)
    (call,) = [row for row in app.rows("tool_calls") if row["call_id"] == "c1"]
    assert (call["arguments"], call["edited_arguments"]) == (asked, EDITED)
    assert call["status"] == "executed"
    (item,) = [
        row
        for row in app.rows("run_items")
        if row["tool_call_id"] == call["id"] and row["item_type"] == "tool_call_item"
    ]
    assert json.loads(item["item_data"]["arguments"]) == EDITED
    assert json.loads(item["original_data"]["arguments"]) == asked
    (run,) = asyncio.run(timestep.list_runs()).items
    assert [one.resolution_arguments for one in run.interruptions] == [EDITED, None]
    # What the model answered is its record, and stays.
    first_answer = app.rows("model_responses", "turn")[0]
    assert json.loads(first_answer["output"][0]["arguments"]) == asked
    assert app.replay("w") == told
    assert sorted(made) == [("o1", 50), ("o2", 100)]


def office(depth: int) -> Agent[Any]:
    """An agent that asks the clerk through so many others, and asks itself, too."""
    inner = clerk()
    for level in range(depth):

        def ask(items: list[Any], level: int = level) -> list[Any]:
            if found := outputs(items):
                return [assistant_message(f"{level}: {' | '.join(found.values())}")]
            calls = [function_call("ask", {"input": "pay back"}, call_id=f"ask-{level}")]
            if level == depth - 1:
                calls.append(
                    function_call("refund", {"order": "o3", "cents": 7, "note": None}, call_id="c9")
                )
            return list(calls)

        tool = inner.as_tool("ask", "asks another")
        inner = Agent(name=f"Asks{level}", model=AnsweringModel(ask), tools=[tool, refund])
    return inner


@pytest.mark.parametrize("depth", [1, 2])
def test_a_call_of_a_run_inside_a_run_is_edited_with_its_session(app: App, depth: int) -> None:
    session = timestep.DatabaseSession("s")
    outcome = started(app, office(depth), session=session)
    app.until(lambda: len(waiting()) == 3)
    decide(edit={"c1": EDITED, "c9": {"order": "o3", "cents": 6, "note": None}}, approve=["c3"])
    told = outcome.result(timeout=60)
    assert told.endswith("c3: refunded 100 for o2 | refunded 6 for o3")
    assert "c1: refunded 50 for o1" in told
    assert sorted(made) == [("o1", 50), ("o2", 100), ("o3", 6)]
    kept = [row["item_data"] for row in app.rows("session_items", "position")]
    calls = {item["call_id"]: item["arguments"] for item in kept if "arguments" in item}
    assert json.loads(calls["c9"])["cents"] == 6
    assert app.replay("w") == told


def test_a_state_that_another_run_left_goes_on_with_the_edited_call(app: App) -> None:
    async def left() -> Any:
        result = await Runner.run(clerk(), "pay back")
        return result.to_state().to_json()

    document = asyncio.run(left())
    agent = clerk()
    state = asyncio.run(RunState.from_json(agent, document))
    outcome = started(app, agent, state)
    app.until(lambda: len(waiting()) == 2)
    decide(edit={"c1": EDITED}, approve=["c3"])
    told = outcome.result(timeout=60)
    assert told == "c1: refunded 50 for o1 | c2: a is old | c3: refunded 100 for o2"
    assert json.loads(shown[0]["arguments"]) == EDITED
    assert sorted(made) == [("o1", 50), ("o2", 100)]
    assert document == asyncio.run(left())


def test_a_fork_from_a_later_turn_sees_the_edited_call(app: App) -> None:
    def answer(items: list[Any]) -> list[Any]:
        shown[:] = [item for item in items if item.get("type") == "function_call"]
        found = outputs(items)
        if not found:
            return CALLS[:1]
        if "c2" not in found:
            return CALLS[1:2]
        return [assistant_message(" | ".join(found.values()))]

    agent = Agent(name="Clerk", model=AnsweringModel(answer), tools=[refund, look])
    made.clear()
    outcome = started(app, agent)
    app.until(waiting)
    decide(edit={"c1": EDITED})
    told = outcome.result(timeout=60)
    shown.clear()
    new = asyncio.run(timestep.fork_run("w", turn=2))
    assert str(DBOS.retrieve_workflow(new).get_result(polling_interval_sec=0.02)) == told
    assert made == [("o1", 50)], "not made again"
    assert json.loads(shown[0]["arguments"]) == EDITED
    # And the turn itself asks anew, as the model does.
    asyncio.run(timestep.fork_run("w", turn=1, new_workflow_id="w1"))
    (again,) = app.until(lambda: asyncio.run(timestep.list_interruptions(workflow_id="w1")))
    assert again.arguments["cents"] == 5000
    timestep.resume_workflow_sync("w1", approve="all")
    assert "refunded 5000" in str(
        DBOS.retrieve_workflow("w1").get_result(polling_interval_sec=0.02)
    )


def test_nothing_is_written_where_arguments_do_not_fit(app: App) -> None:
    outcome = started(app, clerk())
    app.until(lambda: len(waiting()) == 2)
    before = app.everything()
    with pytest.raises(InvalidArgumentsError, match="refund: cents: 'many' is not") as refused:
        decide(edit={"c1": {**EDITED, "cents": "many"}, "c3": {}})
    pointers = {field["pointer"] for field in refused.value.fields}
    assert pointers == {"/c1/cents", "/c3/order", "/c3/cents", "/c3/note"}
    for edit, said in (
        ([1], "an object"),
        ({**EDITED, "cents": float("nan")}, "no JSON"),
        ({**EDITED, "note": "\ud800"}, "half of a surrogate pair"),
        ({**EDITED, "note": {1, 2}}, "no JSON"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            decide(edit={"c1": edit})
    with pytest.raises(InvalidInputError, match="in another call"):
        decide(edit={"c1": EDITED}, always=True)
    assert app.everything() == before
    decide(approve="all")
    assert outcome.result(timeout=60).startswith("c1: refunded 5000")


def test_one_edit_is_not_given_to_all_calls(app: App) -> None:
    """Only one of them would be checked, and the tools' arguments differ."""
    close = function_tool(look_up, name_override="close", needs_approval=True)
    calls = [CALLS[0], function_call("close", {"name": "a"}, call_id="c2")]

    def asked(items: list[Any]) -> list[Any]:
        return [assistant_message("done")] if outputs(items) else calls

    outcome = started(app, Agent(name="A", model=AnsweringModel(asked), tools=[refund, close]))
    app.until(lambda: len(waiting()) == 2)
    with pytest.raises(InvalidInputError, match="name each by an id"):
        decide(edit={"all": {"name": "b"}})
    assert len(waiting()) == 2
    decide(reject="all")
    assert outcome.result(timeout=60) == "done"


async def look_up(name: str) -> str:
    return name


def test_decisions_of_a_call_do_not_contradict_each_other(app: App) -> None:
    outcome = started(app, clerk())
    first, second = app.until(waiting)
    with pytest.raises(UnknownInterruptionError, match="c9"):
        decide(edit={"c1": EDITED, "c9": EDITED})
    for other in ({"approve": ["c1"]}, {"reject": "all"}, {"supply": {first.id: "done"}}):
        with pytest.raises(AlreadyResolvedError, match="two decisions"):
            decide(edit={"c1": EDITED}, **other)
    with pytest.raises(AlreadyResolvedError, match="two decisions: edit and edit"):
        decide(edit={"c1": EDITED, first.id: {**EDITED, "cents": 49}})
    assert [one.id for one in waiting()] == [first.id, second.id]

    decide(edit={"c1": EDITED, first.id: EDITED}, by="ann")
    assert decide(edit={first.id: dict(reversed(EDITED.items()))}).resolved == [first.id]
    contradictions: list[tuple[dict[str, Any], str]] = [
        ({"edit": {"c1": {**EDITED, "cents": 49}}}, "edit by ann, with other arguments"),
        ({"edit": {"c1": {**EDITED, "cents": True}}}, "edit by ann, with other arguments"),
        ({"approve": ["c1"]}, "edit by ann"),
        ({"reject": ["c1"]}, "edit by ann"),
        ({"supply": {"c1": "done"}}, "edit by ann"),
    ]
    for decision, said in contradictions:
        with pytest.raises(AlreadyResolvedError, match=said):
            decide(**decision)
    decide(approve=["c3"])
    with pytest.raises(AlreadyResolvedError, match="decided already: approve"):
        decide(edit={"c3": EDITED})
    assert outcome.result(timeout=60).startswith("c1: refunded 50 ")


def test_what_is_decided_is_what_was_shown(app: App) -> None:
    outcome = started(app, clerk())
    first, second = app.until(waiting)
    (agent,) = app.rows("agents")
    (text,) = app.execute(
        "SELECT jsonb_build_array(tool_name, arguments, agent_id)::text FROM interruptions"
        " WHERE id = %s",
        (first.id,),
    ).fetchone() or ("",)
    assert json.loads(text) == ["refund", first.arguments, str(agent["id"])]
    assert first.hash == hashlib.sha256(text.encode()).hexdigest() != second.hash

    before = app.everything()
    with pytest.raises(ChangedQuestionError) as refused:
        decide(approve=["c1"], expect={"c1": second.hash})
    (change,) = refused.value.changes
    assert (change["id"], change["hash"], change["expected"]) == (
        first.id,
        first.hash,
        second.hash,
    )
    assert (change["arguments"], change["was"]["arguments"]) == (first.arguments, second.arguments)
    assert '"o1"' in str(refused.value)
    assert '"o2"' in str(refused.value)
    with pytest.raises(ChangedQuestionError, match="which was not shown"):
        decide(approve="all", expect={"c1": first.hash})
    with pytest.raises(ChangedQuestionError, match="with another hash"):
        decide(edit={"c1": EDITED}, expect={first.id: "f" * 64})
    with pytest.raises(InvalidInputError, match="not decided"):
        decide(approve=["c1"], expect={"c1": first.hash, "c3": second.hash})
    with pytest.raises(InvalidInputError, match="no hash"):
        decide(approve=["c1"], expect={"c1": first.hash[:15]})
    assert app.everything() == before

    # What changes in the rows meanwhile is seen by the statement that decides.
    app.execute(
        "UPDATE interruptions SET arguments = jsonb_set(arguments, '{cents}', '9') WHERE id = %s",
        (first.id,),
    )
    with pytest.raises(ChangedQuestionError, match='"cents": 9'):
        decide(approve=["c1"], expect={"c1": first.hash})
    app.execute(
        "UPDATE interruptions SET arguments = jsonb_set(arguments, '{cents}', '5000')"
        " WHERE id = %s",
        (first.id,),
    )
    expect = {first.id: first.hash.upper(), "c3": second.hash[:16]}
    decide(edit={"c1": EDITED}, approve=["c3"], expect=expect)
    assert decide(edit={"c1": EDITED}, expect={"c1": first.hash}).resolved == [first.id]
    assert outcome.result(timeout=60).startswith("c1: refunded 50 ")


told_of: list[dict[str, Any]] = []
"""The arguments of which a sentence was made."""


def sentence(arguments: dict[str, Any]) -> str:
    told_of.append(arguments)
    if arguments["name"] == "bad":
        raise ValueError("no sentence for that")
    return f"Have a look at {arguments['name']}"


def test_tools_of_all_kinds_say_what_they_do_and_are_edited_or_not(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async def may_look(ctx: Any, arguments: dict[str, Any], call_id: str) -> bool:
        judged.append(arguments["name"])
        return True

    judged: list[str] = []
    told_of.clear()
    server = Fake(require_approval="always")

    @timestep.tool_options(describe=sentence)
    @function_tool(needs_approval=may_look)
    async def inspect(name: str) -> str:
        return f"{name} is new"

    helper = Agent(
        name="Helper", model=AnsweringModel(lambda items: [assistant_message(f"to {items}")])
    )
    calls: list[Any] = [
        function_call("inspect", {"name": "good"}, call_id="c1"),
        function_call("inspect", {"name": "bad"}, call_id="c2"),
        function_call("add", {"n": 1}, call_id="c3"),
        function_call("ask", {"input": "anything"}, call_id="c4"),
        shell_call("ls", "c5"),
    ]
    model = AnsweringModel(
        lambda items: [assistant_message(str(outputs(items)))] if outputs(items) else calls
    )
    shell: Any = ShellTool(executor=lambda request: "listed", needs_approval=True)
    agent = Agent(
        name="All",
        model=model,
        tools=[inspect, helper.as_tool("ask", "asks", needs_approval=True), shell],
        mcp_servers=[server],
    )
    outcome = started(app, agent)
    app.until(lambda: len(waiting()) == 5)
    asked = {one.call_id: one for one in waiting()}
    assert {id_: one.description for id_, one in asked.items()} == {
        "c1": "Have a look at good",
        **dict.fromkeys(("c2", "c3", "c4", "c5")),
    }
    assert "without a sentence" in caplog.text
    assert "no sentence for that" in caplog.text
    assert asked["c3"].arguments_schema["properties"] == {"n": {"type": "integer"}}
    assert asked["c5"].arguments_schema is None

    with pytest.raises(InvalidArgumentsError, match="add: n: 'one' is not of type 'integer'"):
        decide(edit={"c3": {"n": "one"}})
    with pytest.raises(InvalidInputError, match="what a shell call does"):
        decide(edit={"c5": {"commands": ["rm"]}})
    decide(
        edit={"c1": {"name": "mine"}, "c3": {"n": 2}, "c4": {"input": "it all"}},
        approve=["c2", "c5"],
    )
    told = outcome.result(timeout=60)
    assert "mine is new" in told
    assert "it all" in told
    assert ("add", {"n": 2}, None) in server.asked
    assert judged == ["good", "bad"], "not asked about what a person has seen"
    assert [one["name"] for one in told_of] == ["good", "bad"]
    assert app.replay("w") == told
    assert len(told_of) == 2, "not told anew"
    (call,) = [row for row in app.rows("tool_calls") if row["call_id"] == "c3"]
    assert call["tool_id"] is None
    asked_of = {row["call_id"]: row["arguments_schema"] for row in app.rows("interruptions")}
    assert [id_ for id_, schema in asked_of.items() if schema is not None] == ["c3"]


def test_a_provider_that_keeps_the_conversation_is_given_the_edited_calls_output(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = started(app, clerk(), conversation_id="conversation")
    app.until(lambda: len(waiting()) == 2)
    decide(edit={"c1": EDITED}, approve=["c3"])
    told = outcome.result(timeout=60)
    assert told == "c1: refunded 50 for o1 | c2: a is old | c3: refunded 100 for o2"
    assert shown == []
    assert "has it as its model made it" in caplog.text
    assert app.replay("w") == told


@output_guardrail
async def short(ctx: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


@pytest.mark.parametrize("kind", [timestep.DatabaseSession, SQLiteSession])
def test_a_session_that_is_given_the_turn_at_its_end_has_the_edited_call(
    app: App, kind: Any, tmp_path: Path
) -> None:
    session = kind("s") if kind is timestep.DatabaseSession else kind("s", tmp_path / "s.db")
    agent = clerk(output_guardrails=[short], tool_use_behavior={"stop_at_tool_names": ["refund"]})
    outcome = started(app, agent, session=session)
    app.until(lambda: len(waiting()) == 2)
    assert len(asyncio.run(session.get_items())) == 1
    decide(edit={"c1": EDITED}, approve=["c3"])
    assert outcome.result(timeout=60) == "refunded 50 for o1"
    kept = [item for item in asyncio.run(session.get_items()) if "arguments" in item]
    assert json.loads(kept[0]["arguments"]) == EDITED
    assert app.replay("w") == "refunded 50 for o1"


def test_what_checks_a_calls_arguments_checks_the_edited_ones(app: App) -> None:
    checked: list[Any] = []

    @tool_input_guardrail
    async def cheap(data: Any) -> ToolGuardrailFunctionOutput:
        cents = json.loads(data.context.tool_arguments)["cents"]
        checked.append(cents)
        if cents == 60:
            return ToolGuardrailFunctionOutput.reject_content("not sixty")
        return ToolGuardrailFunctionOutput.allow()

    @function_tool(needs_approval=True, tool_input_guardrails=[cheap])
    async def pay(cents: int) -> str:
        return f"paid {cents}"

    calls: list[Any] = [
        function_call("pay", {"cents": cents}, call_id=f"c{cents}") for cents in (5, 6)
    ]
    model = AnsweringModel(
        lambda items: [assistant_message(str(outputs(items)))] if outputs(items) else calls
    )
    before = RunConfig(tool_execution=ToolExecutionConfig(pre_approval_tool_input_guardrails=True))
    outcome = started(app, Agent(name="P", model=model, tools=[pay]), run_config=before)
    app.until(lambda: len(waiting()) == 2)
    decide(edit={"c5": {"cents": 50}, "c6": {"cents": 60}})
    told = "{'c5': 'paid 50', 'c6': 'not sixty'}"
    assert outcome.result(timeout=60) == told
    assert sorted(checked) == [5, 6, 50, 60]
    assert app.replay("w") == told
    assert len(checked) == 4
