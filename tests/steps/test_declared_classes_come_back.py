"""What an application's own code names comes back as it was; what it does not is text at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    RunContextWrapper,
    Runner,
    function_tool,
    input_guardrail,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from click.testing import CliRunner
from dbos import DBOS
from pydantic import BaseModel

import timestep
from tests.support.dbos_app import App, host_starts
from timestep.cli import main
from timestep.serialization.registered_types import registered, type_path


@dataclass
class Line:
    name: str


@dataclass
class Order:
    lines: list[Line]


@dataclass
class Basket:
    orders: list[Any] = field(default_factory=list)


@dataclass
class Secret:
    x: int


@dataclass
class Gone:
    x: int


class Verdict(BaseModel):
    is_rude: bool


class Summary(BaseModel):
    text: str


@function_tool
async def order(context: RunContextWrapper[Any]) -> Order | None:
    context.context.orders.append(Line("of the context"))
    return Order([Line("a")])


def hidden() -> Any:
    return Secret(7)


@function_tool
async def unannotated() -> Any:
    return hidden()


@function_tool
async def lose() -> Any:
    return hidden()


judge = Agent(
    name="Judge",
    model=ScriptedModel([[assistant_message('{"is_rude": false}')]] * 3),
    output_type=Verdict,
)


@input_guardrail
async def polite(
    context: RunContextWrapper[Any], agent: Agent[Any], given: Any
) -> GuardrailFunctionOutput:
    result = await Runner.run(judge, given, context=context.context)
    return GuardrailFunctionOutput(result.final_output, tripwire_triggered=False)


def calling(*names: str, **options: Any) -> Agent[Any]:
    calls = [function_call(name, {"input": "x"}, call_id=name) for name in names]
    return Agent(name="A", model=ScriptedModel([calls, [assistant_message("ok")]] * 2), **options)


def test_what_agents_and_their_functions_name_comes_back(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    summarizer = Agent(
        name="S",
        model=ScriptedModel([[assistant_message('{"text": "t"}')]] * 2),
        output_type=Summary,
    )
    inner = summarizer.as_tool("summarize", "Summarizes.")
    agent = calling(
        "order",
        "unannotated",
        "summarize",
        tools=[order, unannotated, inner],
        input_guardrails=[polite],
    )
    seen: list[Any] = []

    async def body() -> str:
        timestep.install()
        basket = Basket()
        result = await timestep.DurableRunner.run(agent, "go", context=basket)
        given = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
        checks = [check.output.output_info for check in result.input_guardrail_results]
        seen.append((given, checks, basket))
        return "done"

    with caplog.at_level(logging.WARNING, "timestep"):
        app.run(body, "w")
        told = [one.getMessage() for one in caplog.records if "as its text" in one.getMessage()]
        app.replay("w")
    outputs = [Order([Line("a")]), "Secret(x=7)", Summary(text="t")]
    assert seen == [(outputs, [Verdict(is_rude=False)], Basket([Line("of the context")]))] * 2
    (line,) = told
    assert f"{__name__}:Secret" in line
    assert "timestep.register_type" in line
    # They are known to the run that declares them, and to no other.
    assert registered(type_path(Order)) is None


def test_a_run_whose_class_is_not_known_here_waits_for_a_process_that_has_it(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    agent = calling("lose", tools=[lose])

    async def body() -> str:
        return str((await timestep.DurableRunner.run(agent, "go")).final_output)

    app.run(body, "w")
    with psycopg.connect(app.url) as connection:
        connection.execute(
            "UPDATE tool_calls SET output_text = NULL, output = jsonb_build_object("
            "'$type', %s::text, 'value', '{\"x\": 7}'::jsonb)",
            (type_path(Gone),),
        )
    with pytest.raises(AssertionError, match=r"Gone.*timestep\.register_type"):
        app.replay("w")
    # As where its process died before it ended.
    app.execute("UPDATE runs SET status = 'running', completed_at = NULL")
    app.execute(
        "UPDATE dbos.workflow_status SET status = 'PENDING', output = NULL, error = NULL "
        "WHERE workflow_uuid = 'w'"
    )
    with caplog.at_level(logging.WARNING, "timestep"):
        DBOS._recover_pending_workflows()
        app.until(lambda: "'w' is left here" in caplog.text)
    assert "timestep.register_type" in caplog.text
    status = "SELECT status FROM dbos.workflow_status WHERE workflow_uuid = 'w'"
    app.until(lambda: app.execute(status).fetchone() == ("DELAYED",))
    for command in (["show", "w"], ["runs"]):
        said = " ".join(CliRunner().invoke(main, command).output.split())
        assert "w: lacks something: " in said
        assert "test_declared_classes_come_back:Gone" in said.replace(" ", "")
    assert "running (lacks something)" in said
    assert host_starts() == 1
    # It is not known here yet.
    app.until(lambda: caplog.text.count("'w' is left here") == 2)
    app.until(lambda: app.execute(status).fetchone() == ("DELAYED",))
    timestep.register_type(Gone)
    assert host_starts() == 1
    assert DBOS.retrieve_workflow("w").get_result(polling_interval_sec=0.02) == "ok"
