"""What a run asks, as it is recorded, and what people's decisions do to it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, HostedMCPTool, function_tool
from agents.testing import assistant_message, function_call
from dbos import DBOS, SetWorkflowID
from openai.types.responses.response_output_item import McpApprovalRequest

import timestep
from tests.support import forked_processes
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import BODIES, App
from tests.support.decisions import decide, waiting
from tests.support.host_process import Host, own_host
from tests.support.passing_time import HOUR
from timestep.errors import AlreadyResolvedError, ConfigurationError, UnknownInterruptionError

__all__ = ["own_host"]

DONE: list[str] = []


@function_tool(needs_approval=True)
async def delete(name: str) -> str:
    DONE.append(name)
    return f"deleted {name}"


async def is_dear(context: Any, arguments: dict[str, Any], call_id: str) -> bool:
    return bool(arguments["cents"] > 100)


@function_tool(needs_approval=is_dear)
async def pay(cents: int) -> str:
    DONE.append(f"pay {cents}")
    return f"paid {cents}"


def asking(name: str, *turns: list[Any], tools: list[Any]) -> Agent[Any]:
    """An agent that makes the calls of each turn, and then tells what they gave."""

    def answer(items: list[Any]) -> list[Any]:
        told = outputs(items)
        for calls in turns:
            if not all(call.call_id in told for call in calls):
                return calls
        return [assistant_message(" / ".join(map(str, told.values())))]

    return Agent(name=name, model=AnsweringModel(answer), tools=tools)


def remove(name: str, call_id: str) -> Any:
    return function_call("delete", {"name": name}, call_id=call_id)


def running(app: App, body: Any, workflow_id: str = "w") -> Callable[[], str]:
    """Start a workflow; what is returned waits for its result."""
    DONE.clear()
    BODIES[workflow_id] = body
    with SetWorkflowID(workflow_id):
        app.started(workflow_id)
    return lambda: str(DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02))


def agent_running(app: App, agent: Agent[Any], **options: Any) -> Callable[[], str]:
    async def body() -> str:
        return str((await timestep.run_agent(agent, "go", **options)).final_output)

    return running(app, body)


def asked(app: App, *call_ids: str) -> list[timestep.Interruption]:
    """What waits, once it is just these calls."""
    app.until(lambda: [one.call_id for one in waiting()] == list(call_ids))
    return waiting()


def test_a_question_and_all_that_belongs_to_it_are_written_at_once(app: App) -> None:
    agent = asking(
        "Operator",
        [
            remove("a", "c1"),
            function_call("pay", {"cents": 101}, call_id="c2"),
            function_call("pay", {"cents": 99}, call_id="c3"),
        ],
        tools=[delete, pay],
    )
    result = agent_running(app, agent)
    first, second = asked(app, "c1", "c2")
    assert (first.type, first.reason, first.agent_name) == (
        "tool_approval",
        "needs_approval",
        "Operator",
    )
    assert (second.tool_name, second.arguments) == ("pay", {"cents": 101})
    statuses = {call["call_id"]: call["status"] for call in app.rows("tool_calls")}
    assert statuses == {"c1": "pending", "c2": "pending", "c3": "executed"}
    # The transaction that wrote a row's newest version.
    found = app.execute(
        """SELECT array_agg(DISTINCT i.xmin::text), r.xmin::text, s.xmin::text, r.status,
            s.encoding, s.state_data #>> '{current_step,type}'
        FROM interruptions i JOIN runs r ON r.id = i.run_id
        JOIN run_states s ON s.run_id = r.id AND s.is_active AND s.state_type = 'interrupted'
        GROUP BY r.id, r.xmin, s.id, s.xmin"""
    ).fetchall()
    ((questions, run, state, status, encoding, step),) = found
    assert questions == [run] == [state]
    assert (status, encoding) == ("interrupted", "whole")
    assert step == "next_step_interruption"
    decide(approve="all", by="ann")
    assert result() == "paid 99 / deleted a / paid 101"


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_always_is_for_the_later_calls_of_a_tool(app: App, action: str) -> None:
    agent = asking(
        "Operator",
        [remove("a", "c1")],
        [remove("b", "c2"), function_call("pay", {"cents": 101}, call_id="c3")],
        [remove("c", "c4")],
        tools=[delete, pay],
    )
    result = agent_running(app, agent)
    asked(app, "c1")
    decide(**{action: ["c1"]}, always=True, message="never", by="ann")
    asked(app, "c3")
    decide(approve=["c3"])
    said = result()
    if action == "approve":
        assert said == "deleted a / deleted b / paid 101 / deleted c"
    else:
        assert sorted(said.split(" / ")) == ["never", "never", "never", "paid 101"]
        assert DONE == ["pay 101"]
    status = "executed" if action == "approve" else "rejected"
    calls = {call["call_id"]: call["status"] for call in app.rows("tool_calls")}
    assert calls == {"c1": status, "c2": status, "c3": "executed", "c4": status}
    assert [
        (row["call_id"], row["resolution_always"], row["resolved_by"])
        for row in app.rows("interruptions", "created_at")
    ] == [("c1", True, "ann"), ("c3", False, None)]
    done = list(DONE)
    assert app.replay("w") == said
    assert done == DONE


@pytest.mark.parametrize("order", [("c1", "c2"), ("c2", "c1")])
@pytest.mark.parametrize("action", ["approve", "reject"])
def test_always_for_one_of_two_leaves_the_other_as_it_was_decided(
    app: App, action: str, order: tuple[str, str]
) -> None:
    agent = asking(
        "Operator", [remove("c1", "c1"), remove("c2", "c2")], [remove("c3", "c3")], tools=[delete]
    )
    result = agent_running(app, agent)
    asked(app, "c1", "c2")
    one, other = order
    contrary = "reject" if action == "approve" else "approve"
    decide(**{action: [one]}, always=True, message="no")
    decide(**{contrary: [other]}, message="no")
    said = result()
    assert sorted(DONE) == sorted([one, "c3"] if action == "approve" else [other])
    assert len(app.rows("interruptions")) == 2
    assert app.replay("w") == said


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_always_holds_inside_runs_of_the_third_depth(app: App, action: str) -> None:
    third = asking("Third", [remove("a", "i1")], [remove("b", "i2")], tools=[delete])
    second = asking(
        "Second",
        [function_call("third", {"input": "x"}, call_id="m1")],
        tools=[third.as_tool("third", "Third.")],
    )
    first = asking(
        "First",
        [function_call("second", {"input": "x"}, call_id="c1")],
        [remove("c", "c2")],
        tools=[second.as_tool("second", "Second."), delete],
    )
    result = agent_running(app, first, approval_timeout=3600.0)
    (one,) = asked(app, "i1")
    assert one.agent_name == "Third"
    assert one.expires_at is not None
    # Each run stops in a transaction of its own, the innermost first.
    app.until(lambda: {row["status"] for row in app.rows("runs")} == {"interrupted"})
    states = [row for row in app.rows("run_states") if row["is_active"]]
    assert [row["state_type"] for row in states] == ["interrupted"] * 3
    decide(**{action: "all"}, always=True, message="never")
    asked(app, "c2")
    decide(approve=["c2"])
    said = result()
    inside = "deleted a / deleted b" if action == "approve" else "never / never"
    assert said == f"{inside} / deleted c"
    assert app.replay("w") == said


@pytest.mark.parametrize("action", ["approve", "reject"])
def test_always_holds_for_hosted_mcp_tools(app: App, action: str) -> None:
    def request(id_: str) -> Any:
        return McpApprovalRequest(
            id=id_,
            arguments="{}",
            name="search",
            server_label="docs",
            type="mcp_approval_request",
        )

    def answer(items: list[Any]) -> list[Any]:
        told = [i for i in items if i.get("type") == "mcp_approval_response"]
        if len(told) == 2:
            return [assistant_message(str([one["approve"] for one in told]))]
        return [request(f"m{len(told) + 1}")]

    tool = HostedMCPTool(
        tool_config={
            "type": "mcp",
            "server_label": "docs",
            "server_url": "https://docs.example",
            "require_approval": "always",
        }
    )
    result = agent_running(app, Agent(name="Reader", model=AnsweringModel(answer), tools=[tool]))
    asked(app, "m1")
    decide(**{action: ["m1"]}, always=True)
    said = result()
    assert said == str([action == "approve"] * 2)
    assert len(app.rows("interruptions")) == 1
    assert len(app.rows("tool_calls")) == 2
    assert app.replay("w") == said


def test_two_runs_of_a_workflow_may_ask_about_calls_of_one_id(app: App) -> None:
    def agent(name: str) -> Agent[Any]:
        return asking(name, [remove(name, "c1")], tools=[delete])

    async def body() -> str:
        runs = (timestep.run_agent(agent(name), "go") for name in ("Ann", "Bob"))
        return " and ".join([str(one.final_output) for one in await asyncio.gather(*runs)])

    result = running(app, body)
    ann, bob = sorted(asked(app, "c1", "c1"), key=lambda one: str(one.agent_name))
    with pytest.raises(UnknownInterruptionError, match="'c1' is more than one of"):
        decide(approve=["c1"])
    assert decide(reject=[ann.id], message="not Ann").pending == [bob.id]
    # It is the only one left of that id.
    assert decide(approve=["c1"]).resolved == [bob.id]
    assert result() == "not Ann and deleted Bob"
    assert DONE == ["Bob"]


def test_some_of_several_are_decided_and_all_means_the_rest(app: App) -> None:
    agent = asking(
        "Operator", [remove("a", "c1"), remove("b", "c2"), remove("c", "c3")], tools=[delete]
    )
    result = agent_running(app, agent)
    one, two, three = asked(app, "c1", "c2", "c3")
    assert decide().pending == [one.id, two.id, three.id]
    answer = decide(reject=[two.id], message="keep b")
    assert (answer.resolved, answer.pending) == ([two.id], [one.id, three.id])
    assert [row["status"] for row in app.rows("runs")] == ["interrupted"]
    assert {row["status"] for row in app.rows("tool_calls")} == {"pending", "rejected"}
    for bad in ({"approve": [one.id, "nope"]}, {"approve": [one.id, two.id]}):
        with pytest.raises((UnknownInterruptionError, AlreadyResolvedError)):
            decide(**bad)
    assert [left.id for left in waiting()] == [one.id, three.id]
    answer = decide(approve=["all"])
    assert (answer.resolved, answer.pending) == ([one.id, three.id], [])
    assert result() == "deleted a / keep b / deleted c"


def test_a_second_decision_that_asks_for_more_is_refused(app: App) -> None:
    agent = asking("Operator", [remove("a", "c1"), remove("b", "c2")], tools=[delete])
    result = agent_running(app, agent)
    asked(app, "c1", "c2")
    decide(supply={"c1": {"gone": 1}}, by="ann")
    assert len(decide(supply={"c1": {"gone": 1}}).resolved) == 1
    with pytest.raises(AlreadyResolvedError, match="decided already: supply by ann"):
        decide(supply={"c1": "other"})
    decide(approve=["c2"], by="bob")
    with pytest.raises(AlreadyResolvedError, match="decided already: approve by bob"):
        decide(approve=["c2"], always=True)
    assert result() == "{'gone': 1} / deleted b"


def test_only_what_nobody_decided_in_time_is_rejected(app: App) -> None:
    agent = asking("Operator", [remove("a", "c1"), remove("b", "c2")], tools=[delete])
    result = agent_running(app, agent, approval_timeout=HOUR)
    first, _ = asked(app, "c1", "c2")
    assert first.expires_at is not None
    assert (first.expires_at - first.created_at).total_seconds() == HOUR
    decide(approve=["c1"], by="ann")
    app.execute("UPDATE interruptions SET expires_at = now() WHERE call_id = 'c2'")
    assert result() == "deleted a / Nobody decided in time."
    rows = app.rows("interruptions")
    assert {(row["call_id"], row["resolved_by"], row["resolution_message"]) for row in rows} == {
        ("c1", "ann", None),
        ("c2", "timeout", "Nobody decided in time."),
    }
    assert app.replay("w") == "deleted a / Nobody decided in time."


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), True])
def test_a_time_for_approvals_that_cannot_be_is_refused(app: App, seconds: Any) -> None:
    async def body() -> str:
        await timestep.run_agent(asking("Operator", tools=[]), "go", approval_timeout=seconds)
        return "not refused"

    with pytest.raises(ConfigurationError, match=r"approval_timeout .* is not a positive number"):
        app.run(body)
    assert app.rows("runs") == []


def test_what_is_decided_while_no_host_runs_is_applied_at_its_return(
    own_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_id = own_host.start().begin("ask", target="moon")
    own_host.run_when(workflow_id, "interrupted")
    own_host.close()
    monkeypatch.setenv("TIMESTEP_DB_URL", own_host.database)
    answer = timestep.resume_workflow_sync(workflow_id, reject="all", message="no moon", by="ann")
    assert (len(answer.resolved), answer.pending) == (1, [])
    own_host.start()
    assert own_host.output(workflow_id) == "[offline model] no moon"
    (row,) = own_host.rows("SELECT status, completed_at FROM tool_calls")
    assert (row["status"], row["completed_at"] is None) == ("rejected", False)


ROUNDS = 25


PERSON = """
import json, sys, time
from pathlib import Path
import timestep
from timestep.errors import AlreadyResolvedError

