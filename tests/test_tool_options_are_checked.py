"""Options that cannot work are refused where the tool is defined."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from agents import ComputerTool, LocalShellTool, ShellTool, WebSearchTool, function_tool

import timestep
from timestep.tool_options import ToolOptions, options_of, sentence_of


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
        ({"describe": 1}, TypeError, "describe"),
        ({"describe": " "}, ValueError, "no sentence"),
        ({"describe": "Refund {order.__class__}"}, ValueError, "by their names alone"),
        ({"describe": "Refund {order[0]}"}, ValueError, "by their names alone"),
        ({"describe": "Refund {}"}, ValueError, "by their names alone"),
        ({"describe": "Refund {0}"}, ValueError, "by their names alone"),
        ({"describe": "Refund {order!r}"}, ValueError, "by their names alone"),
        ({"describe": "Refund {cents:>1000000000}"}, ValueError, "format"),
        ({"describe": "Refund {cents:.999999999f}"}, ValueError, "format"),
        ({"describe": "Refund {cents:{order}}"}, ValueError, "format"),
        ({"describe": "Refund {cents"}, ValueError, "no template"),
    ],
)
def test_an_option_that_cannot_work_is_refused(
    options: dict[str, Any], error: type[Exception], named: str
) -> None:
    with pytest.raises(error, match=named):
        timestep.tool_options(**options)


def test_a_sentence_is_made_of_what_the_tool_is_given() -> None:
    async def says(arguments: dict[str, Any]) -> str:
        return ""

    with pytest.raises(TypeError, match="not async"):
        timestep.tool_options(describe=says)  # type: ignore[arg-type]  # what is tested

    @function_tool
    async def refund(order: str, cents: float, lines: list[int], note: str = "none") -> str:
        return ""

    def told(describe: Any, arguments: Any) -> str | None:
        return sentence_of(timestep.tool_options(describe=describe)(refund), arguments)

    given = {"order": "o1", "cents": 123456.789, "lines": [1, 2]}
    template = "Refund {cents:,.2f} of {order} ({lines}, {note}), {{sic}}"
    assert told(template, given) == "Refund 123,456.79 of o1 ([1, 2], none), {sic}"
    with pytest.raises(ValueError, match=r"\{ordr\}.*'refund': there are order, cents"):
        told("Refund {ordr}", given)
    with pytest.raises(KeyError):
        told("Refund {order}", {})
    assert told("{order}", {"order": "x" * 200}) == "x" * 99 + "…"
    assert told(lambda found: f"Refunds {found.pop('order')}", given) == "Refunds o1"
    assert given["order"] == "o1", "the function has its own"
    assert len(str(told(lambda found: "x" * 10**6, given))) == 500
    for nothing in (None, " ", 1):
        with pytest.raises(TypeError, match="no sentence"):
            told(lambda found, nothing=nothing: nothing, given)
    assert told(lambda found: found["input"], "text") == "text"


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
    with pytest.raises(ValueError, match="nobody is of a LocalShellTool"):
        timestep.tool_options(describe="Runs something")(local)
    with pytest.raises(ValueError, match="as_workflow"):
        timestep.tool_options(as_workflow=True)(ShellTool(executor=lambda request: ""))


def test_a_tools_options_are_kept_by_its_copies() -> None:
    assert options_of(waits) == ToolOptions()
    patient = timestep.tool_options(retries=2, retry_on=(OSError,), timeout=3)(waits)
    assert patient is waits
    expected = ToolOptions(retries=2, retry_on=(OSError,), timeout=3)
    assert options_of(copy.copy(waits)) == expected
