"""What a tool's options and kinds mean for its calls, their rows, steps and replays."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    FunctionToolResult,
    RunContextWrapper,
    StopAtTools,
    ToolGuardrailFunctionOutput,
    ToolOutputFileContent,
    ToolOutputImage,
    ToolOutputText,
    ToolsToFinalOutputResult,
    function_tool,
    tool_input_guardrail,
    tool_output_guardrail,
)
from agents.exceptions import (
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
    ToolTimeoutError,
)
from agents.testing import ScriptedModel, assistant_message, function_call
from agents.tool_context import ToolContext
from pydantic import BaseModel

import timestep
from tests.support.dbos_app import App
from tests.support.passing_time import HOUR, pass_time
from timestep.errors import NotInToolCallError


def calling(*tools: Any, calls: list[Any] | None = None, **options: Any) -> Agent[Any]:
    """An agent whose model calls each tool once, side by side, and says what they gave."""
    asked = calls or [
        function_call(tool.name, {}, call_id=f"c{n}") for n, tool in enumerate(tools, 1)
    ]

    return Agent(
        name="A",
        model=ScriptedModel([asked, [assistant_message("done")]]),
        tools=list(tools),
        **options,
    )


def twice(app: App, make: Callable[[], Awaitable[Any]]) -> str:
    """What a workflow gives; its replay must give the same and change no row and no step."""
    first = app.run(make, workflow_id="w")
    rows, steps = app.everything(), app.steps("w")
    assert app.replay("w") == first
    assert app.everything() == rows
    assert app.steps("w") == steps
    return first


def run_of(agent: Agent[Any], **options: Any) -> Callable[[], Awaitable[str]]:
    """A workflow's body: what a run ended with."""
    model = agent.model
    assert isinstance(model, ScriptedModel)

    async def body() -> str:
        try:
            result = await timestep.DurableRunner.run(agent, "hi", **options)
        except Exception as error:  # noqa: BLE001  # told to the test
            return f"{type(error).__name__}: {error}"
        items = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
        return f"{result.final_output} {items}"

    return body


def outcomes(app: App) -> list[tuple[Any, ...]]:
    return [
        (row["call_id"], row["status"], row["attempts"], row["is_error"])
        for row in app.rows("tool_calls", "call_id")
    ]


# Attempts


class Flaky(Exception):
    """Raised by a tool that works the next time."""


def test_a_body_that_raises_is_tried_again_in_its_one_step(app: App) -> None:
    keys: list[str] = []
    pauses: list[float] = []

    @timestep.tool_options(retries=2, retry_delay=0.01, retry_backoff=1)
    @function_tool
    async def works_at_last() -> str:
        keys.append(timestep.idempotency_key())
        pauses.append(asyncio.get_running_loop().time())
        if len(keys) < 3:
            raise Flaky
        return "worked"

    assert twice(app, run_of(calling(works_at_last))) == "done ['worked']"
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert all(b - a >= 0.01 for a, b in itertools.pairwise(pauses))
    assert outcomes(app) == [("c1", "executed", 3, False)]
    assert app.steps("w") == ["turn 1: A", "tool: works_at_last (c1)", "turn 2: A"]


def test_the_sdk_sees_only_the_last_failure(app: App) -> None:
    told: list[str] = []
    made: list[int] = []

    def tell(ctx: Any, error: Exception) -> str:
        told.append(str(error))
        return f"sorry: {error}"

    @timestep.tool_options(retries=1, retry_delay=0)
    @function_tool(failure_error_function=tell)
    def never_works() -> str:
        made.append(1)
        raise Flaky(f"attempt {len(made)}")

    assert twice(app, run_of(calling(never_works))) == "done ['sorry: attempt 2']"
    assert told == ["attempt 2"]
    assert outcomes(app) == [("c1", "executed", 2, False)]


def test_a_failure_that_nobody_answers_ends_the_run_after_its_attempts(app: App) -> None:
    @timestep.tool_options(retries=1, retry_delay=0)
    @function_tool(failure_error_function=None)
    async def never_works() -> str:
        raise Flaky("no")

    assert twice(app, run_of(calling(never_works))).startswith("UserError: Error running tool")
    assert outcomes(app) == [("c1", "failed", 2, False)]


