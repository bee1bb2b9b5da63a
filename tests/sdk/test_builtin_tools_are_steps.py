"""Tools that act here and are no functions, and those that the provider runs itself."""

from __future__ import annotations

from typing import Any

import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    AsyncComputer,
    CodeInterpreterTool,
    ComputerTool,
    CustomTool,
    FileSearchTool,
    HostedMCPTool,
    ImageGenerationTool,
    LocalShellTool,
    ModelSettings,
    ShellTool,
    WebSearchTool,
)
from agents.editor import ApplyPatchOperation, ApplyPatchResult
from agents.testing import ScriptedModel, assistant_message
from agents.tool import ShellCallOutcome, ShellCommandOutput, ShellResult
from openai.types.responses import (
    ResponseApplyPatchToolCall,
    ResponseCodeInterpreterToolCall,
    ResponseComputerToolCall,
    ResponseCustomToolCall,
    ResponseFileSearchToolCall,
    ResponseFunctionShellToolCall,
    ResponseFunctionWebSearch,
)
from openai.types.responses.response_output_item import (
    ImageGenerationCall,
    LocalShellCall,
    McpApprovalRequest,
    McpCall,
)

import timestep
from tests.steps.test_tool_calls_are_made_once import outcomes, run_of, twice
from tests.support.dbos_app import App


def shell_call(command: str, call_id: str = "c1") -> Any:
    return ResponseFunctionShellToolCall.model_validate(
        {
            "id": f"i{call_id}",
            "type": "shell_call",
            "status": "completed",
            "call_id": call_id,
            "action": {"commands": [command], "timeout_ms": None, "max_output_length": None},
        }
    )


def local_shell_call(command: str, call_id: str = "c1") -> Any:
    return LocalShellCall.model_validate(
        {
            "id": f"i{call_id}",
            "type": "local_shell_call",
            "status": "completed",
            "call_id": call_id,
            "action": {"type": "exec", "command": [command], "env": {}},
        }
    )


def patch_call(path: str, call_id: str = "c1") -> Any:
    return ResponseApplyPatchToolCall.model_validate(
        {
            "id": f"i{call_id}",
            "type": "apply_patch_call",
            "status": "completed",
            "call_id": call_id,
            "operation": {"type": "create_file", "path": path, "diff": "+hello"},
        }
    )


def custom_call(text: str, call_id: str = "c1") -> Any:
    return ResponseCustomToolCall(
        type="custom_tool_call", id=f"i{call_id}", call_id=call_id, name="sql", input=text
    )


def computer_call(checks: list[dict[str, Any]], call_id: str = "c1") -> Any:
    return ResponseComputerToolCall.model_validate(
        {
            "id": f"i{call_id}",
            "type": "computer_call",
            "call_id": call_id,
            "status": "completed",
            "action": {"type": "click", "x": 1, "y": 2, "button": "left"},
            "pending_safety_checks": checks,
        }
    )


DONE: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


def run_command(request: Any) -> ShellResult:
    (command,) = request.data.action.commands
    DONE.append(command)
    if command == "fail":
        raise OSError("no such command")
    entry = ShellCommandOutput(stdout=f"ran {command}", outcome=ShellCallOutcome("exit", 0))
    return ShellResult(output=[entry])


async def run_local(request: Any) -> str:
    DONE.append(request.data.action.command[0])
    return "ran locally"


class Editor:
    async def create_file(self, operation: ApplyPatchOperation) -> ApplyPatchResult:
        DONE.append(operation.path)
        return ApplyPatchResult(status="completed", output=f"made {operation.path}")

    def update_file(self, operation: ApplyPatchOperation) -> str:
        raise OSError("read only")

    def delete_file(self, operation: ApplyPatchOperation) -> None:
        DONE.append(f"deleted {operation.path}")


async def query(ctx: Any, text: str) -> str:
    DONE.append(text)
    return f"{text} gave 3 rows ({timestep.idempotency_key()[:4]})"


class Screen(AsyncComputer):
    async def screenshot(self) -> str:
        DONE.append("screenshot")
        return "cGl4ZWxz"

    async def click(self, x: int, y: int, button: str, **_: Any) -> None:
        DONE.append(f"click {x} {y}")

    async def double_click(self, *_: Any, **__: Any) -> None: ...
    async def scroll(self, *_: Any, **__: Any) -> None: ...
    async def type(self, text: str) -> None: ...
    async def wait(self) -> None: ...
    async def move(self, *_: Any, **__: Any) -> None: ...
    async def keypress(self, *_: Any, **__: Any) -> None: ...
    async def drag(self, *_: Any, **__: Any) -> None: ...


def calling(tools: list[Any], *calls: Any) -> Agent[Any]:
    model = ScriptedModel([list(calls), [assistant_message("done")]])
    return Agent(name="A", model=model, tools=tools)


