"""Makes steps of the SDK's built-in tools: shells, editors, computers, custom ones.

While a call is made its tool has another function to act with, which goes through a step, for this
call alone: hooks and extractors are given the agent's own tool, which stays as it is.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from agents import ApplyPatchTool, ComputerTool, CustomTool, LocalShellTool, ShellTool
from agents.run_internal import tool_execution

from timestep.execution.run import Run
from timestep.steps import interruption
from timestep.steps.recorded_value import recorded
from timestep.steps.tool_attempts import ToolAttempts, ToolResult
from timestep.steps.tool_call import Asked, call_tool
from timestep.tool_options import keep_options

KINDS = (ApplyPatchTool, ComputerTool, CustomTool, LocalShellTool, ShellTool)
"""The classes of the tools whose attributes `get_attribute` gives."""


async def needs_approval(run: Run, original: Any, *args: Any) -> bool:
    """Whether a call waits for a person; its id is the last argument."""
    if interruption.is_answered(run, args[-1]):
        return False
    return interruption.is_asked_about(run, args[-1]) or bool(await original(*args))


async def resolve_approval_status(
    run: Run, original: Any, *, call_id: str, on_approval: Any = None, **given: Any
) -> Any:
    if on_approval is not None:
        on_approval = _decided(run, f"on_approval: {call_id}", on_approval)
    return await original(call_id=call_id, on_approval=on_approval, **given)


async def execute_mcp_approval_requests(
    run: Run, original: Any, *, approval_requests: Any, **given: Any
) -> Any:
    asked = []
    for request in approval_requests:
        tool = copy.copy(request.mcp_tool)
        name = f"on_approval_request: {request.request_item.id}"
        tool.on_approval_request = _decided(run, name, tool.on_approval_request)
        asked.append(dataclasses.replace(request, mcp_tool=tool))
    return await original(approval_requests=asked, **given)


async def execute_computer_actions(run: Run, original: Any, *, actions: Any, **given: Any) -> Any:
    checks = [_check_of(run, action.computer_tool) for action in actions]
    with _acting(*(check for check in checks if check is not None)):
        return await original(actions=actions, **given)


def _check_of(run: Run, tool: Any) -> tuple[Any, str, Any] | None:
    check = _own(tool, "on_safety_check")
    if check is None:
        return None

    async def checked(data: Any) -> Any:
        return await _decided(run, f"on_safety_check: {data.tool_call.call_id}", check)(data)

    return tool, "on_safety_check", checked


async def initialize_computer_tools(run: Run, original: Any, *, tools: Any, **given: Any) -> Any:
    """The SDK makes new tools for computers that a factory makes; they keep their options."""
    made = await original(tools=tools, **given)
    for tool, resolved in zip(tools, made, strict=True):
        if resolved is not tool:
            keep_options(tool, resolved)
    return made


def _decided(run: Run, name: str, decide: Any) -> Callable[..., Any]:
    """A user's function that decides something: a replay decides alike."""

    async def decided(*args: Any) -> Any:
        async def effect() -> Any:
            answer = decide(*args)
            return await answer if inspect.isawaitable(answer) else answer

        return await recorded(run, name, effect)

    return decided


async def run_local_shell(run: Run, original: Any, *, call: Any, **given: Any) -> Any:
    tool = call.local_shell_tool
    with _acting((tool, "executor", _once(run, tool, call, given, _own(tool, "executor")))):
        return await original(call=call, **given)


async def run_shell(run: Run, original: Any, *, call: Any, **given: Any) -> Any:
    tool = call.shell_tool
    if _own(tool, "executor") is None:
        return await original(call=call, **given)
    with _acting((tool, "executor", _once(run, tool, call, given, _own(tool, "executor")))):
        return await original(call=call, **given)


async def run_custom(run: Run, original: Any, *, call: Any, **given: Any) -> Any:
    tool = call.custom_tool
    with _acting(
        (tool, "on_invoke_tool", _once(run, tool, call, given, _own(tool, "on_invoke_tool")))
    ):
        return await original(call=call, **given)


async def run_apply_patch(run: Run, original: Any, *, call: Any, **given: Any) -> Any:
    tool = call.apply_patch_tool
    operations = tool_execution.coerce_apply_patch_operations(
        call.tool_call, context_wrapper=given["context_wrapper"]
    )
    with _acting((tool, "editor", _OneStepEditor(run, tool, call, given, operations))):
        return await original(call=call, **given)


_replaced: ContextVar[tuple[tuple[Any, str, Any], ...]] = ContextVar(
    "timestep_replaced", default=()
)


@contextlib.contextmanager
def _acting(*replaced: tuple[Any, str, Any]) -> Iterator[None]:
    """Within it, tools have other attributes for the caller: the tool, the name, the value."""
    token = _replaced.set((*replaced, *_replaced.get()))
    try:
        yield
    finally:
        _replaced.reset(token)


@contextlib.contextmanager
def _acting_as_made() -> Iterator[None]:
    """Within it, tools have their own attributes again for the caller."""
    token = _replaced.set(())
    try:
        yield
    finally:
        _replaced.reset(token)


def _own(tool: Any, name: str) -> Any:
    """The tool's own attribute, inside a call that is being made, too."""
    with _acting_as_made():
        return getattr(tool, name)


def get_attribute(run: Run, original: Any, tool: Any, name: str) -> Any:
    """A built-in tool's attribute, as a call that is being made is to see it."""
    for replaced, its_name, value in _replaced.get():
        if replaced is tool and its_name == name:
            return value
    return original(tool, name)


async def run_computer(run: Run, original: Any, *, action: Any, **given: Any) -> Any:
    token = _computer_call.set((action, given))
    try:
        return await original(action=action, **given)
    finally:
        _computer_call.reset(token)


async def act_and_capture(run: Run, original: Any, computer: Any, tool_call: Any) -> Any:
    action, given = _computer_call.get()
    act = _once(run, action.computer_tool, action, given, original)
    return await act(computer, tool_call)


_computer_call: ContextVar[Any] = ContextVar("timestep_computer_call")


def _once(run: Run, tool: Any, call: Any, given: Any, execute: Any) -> Callable[..., Any]:
    """What carries a native tool's call out, as a step of the run."""
    call_id = str(tool_execution.extract_tool_call_id(call.tool_call) or "")
    asked = Asked(tool, call_id, call.tool_call, given["context_wrapper"])

    async def executed(*args: Any) -> Any:
        async def body() -> Any:
            with _acting_as_made():
                output = execute(*args)
                return await output if inspect.isawaitable(output) else output

        async def invoke(attempts: ToolAttempts) -> ToolResult:
            return ToolResult(await attempts.make(body), is_error=False)

        return (await call_tool(run, asked, invoke)).output

    return executed


class _OneStepEditor:
    """An editor whose operations of one call are one step, done when the first is asked for."""

    def __init__(self, run: Run, tool: Any, call: Any, given: Any, operations: list[Any]) -> None:
        self.editor = _own(tool, "editor")
        self.operations = operations
        self.step = _once(run, tool, call, given, self._edit_all)
        self.results: deque[Any] | None = None

    async def _edit_all(self) -> list[Any]:
        results = []
        for operation in self.operations:
            edited = getattr(self.editor, operation.type)(operation)
            results.append(await edited if inspect.isawaitable(edited) else edited)
        return results

    async def _edit(self, operation: Any) -> Any:
        if self.results is None:
            edited = await self.step()
            # A person who supplies the outcome supplies one for all operations.
            count = len(self.operations)
            self.results = deque(edited if isinstance(edited, list) else [edited] * count)
        return self.results.popleft()

    create_file = update_file = delete_file = _edit