def test_only_what_may_help_is_tried_again(app: App) -> None:
    made: list[str] = []

    @timestep.tool_options(retries=3, retry_delay=0, retry_on=(Flaky,))
    @function_tool
    async def other_error() -> str:
        made.append("other_error")
        raise OSError

    @timestep.tool_options(retries=3, retry_delay=0)
    @function_tool
    async def wants_a_number(n: int) -> str:
        made.append("wants_a_number")
        return str(n)

    twice(app, run_of(calling(other_error, wants_a_number)))
    assert made == ["other_error"]
    assert outcomes(app) == [("c1", "executed", 1, True), ("c2", "executed", 1, True)]


def test_an_attempt_that_takes_too_long_fails_and_the_next_may_work(app: App) -> None:
    made: list[int] = []

    @timestep.tool_options(retries=1, retry_delay=0, timeout=HOUR, retry_on=(ToolTimeoutError,))
    @function_tool
    async def slow_once() -> str:
        made.append(1)
        if len(made) == 1:
            pass_time()
            await asyncio.Event().wait()
        return "in time"

    assert twice(app, run_of(calling(slow_once))) == "done ['in time']"
    assert outcomes(app) == [("c1", "executed", 2, False)]


def test_a_tool_that_must_not_be_repeated_is_not_after_a_timeout(app: App) -> None:
    made: list[int] = []

    @timestep.tool_options(safe_to_repeat=False, retries=3, retry_delay=0, timeout=HOUR)
    @function_tool(failure_error_function=lambda ctx, error: f"{type(error).__name__}")
    async def slow() -> str:
        made.append(1)
        pass_time()
        await asyncio.Event().wait()
        return ""

    assert twice(app, run_of(calling(slow))) == "done ['ToolTimeoutError']"
    assert made == [1]


async def interrupted_badly(made: list[int]) -> None:
    """A body that hangs, and raises something of its own when it is cancelled."""
    made.append(1)
    pass_time()
    try:
        await asyncio.Event().wait()
    finally:
        raise ConnectionResetError("closing failed")


def test_nor_is_it_where_its_timeout_made_it_raise_something_else(app: App) -> None:
    made: list[int] = []

    @timestep.tool_options(safe_to_repeat=False, retries=3, retry_delay=0, timeout=HOUR)
    @function_tool(failure_error_function=None)
    async def send() -> None:
        await interrupted_badly(made)

    assert "timed out" in twice(app, run_of(calling(send)))
    assert len(made) == 1


def test_what_a_cancelled_call_raises_is_no_reason_for_another_attempt(app: App) -> None:
    made: list[int] = []

    @timestep.tool_options(retries=3, retry_delay=0)
    @function_tool
    async def send() -> None:
        await interrupted_badly(made)

    assert twice(app, run_of(calling(send), timeout=HOUR)).startswith("RunTimeoutError")
    assert len(made) == 1


def test_a_tool_made_by_hand_is_tried_again_and_keeps_its_context(app: App) -> None:
    seen: list[str] = []

    async def invoke(ctx: RunContextWrapper[Any], arguments: str) -> str:
        seen.append(type(ctx).__name__)
        if len(seen) == 1:
            raise Flaky
        return arguments

    tool = timestep.tool_options(retries=1, retry_delay=0)(
        FunctionTool(
            name="by_hand",
            description="",
            params_json_schema={"type": "object", "properties": {}, "additionalProperties": False},
            on_invoke_tool=invoke,
        )
    )
    assert twice(app, run_of(calling(tool))) == "done ['{}']"
    assert seen == ["RunContextWrapper", "RunContextWrapper"]
    assert outcomes(app) == [("c1", "executed", 2, False)]