def shown(app: App) -> dict[str, Any]:
    """What the model saw of each call, by its id."""
    return {
        row["item_data"]["call_id"]: row["item_data"]["output"]
        for row in app.rows("run_items", "position")
        if row["item_type"] == "tool_call_output_item"
    }


def test_each_call_of_a_native_tool_is_one_step(app: App) -> None:
    agent = calling(
        [
            ShellTool(executor=run_command),
            ApplyPatchTool(editor=Editor()),
            CustomTool(name="sql", description="", on_invoke_tool=query),
            ComputerTool(computer=Screen()),
        ],
        shell_call("ls", "c1"),
        patch_call("a.txt", "c2"),
        custom_call("select", "c3"),
        computer_call([], "c4"),
        shell_call("fail", "c5"),
    )
    twice(app, run_of(agent))
    assert sorted(DONE) == ["a.txt", "click 1 2", "fail", "ls", "screenshot", "select"]
    assert outcomes(app) == [
        ("c1", "executed", 1, False),
        ("c2", "executed", 1, False),
        ("c3", "executed", 1, False),
        ("c4", "executed", 1, False),
        ("c5", "failed", 1, False),
    ]
    assert app.steps("w") == [
        "turn 1: A",
        "tool: shell (c1)",
        "tool: apply_patch (c2)",
        "tool: sql (c3)",
        "tool: computer_use_preview (c4)",
        "tool: shell (c5)",
        "turn 2: A",
    ]
    seen = shown(app)
    assert seen["c1"][0]["stdout"] == "ran ls"
    assert seen["c2"] == "made a.txt"
    assert seen["c3"].startswith("select gave 3 rows")
    assert seen["c4"]["image_url"] == "data:image/png;base64,cGl4ZWxz"
    assert "no such command" in seen["c5"][0]["stdout"]
    tools = {row["id"]: row["name"] for row in app.rows("tools")}
    assert [tools[row["tool_id"]] for row in app.rows("tool_calls", "call_id")] == [
        "shell",
        "apply_patch",
        "sql",
        "computer_use_preview",
        "shell",
    ]
    position = {row["item_data"].get("call_id"): row for row in app.rows("run_items", "position")}
    assert len(position) == 6


def test_a_local_shells_call_is_a_step(app: App) -> None:
    twice(app, run_of(calling([LocalShellTool(executor=run_local)], local_shell_call("ls"))))
    assert DONE == ["ls"]
    assert outcomes(app) == [("c1", "executed", 1, False)]
    assert app.steps("w") == ["turn 1: A", "tool: local_shell (c1)", "turn 2: A"]


def test_native_tools_are_tried_again_and_end_in_time(app: App) -> None:
    async def flaky(ctx: Any, text: str) -> str:
        DONE.append(text)
        if len(DONE) == 1:
            raise OSError
        return "worked"

    def factory(run_context: Any) -> Screen:
        class Flaky(Screen):
            async def click(self, x: int, y: int, button: str, **_: Any) -> None:
                DONE.append("click")
                if DONE.count("click") == 1:
                    raise OSError

        DONE.append("new screen")
        return Flaky()

    again = timestep.tool_options(retries=1, retry_delay=0, timeout=20)
    tools: list[Any] = [
        again(CustomTool(name="sql", description="", on_invoke_tool=flaky)),
        again(ComputerTool(computer=factory)),
    ]
    calls = [custom_call("select", "c1"), computer_call([], "c2")]
    model = ScriptedModel([[calls[0]], [calls[1]], [assistant_message("done")]])
    agent = Agent(name="A", model=model, tools=tools)

    async def body() -> str:
        return str((await timestep.DurableRunner.run(agent, "hi")).final_output)

    first = app.run(body, workflow_id="w")
    assert first == "done"
    assert outcomes(app)[1] == ("c2", "executed", 2, False)
    assert DONE.count("click") == 2
    assert app.replay("w") == first
    assert DONE.count("click") == 2


def approving(answer: bool) -> Any:
    def decide(ctx: Any, item: Any) -> dict[str, Any]:
        DONE.append("asked")
        return {"approve": answer, "reason": "not today"}

    return decide


@pytest.mark.parametrize("answer", [True, False])
def test_what_code_decides_about_a_call_is_recorded(app: App, answer: bool) -> None:
    options: dict[str, Any] = {"needs_approval": True, "on_approval": approving(answer)}
    agent = calling(
        [
            ShellTool(executor=run_command, **options),
            ApplyPatchTool(editor=Editor(), **options),
            CustomTool(name="sql", description="", on_invoke_tool=query, **options),
        ],
        shell_call("ls", "c1"),
        patch_call("a.txt", "c2"),
        custom_call("select", "c3"),
    )
    twice(app, run_of(agent))
    assert DONE.count("asked") == 3
    assert len(DONE) == (6 if answer else 3)
    status = "executed" if answer else "rejected"
    assert {row["status"] for row in app.rows("tool_calls")} == {status}
    assert set(shown(app)) == {"c1", "c2", "c3"}
    if not answer:
        assert shown(app)["c3"] == "not today"


