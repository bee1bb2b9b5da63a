"""Options that cannot work are refused where the tool is defined."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from agents import ComputerTool, LocalShellTool, ShellTool, WebSearchTool, function_tool

import timestep
from timestep.tool_options import ToolOptions, options_of


@function_tool
async def waits() -> str:
    return "waited"


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"retries": -1}, ValueError, "retries"),
        ({"retries": 1.5}, TypeError, "retries"),
        ({"retries": True}, TypeError, "retries"),
        ({"retry_delay": -1}, ValueError, "retry_delay"),
        ({"retry_delay": float("inf")}, ValueError, "retry_delay"),
        ({"retry_backoff": 0.5}, ValueError, "retry_backoff"),
        ({"retry_on": ValueError}, TypeError, "retry_on"),
        ({"retry_on": (KeyboardInterrupt,)}, TypeError, "retry_on"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": "1"}, TypeError, "timeout"),
        ({"safe_to_repeat": "no"}, TypeError, "safe_to_repeat"),
    ],
)
def test_an_option_that_cannot_work_is_refused(
    options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        timestep.tool_options(**options)


def test_what_cannot_be_decorated_is_refused() -> None:
    def plain() -> str:
        return ""

    with pytest.raises(TypeError, match="above @function_tool"):
        timestep.tool_options()(plain)  # type: ignore[type-var]  # what is tested
    with pytest.raises(TypeError, match="acts here"):
        timestep.tool_options()(WebSearchTool())  # type: ignore[type-var]  # what is tested


def test_an_option_that_does_nothing_for_the_tool_is_refused() -> None:
    @function_tool
    def blocks() -> str:
        return ""

    with pytest.raises(ValueError, match="make 'blocks' an async function"):
        timestep.tool_options(timeout=1)(blocks)
    local = LocalShellTool(executor=lambda request: "")
    with pytest.raises(ValueError, match="wrap it in a @function_tool"):
        timestep.tool_options(safe_to_repeat=False)(local)
    computer: Any = ComputerTool(computer=lambda run_context: object())
    with pytest.raises(ValueError, match="ComputerTool"):
        timestep.tool_options(safe_to_repeat=False)(computer)
    with pytest.raises(ValueError, match="as_workflow"):
        timestep.tool_options(as_workflow=True)(ShellTool(executor=lambda request: ""))


def test_a_tools_options_are_kept_by_its_copies() -> None:
    assert options_of(waits) == ToolOptions()
    patient = timestep.tool_options(retries=2, retry_on=(OSError,), timeout=3)(waits)
    assert patient is waits
    expected = ToolOptions(retries=2, retry_on=(OSError,), timeout=3)
    assert options_of(copy.copy(waits)) == expected
