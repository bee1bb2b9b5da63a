"""Whatever runs, people and providers say, a terminal obeys nothing of what commands print."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import json
import shlex
import socket
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from agents import Agent, UserError, function_tool
from agents.testing import assistant_message, function_call
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import timestep
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import App
from tests.support.hostile_text import ATTACK, TEXTS, obeyed
from timestep.cli import asking, listings, main, output, story
from timestep.host.banner import greet
from timestep.host.launch import Launched, Left
from timestep.operations.diagnosis import doctor
from timestep.operations.queries.records import (
    STATUSES,
    AgentDefinition,
    Interruption,
    Run,
    RunError,
    RunExecutor,
    RunItem,
    Session,
    SessionItem,
    ToolCall,
    UsageRow,
)

HOSTILE_ID = ATTACK + "'; touch x #"
MOMENT = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)

JSON = st.recursive(
    TEXTS | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
_OF_TYPE: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    str | None: TEXTS | st.none(),
    Any: JSON,
    bool: st.booleans(),
    bool | None: st.booleans() | st.none(),
    int: st.integers(0, 9),
    int | None: st.integers(0, 9) | st.none(),
    float | None: st.floats(0, 9) | st.none(),
    datetime.datetime: st.just(MOMENT),
    datetime.datetime | None: st.just(MOMENT) | st.none(),
    dict[str, Any]: st.dictionaries(TEXTS, JSON, max_size=3),
}


def made(kind: type[Any], **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Records of a kind with any text wherever there is text."""
    hints = get_type_hints(kind)
    names = [spec.name for spec in dataclasses.fields(kind)]
    strategies = {name: known[name] if name in known else _OF_TYPE[hints[name]] for name in names}
    return st.builds(kind, **strategies)


INTERRUPTIONS = made(Interruption)
RUNS = made(
    Run,
    status=st.sampled_from(STATUSES),
    error=made(RunError) | st.none(),
    cancel_reason=st.sampled_from(["cancelled", "timeout", "code", "abandoned", None]),
    usage=st.just(Run(None, None, None, "running").usage),
    total_usage=st.none(),
    interruptions=st.lists(INTERRUPTIONS, max_size=2),
    workflow=st.none(),
    executor=made(RunExecutor) | st.none(),
)
KINDS = ["tool_call_output_item", "handoff_output_item", "tool_call_item", "message_output_item"]
ITEMS = made(
    RunItem,
    item_type=st.sampled_from(KINDS),
    tool_call_id=st.just("call") | st.none(),
    item_data=st.dictionaries(st.sampled_from(["output", "content", "name"]), JSON) | JSON,
)
RAISED = st.fixed_dictionaries(
    {
        "followed_ms": st.none(),
        "error": st.fixed_dictionaries({"type": TEXTS, "message": TEXTS}),
    }
)
CALLS = made(
    ToolCall,
    id=st.just("call"),
    status=st.just("executed") | TEXTS,
    failed_attempts=st.none() | st.lists(RAISED, max_size=1),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    found=st.lists(RUNS, max_size=3),
    asked=st.lists(INTERRUPTIONS, max_size=2),
    items=st.lists(ITEMS, max_size=3),
    calls=st.lists(CALLS, max_size=1),
    text=TEXTS,
)
def test_nothing_of_a_record_is_obeyed(
    found: list[Run], asked: list[Interruption], items: list[RunItem], calls: list[ToolCall],
    text: str,
) -> None:  # fmt: skip
    def work() -> None:
        output.runs(found)
        output.approvals(asked)
        output.finding("check", "ok", text)
        output.say(text)
        output.say_lines(text)
        output.tell(text)
        output.document([found, items, calls, asked])
        for run in found:
            story.show(run, items, calls)
        for one in asked:
            asking.show_question(one, 1, 2)
        output.entry(text, output.said({"type": "function_call", "name": text, "arguments": text}))
        listings.sessions([Session(text, 1, MOMENT, MOMENT)])
        listings.session_items([SessionItem(0, text, text, {"content": text}, None, MOMENT)])
        names = [text, text]
        listings.agents(
            [AgentDefinition(text, 1, text, text, text, text, names, names, names, names, MOMENT)]
        )
        listings.usage([UsageRow(text, 1, 1, 1, 1, 1, 1, None, 1)] * 2, "agent")

    printed = captured(work)
    assert obeyed(printed) == []


def captured(work: Callable[[], None]) -> str:
    """What is printed."""
    with CliRunner().isolation() as (out, err, _):
        work()
        return out.getvalue().decode() + err.getvalue().decode()


