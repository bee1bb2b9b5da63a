"""The runs of the crash matrix whose tools are no plain functions."""

from __future__ import annotations

from typing import Any

from agents import (
    Agent,
    ApplyPatchTool,
    CustomTool,
    RunContextWrapper,
    Runner,
    ShellTool,
    function_tool,
)
from agents.testing import assistant_message, function_call
from dbos import DBOS
from openai.types.responses import (
    ResponseApplyPatchToolCall,
    ResponseCustomToolCall,
    ResponseFunctionShellToolCall,
)

import timestep
from tests.crash import scenarios


def run_command(request: Any) -> str:
    (command,) = request.data.action.commands
    scenarios.boundaries.effect(f"tool shell {command}")
    request.ctx_wrapper.context["commands"].append(command)
    return f"ran {command}"


class Editor:
    async def create_file(self, operation: Any) -> str:
        scenarios.boundaries.effect(f"tool apply_patch {operation.path}")
        return f"made {operation.path}"

    update_file = delete_file = create_file


async def query(ctx: Any, text: str) -> str:
    scenarios.boundaries.effect(f"tool sql {text}")
    ctx.context["queries"] = [*ctx.context["queries"], text]
    return f"{text}: 3 rows"


def work(items: list[Any]) -> list[Any]:
    if any(item.get("type") == "shell_call_output" for item in items):
        done = [i["output"] for i in items if i.get("type", "").endswith("call_output")]
        texts = [out if isinstance(out, str) else out[0]["stdout"] for out in done]
        return [assistant_message(" / ".join(texts))]
    action = {"commands": ["ls"], "timeout_ms": None, "max_output_length": None}
    patch = {"type": "create_file", "path": "a", "diff": "+b"}
    return [
        ResponseFunctionShellToolCall.model_validate(
            {"type": "shell_call", "id": "i1", "call_id": "c1", "status": "completed"}
            | {"action": action}
        ),
        ResponseApplyPatchToolCall.model_validate(
            {"type": "apply_patch_call", "id": "i2", "call_id": "c2", "status": "completed"}
            | {"operation": patch}
        ),
        ResponseCustomToolCall(
            type="custom_tool_call", id="i3", call_id="c3", name="sql", input="select"
        ),
    ]


worker = Agent(
    name="Worker",
    model=scenarios.AnsweringModel("worker", work),
    tools=[
        ShellTool(executor=run_command),
        ApplyPatchTool(editor=Editor()),
        CustomTool(name="sql", description="", on_invoke_tool=query),
    ],
)


@DBOS.workflow()
async def native(given: str) -> str:
    context: dict[str, Any] = {"commands": [], "queries": []}
    result = await timestep.DurableRunner.run(worker, given, context=context)
    return f"{result.final_output} {context}"


@DBOS.step()
async def reserve(seat: str) -> None:
    scenarios.boundaries.effect(f"step reserve {seat}")


guide = Agent(
    name="Guide",
    model=scenarios.AnsweringModel(
        "guide",
        lambda items: (
            [assistant_message("so says the guide")]
            if scenarios.outputs(items)
            else [function_call("look_up", {"city": "Bern"}, call_id="i1")]
        ),
    ),
    tools=[scenarios.look_up],
)


@timestep.tool_options(as_workflow=True)
@function_tool(failure_error_function=None)
async def seat(ctx: RunContextWrapper[Any], name: str) -> str:
    await reserve(name)
    scenarios.boundaries.reach("inside tool: seat")
    shared = RunContextWrapper(ctx.context, usage=ctx.usage)
    answer = await Runner.run(guide, "which?", context=shared)
    ctx.context["seats"] = [*ctx.context["seats"], name]
    return f"{name}, {answer.final_output}"


usher = Agent(
    name="Usher",
    model=scenarios.AnsweringModel(
        "usher",
        lambda items: (
            [assistant_message(scenarios.outputs(items)["c1"])]
            if scenarios.outputs(items)
            else [function_call("seat", {"name": "1a"}, call_id="c1")]
        ),
    ),
    tools=[seat],
)


@DBOS.workflow()
async def apart(given: str) -> str:
    context: dict[str, Any] = {"seats": []}
    result = await timestep.DurableRunner.run(usher, given, context=context)
    return f"{result.final_output} {context} {result.context_wrapper.usage.requests}"