@pytest.mark.parametrize("behavior", ["error_as_result", "raise_exception"])
def test_the_sdks_own_timeout_works_and_replays(app: App, behavior: Any) -> None:
    @function_tool(timeout=HOUR, timeout_behavior=behavior)
    async def slow() -> str:
        pass_time()
        await asyncio.Event().wait()
        return ""

    answer = twice(app, run_of(calling(slow)))
    text = "Tool 'slow' timed out after 3600 seconds."
    if behavior == "error_as_result":
        assert answer == f"done {[text]}"
        assert outcomes(app) == [("c1", "executed", 1, True)]
    else:
        assert answer == f"ToolTimeoutError: {text}"
        assert outcomes(app) == [("c1", "failed", 1, False)]


def test_the_sdks_timeout_is_the_limit_of_all_attempts(app: App) -> None:
    @timestep.tool_options(retries=1000, retry_delay=0.01, retry_backoff=1)
    @function_tool(timeout=0.1)
    async def never_works() -> str:
        raise Flaky

    assert "timed out after 0.1 seconds" in twice(app, run_of(calling(never_works)))


# Keys


def test_a_key_is_a_calls_own_in_threads_too(app: App) -> None:
    keys: dict[str, str] = {}

    @function_tool
    def in_a_thread() -> str:
        keys["thread"] = timestep.idempotency_key()
        return ""

    @function_tool
    async def on_the_loop() -> str:
        keys["loop"] = await asyncio.create_task(_key_in_a_task())
        return ""

    twice(app, run_of(calling(in_a_thread, on_the_loop)))
    rows = app.rows("tool_calls", "call_id")
    assert [keys["thread"], keys["loop"]] == [str(row["id"]) for row in rows]


async def _key_in_a_task() -> str:
    return timestep.idempotency_key()


def test_outside_a_call_there_is_no_key(app: App) -> None:
    with pytest.raises(NotInToolCallError, match="body of a tool"):
        timestep.idempotency_key()

    @tool_input_guardrail
    async def asks(data: Any) -> ToolGuardrailFunctionOutput:
        timestep.idempotency_key()
        return ToolGuardrailFunctionOutput.allow()

    @function_tool(tool_input_guardrails=[asks])
    async def guarded() -> str:
        return ""

    assert twice(app, run_of(calling(guarded))).endswith(str(NotInToolCallError()))


# Kinds of function tools


class Point(BaseModel):
    x: int
    y: float


def test_what_a_tool_gives_is_replayed_as_it_was(app: App) -> None:
    @function_tool
    async def model() -> Point:
        return Point(x=1, y=2.0)

    @function_tool
    def some_bytes(ctx: RunContextWrapper[Any]) -> bytes:
        return b"\x00\xff"

    @function_tool
    async def big(ctx: ToolContext[Any]) -> str:
        return f"{ctx.tool_call_id} " + "x" * 1_000_000

    @function_tool
    async def parts() -> list[Any]:
        return [
            ToolOutputText(text="a"),
            ToolOutputImage(image_url="http://image"),
            ToolOutputFileContent(file_id="f1"),
        ]

    def extract(context: Any) -> dict[str, Any]:
        return {"seen": type(context.output).__name__}

    @function_tool(custom_data_extractor=extract)
    async def with_data() -> dict[str, Any]:
        return {"b": 1, "a": 2.0}

    agent = calling(model, some_bytes, big, parts, with_data)

    async def body() -> str:
        result = await timestep.DurableRunner.run(agent, "hi")
        items = [item for item in result.new_items if item.type == "tool_call_output_item"]
        return repr([(item.output, item.custom_data, item.raw_item) for item in items])

    told = twice(app, body)
    assert "Point(x=1, y=2.0)" in told
    assert "{'seen': 'dict'}" in told
    assert "{'b': 1, 'a': 2.0}" in told
    assert "ToolOutputImage(" in told
    rows = {row["tool_name"]: row for row in app.rows("tool_calls")}
    assert {row["status"] for row in rows.values()} == {"executed"}
    assert len(rows["big"]["output"]) == 1_000_003
    items = {
        row["item_data"]["call_id"]: row["item_data"]["output"]
        for row in app.rows("run_items")
        if row["item_type"] == "tool_call_output_item"
    }
    assert [part["type"] for part in items["c4"]] == ["input_text", "input_image", "input_file"]