def test_the_text_of_an_entry_looks_like_no_other_entry() -> None:
    item = RunItem("1", "r", 1, 1, "message_output_item", None, "A", None,
                   {"content": "hi\nTurn 2\n  ← delete: done\nAnswer  yes"}, MOMENT)  # fmt: skip
    run = Run("r", "w\nRun x", "n", "completed", final_output="no\nAnswer  yes", started_at=MOMENT)
    lines = captured(lambda: story.show(run, [item], [])).splitlines()
    assert [line for line in lines if line.startswith("Turn")] == ["Turn 1"]
    assert [line for line in lines if line.startswith(("Answer", "Run"))] == [
        "Run r  completed",
        "Answer  no",
    ]
    assert not any(line.startswith("  ←") for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [
        (ATTACK,),
        ("show", "\udcff\x1b[2J"),
        (f"--{ATTACK}",),
        ("runs", "--status", ATTACK),
        ("runs", "--limit", ATTACK),
        ("runs", ATTACK),
        ("runs", f"--{ATTACK}"),
        ("start", "x", "--input", ATTACK),
        ("start", ATTACK),
        ("resume", ATTACK, "--supply", "x", ATTACK),
        ("fork", ATTACK, "--turn", "1", "--input", ATTACK),
    ],
)
def test_errors_of_usage_are_harmless(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code in (1, 2)
    assert obeyed(result.output) == []
    assert "Error: " in result.output


def test_errors_of_commands_are_harmless(app: App) -> None:
    for arguments in (
        ("show", HOSTILE_ID),
        ("cancel", HOSTILE_ID),
        ("fork", HOSTILE_ID, "--turn", "1"),
        ("resume", HOSTILE_ID, "--approve", "all"),
        ("resume", HOSTILE_ID, "--from-checkpoint"),
    ):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1, result.output
        assert result.stderr.startswith("Error: "), result.stderr
        assert obeyed(result.output) == []
        assert len(result.output.splitlines()) == 1


def test_what_is_found_and_greeted_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = doctor.Finding("database", "problem", ATTACK)
    monkeypatch.setattr(doctor, "examine", lambda: [finding])
    result = CliRunner().invoke(main, ["doctor"])
    assert obeyed(result.output) == []

    left = [Left(HOSTILE_ID, is_gone, 1, HOSTILE_ID) for is_gone in (True, False)]
    launched = Launched({}, ATTACK, 1, 1, HOSTILE_ID, 1, 1, HOSTILE_ID, left)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        printed = captured(lambda: greet(launched, listener))
    assert obeyed(printed) == []
    assert "52;c;cm0gLXJmIH4=" in printed


@function_tool(needs_approval=True)
async def launch(target: str) -> str:
    return f"launched {target}"


@function_tool(failure_error_function=None)
async def explode() -> str:
    raise ValueError(ATTACK)


def test_a_hostile_run_is_shown_decided_forked_and_cancelled(app: App) -> None:
    """Its workflow's id, input, items, arguments and error hold what a terminal would obey."""

    def answer(items: list[Any]) -> list[Any]:
        if "c1" not in outputs(items):
            return [
                assistant_message(ATTACK),
                function_call("launch", {"target": ATTACK}, call_id="c1"),
            ]
        return [function_call("explode", {}, call_id=f"c2{ATTACK}")]

    agent = Agent(name=f"A{ATTACK}", model=AnsweringModel(answer), tools=[launch, explode])

    async def body() -> str:
        result = await timestep.run_agent(agent, ATTACK, on_interruption="return")
        assert result.interruptions
        state = result.to_state()
        state.approve(result.interruptions[0])
        await printed_of_waiting()
        return str((await timestep.run_agent(agent, state)).final_output)

    async def printed_of_waiting() -> None:
        for command in (["approvals"], ["show", HOSTILE_ID], ["runs"], ["approvals", "--json"]):
            text = harmless(await asyncio.to_thread(CliRunner().invoke, main, command))
            if command == ["approvals"]:
                told.append(text)
            if command == ["approvals", "--json"]:
                (asked,) = json.loads(text)["items"]
                assert (asked["workflow_id"], asked["arguments"]) == (
                    HOSTILE_ID,
                    {"target": ATTACK},
                )

    told: list[str] = []
    with pytest.raises(UserError, match="52;c"):
        app.run(body, workflow_id=HOSTILE_ID)
    assert "timestep resume $'\\033]52;" in told[0]
    for command, status in ((["show", HOSTILE_ID], 0), (["runs"], 0), (["cancel", HOSTILE_ID], 1)):
        text = harmless(CliRunner().invoke(main, command), status)
        assert "52;c" in text
    whole = json.loads(harmless(CliRunner().invoke(main, ["show", HOSTILE_ID, "--json"])))
    assert whole["run"]["input"] == ATTACK
    assert " ".join(ATTACK.split()) in whole["run"]["error"]["message"]
    forked = ["fork", HOSTILE_ID, "--turn", "1", "--id", f"f{HOSTILE_ID}"]
    harmless(CliRunner().invoke(main, forked))


def harmless(result: Result, status: int = 0) -> str:
    """What a command wrote that ended with a status."""
    assert result.exit_code == status, (result.output, result.exception)
    assert obeyed(result.output) == []
    return result.output


def test_the_printed_line_is_taken_apart_as_it_was_meant() -> None:
    asked = Interruption("7", "r", "-it's", "tool_approval", "needs_approval", "t", "c", {}, "A",
                         MOMENT, None, None, None, None, False, None)  # fmt: skip
    printed = captured(lambda: output.approvals([asked]))
    _, _, line = printed.rpartition("Decide:  ")
    assert shlex.split(line) == ["timestep", "resume", "--approve", "7", "--", "-it's"]