folder, who, other, action, rounds = Path(sys.argv[1]), *sys.argv[2:5], int(sys.argv[5])
timestep.resume_workflow_sync("w")  # It has a connection from now on.
for number in range(rounds):
    (folder / f"{who} {number}").touch()
    while not (folder / f"{other} {number}").exists():
        time.sleep(0)
    told = None
    try:
        timestep.resume_workflow_sync("w", **{action: [f"c{number}"]}, by=who)
    except AlreadyResolvedError as error:
        told = str(error)
    print(json.dumps([number, who, told]))
"""
"""Somebody who decides each call at the same moment as another one."""


def test_of_two_processes_that_decide_at_once_one_is_told_that_it_lost(
    app: App, tmp_path: Path
) -> None:
    calls = [remove(str(number), f"c{number}") for number in range(ROUNDS)]
    result = agent_running(app, asking("Operator", calls, tools=[delete]))
    asked(app, *(call.call_id for call in calls))
    environment = {**os.environ, "TIMESTEP_DB_URL": app.url}
    told: dict[int, dict[str, str | None]] = {}
    people = [("ann", "bob", "approve"), ("bob", "ann", "reject")]
    with ThreadPoolExecutor(len(people)) as pool:

        def decisions(person: tuple[str, ...]) -> str:
            arguments = (str(tmp_path), *person, str(ROUNDS))
            done = forked_processes.run("-c", PERSON, *arguments, env=environment)
            assert done.returncode == 0, done.stderr
            return done.stdout

        for said in pool.map(decisions, people):
            for line in said.splitlines():
                number, who, error = json.loads(line)
                told.setdefault(number, {})[who] = error
    winners = {}
    for number, errors in told.items():
        (winner,) = [who for who, error in errors.items() if error is None]
        (loser_told,) = [error for error in errors.values() if error is not None]
        assert loser_told.endswith(f"by {winner}")
        winners[f"c{number}"] = winner
    rows = {row["call_id"]: row for row in app.rows("interruptions")}
    assert {call_id: row["resolved_by"] for call_id, row in rows.items()} == winners
    for row in rows.values():
        expected = "approve" if row["resolved_by"] == "ann" else "reject"
        assert row["resolution_action"] == expected
    result()
    approved = sorted(call_id for call_id, who in winners.items() if who == "ann")
    assert sorted(f"c{name}" for name in DONE) == approved
    statuses = {"ann": "executed", "bob": "rejected"}
    assert {row["call_id"]: row["status"] for row in app.rows("tool_calls")} == {
        call_id: statuses[who] for call_id, who in winners.items()
    }