def test_a_person_decides_about_native_calls(app: App) -> None:
    agent = calling(
        [
            ShellTool(executor=run_command, needs_approval=True),
            CustomTool(name="sql", description="", on_invoke_tool=query, needs_approval=True),
        ],
        shell_call("ls", "c1"),
        custom_call("drop", "c2"),
    )

    async def body() -> str:
        result = await timestep.run_agent(agent, "hi", on_interruption="return")
        state = result.to_state()
        asked = {item.call_id: item for item in state.get_interruptions()}
        state.approve(asked["c1"])
        state.reject(asked["c2"])
        return str((await timestep.DurableRunner.run(agent, state)).final_output)

    assert app.run(body, workflow_id="w") == "done"
    assert DONE == ["ls"]
    rows = app.everything()
    assert app.replay("w") == "done"
    assert DONE == ["ls"]
    assert app.everything() == rows
    assert [(call, status) for call, status, *_ in outcomes(app)] == [
        ("c1", "executed"),
        ("c2", "rejected"),
    ]
    assert {row["tool_name"] for row in app.rows("interruptions")} == {"shell", "sql"}


@pytest.mark.parametrize("answer", [True, False])
def test_what_a_safety_check_says_is_recorded(app: App, answer: bool) -> None:
    def check(data: Any) -> bool:
        DONE.append(f"check {data.safety_check.code}")
        return answer

    call = computer_call([{"id": "s1", "code": "malicious", "message": "careful"}])
    agent = calling([ComputerTool(computer=Screen(), on_safety_check=check)], call)
    told = twice(app, run_of(agent))
    assert DONE.count("check malicious") == 1
    if answer:
        assert told.startswith("done")
        assert DONE[1:] == ["click 1 2", "screenshot"]
    else:
        assert told == "UserError: Computer tool safety check was not acknowledged"
        assert len(DONE) == 1


def test_calls_that_the_provider_made_are_rows(app: App) -> None:
    def approve(request: Any) -> Any:
        DONE.append("asked")
        return {"approve": True}

    made: list[Any] = [
        ResponseFunctionWebSearch.model_validate(
            {
                "id": "ws1",
                "type": "web_search_call",
                "status": "completed",
                "action": {"type": "search", "query": "weather"},
            }
        ),
        ResponseFileSearchToolCall.model_validate(
            {
                "id": "fs1",
                "type": "file_search_call",
                "status": "completed",
                "queries": ["a"],
                "results": [{"file_id": "f1", "text": "found"}],
            }
        ),
        ResponseCodeInterpreterToolCall.model_validate(
            {
                "id": "ci1",
                "type": "code_interpreter_call",
                "status": "completed",
                "code": "1 + 1",
                "container_id": "x",
                "outputs": [{"type": "logs", "logs": "2"}],
            }
        ),
        ImageGenerationCall(
            id="ig1", type="image_generation_call", status="completed", result="cGl4"
        ),
        McpCall(
            id="mc1",
            type="mcp_call",
            name="search_docs",
            arguments='{"q": 1}',
            server_label="docs",
            output="a page",
        ),
    ]
    request = McpApprovalRequest(
        id="ar1", type="mcp_approval_request", name="delete", arguments="{}", server_label="docs"
    )
    config: Any = {"type": "mcp", "server_label": "docs", "server_url": "http://mcp"}
    agent = Agent(
        name="A",
        model=ScriptedModel([[*made, request], [assistant_message("done")]]),
        model_settings=ModelSettings(),
        tools=[
            WebSearchTool(),
            FileSearchTool(vector_store_ids=["v"]),
            CodeInterpreterTool(tool_config={"type": "code_interpreter", "container": "x"}),
            ImageGenerationTool(tool_config={"type": "image_generation"}),
            HostedMCPTool(tool_config=config, on_approval_request=approve),
        ],
    )
    twice(app, run_of(agent))
    assert DONE == ["asked"]
    rows = {row["call_id"]: row for row in app.rows("tool_calls")}
    assert {row["status"] for row in rows.values()} == {"executed"}
    assert {key: (row["tool_name"], row["output"]) for key, row in rows.items()} == {
        "ws1": ("web_search", None),
        "fs1": ("file_search", [{"file_id": "f1", "text": "found"}]),
        "ci1": ("code_interpreter", [{"type": "logs", "logs": "2"}]),
        "ig1": ("image_generation", "cGl4"),
        "mc1": ("search_docs", "a page"),
        # The request for an approval, answered by the tool's own function.
        "ar1": ("delete", None),
    }
    assert rows["mc1"]["arguments"] == {"q": 1}
    assert rows["ws1"]["arguments"] == {"type": "search", "query": "weather"}