@pytest.mark.parametrize("kind", ["input", "output"])
def test_guardrails_of_a_tool_decide_alike_on_replay(app: App, kind: str) -> None:
    made: list[str] = []
    answers = {
        "allowed": ToolGuardrailFunctionOutput.allow({"n": 1}),
        "refused": ToolGuardrailFunctionOutput.reject_content("not that", [2]),
    }

    async def check(data: Any) -> ToolGuardrailFunctionOutput:
        made.append(f"check {data.context.tool_name}")
        return answers[data.context.tool_name]

    guards: dict[str, Any] = (
        {"tool_input_guardrails": [tool_input_guardrail(check)]}
        if kind == "input"
        else {"tool_output_guardrails": [tool_output_guardrail(check)]}
    )

    @function_tool(**guards)  # type: ignore[untyped-decorator]  # options as a dict
    async def allowed() -> str:
        made.append("allowed")
        return "fine"

    @function_tool(**guards)  # type: ignore[untyped-decorator]  # options as a dict
    async def refused() -> str:
        made.append("refused")
        return "secret"

    assert twice(app, run_of(calling(allowed, refused))) == "done ['fine', 'not that']"
    assert made.count("check allowed") == made.count("check refused") == 1
    assert ("refused" in made) == (kind == "output")
    status = "rejected" if kind == "input" else "executed"
    assert [(call, s) for call, s, *_ in outcomes(app)] == [("c1", "executed"), ("c2", status)]
    shown = [
        row["item_data"]["output"]
        for row in app.rows("run_items", "position")
        if row["item_type"] == "tool_call_output_item"
    ]
    assert shown == ["fine", "not that"]
    assert len([name for name in app.steps("w") if f"tool {kind} guardrail" in name]) == 2


@pytest.mark.parametrize("kind", ["input", "output"])
def test_a_guardrail_of_a_tool_that_raises_ends_the_run_alike(app: App, kind: str) -> None:
    async def check(data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.raise_exception("alarm")

    guards: dict[str, Any] = (
        {"tool_input_guardrails": [tool_input_guardrail(check)]}
        if kind == "input"
        else {"tool_output_guardrails": [tool_output_guardrail(check)]}
    )

    @function_tool(**guards)  # type: ignore[untyped-decorator]  # options as a dict
    async def guarded() -> str:
        return "done"

    error = (
        ToolInputGuardrailTripwireTriggered
        if kind == "input"
        else ToolOutputGuardrailTripwireTriggered
    )
    assert twice(app, run_of(calling(guarded))).startswith(error.__name__)
    (run,) = app.rows("runs")
    assert (run["status"], run["error_type"]) == ("failed", error.__name__)


def decide(ctx: RunContextWrapper[Any], results: list[FunctionToolResult]) -> Any:
    outputs = [str(result.output) for result in results]
    return ToolsToFinalOutputResult(is_final_output=True, final_output="+".join(outputs))


@pytest.mark.parametrize(
    ("behavior", "answer"),
    [
        ("stop_on_first_tool", "one"),
        (StopAtTools(stop_at_tool_names=["second"]), "two"),
        (decide, "one+two"),
    ],
)
def test_a_run_that_ends_with_a_tools_output_replays(app: App, behavior: Any, answer: str) -> None:
    @function_tool
    async def first() -> str:
        return "one"

    @function_tool
    async def second() -> str:
        return "two"

    agent = calling(first, second, tool_use_behavior=behavior)
    assert twice(app, run_of(agent)) == f"{answer} ['one', 'two']"
    (run,) = app.rows("runs")
    assert (run["status"], run["final_output"], run["current_turn"]) == ("completed", answer, 1)
    assert app.steps("w") == ["turn 1: A", "tool: first (c1)", "tool: second (c2)"]


def test_arguments_that_are_not_json_are_told_to_the_model_alike(app: App) -> None:
    @function_tool
    async def wants(n: int) -> str:
        return str(n)

    call: Any = function_call("wants", {"n": 1}, call_id="c1")
    call.arguments = "{"
    twice(app, run_of(calling(wants, calls=[call])))
    assert outcomes(app) == [("c1", "executed", 1, True)]
