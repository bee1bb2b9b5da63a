"""Says how a tool's calls are made durable, at the tool's definition."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from agents.tool import (
        ApplyPatchTool,
        ComputerTool,
        CustomTool,
        FunctionTool,
        LocalShellTool,
        ShellTool,
    )

AnyTool = TypeVar(
    "AnyTool",
    bound="FunctionTool | ShellTool | LocalShellTool | ApplyPatchTool | ComputerTool[Any] "
    "| CustomTool",
)

_ATTRIBUTE = "timestep_options"


@dataclass(frozen=True)
class ToolOptions:
    """What `tool_options` was given."""

    safe_to_repeat: bool = True
    retries: int = 0
    retry_delay: float = 1.0
    retry_backoff: float = 2.0
    retry_on: tuple[type[Exception], ...] = (Exception,)
    timeout: float | None = None
    as_workflow: bool = False


_DEFAULT = ToolOptions()


def options_of(tool: object) -> ToolOptions:
    """How the calls of a tool are made."""
    found = getattr(tool, _ATTRIBUTE, _DEFAULT)
    return found if isinstance(found, ToolOptions) else _DEFAULT


def keep_options(tool: object, copied: object) -> None:
    """Give a tool that was made of another the other's options."""
    vars(copied)[_ATTRIBUTE] = options_of(tool)


def tool_options(
    *,
    safe_to_repeat: bool = True,
    retries: int = 0,
    retry_delay: float = 1.0,
    retry_backoff: float = 2.0,
    retry_on: tuple[type[Exception], ...] = (Exception,),
    timeout: float | None = None,
    as_workflow: bool = False,
) -> Callable[[AnyTool], AnyTool]:
    """How a tool's calls are made durable. Decorates what `@function_tool` returns.

        @timestep.tool_options(safe_to_repeat=False)
        @function_tool
        def refund(order: str, cents: int) -> str: ...

        shell = timestep.tool_options(retries=2)(ShellTool(executor=run))

    Args:
        safe_to_repeat: False for a tool whose effect must not happen twice. An intent is
            committed before each of its calls; if the process dies before the outcome is
            known, the call is not made again: the run stops and asks a person.
        retries: How often a call whose body raises is tried again, within its one step. What
            the last attempt raises is what the SDK's `failure_error_function` sees.
        retry_delay: Seconds before the first further attempt.
        retry_backoff: What each further delay is multiplied by.
        retry_on: The exceptions to try again after. Arguments that do not fit are never tried
            again, nor are errors of Timestep and DBOS.
        timeout: Seconds that an attempt may take; then it fails with the SDK's
            `ToolTimeoutError`, and its coroutine is cancelled. `timeout_seconds` of the SDK
            is the limit of all attempts together. A tool that is not safe to repeat is not
            tried again after a timeout.
        as_workflow: Make each call a child workflow, whose id comes from the call, so the
            tool's body may use DBOS steps, sleeps, messages and child workflows. After a
            crash the body runs again from its beginning, and what it did as DBOS steps is
            read from their record.

    Raises:
        TypeError: What is decorated is not a tool that acts here, or an option is of another
            type.
        ValueError: An option is out of range, or does nothing for this tool.
    """
    options = ToolOptions(
        safe_to_repeat, retries, retry_delay, retry_backoff, retry_on, timeout, as_workflow
    )
    _check(options)

    def mark(tool: AnyTool) -> AnyTool:
        if not _acts_here(tool):
            raise TypeError(
                f"tool_options() decorates what @function_tool returns, or a tool that acts here "
                f"(shell, apply_patch, computer, custom), not {tool!r}: put it above @function_tool"
            )
        _check_fits(options, tool)
        # In the tool's own dictionary, so that the SDK's copies of the tool keep it.
        vars(tool)[_ATTRIBUTE] = options
        return tool

    return mark


def _check(options: ToolOptions) -> None:
    for name in ("safe_to_repeat", "as_workflow"):
        if not isinstance(getattr(options, name), bool):
            raise TypeError(f"{name} is True or False, not {getattr(options, name)!r}")
    if not isinstance(options.retries, int) or isinstance(options.retries, bool):
        raise TypeError(f"retries is a whole number, not {options.retries!r}")
    if options.retries < 0:
        raise ValueError(f"retries cannot be negative: {options.retries!r}")
    for name, least in (("retry_delay", 0.0), ("retry_backoff", 1.0), ("timeout", 0.0)):
        value = getattr(options, name)
        if name == "timeout" and value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise TypeError(f"{name} is a number, not {value!r}")
        if not math.isfinite(value) or value < least or (name == "timeout" and value == 0):
            above = "greater than 0" if name == "timeout" else f"at least {least:g}"
            raise ValueError(f"{name} must be a finite number {above}, not {value!r}")
    classes = options.retry_on
    if not isinstance(classes, tuple) or not all(
        isinstance(cls, type) and issubclass(cls, Exception) for cls in classes
    ):
        raise TypeError(f"retry_on is a tuple of exception classes, not {classes!r}")


def _check_fits(options: ToolOptions, tool: object) -> None:
    # Whoever has a tool has imported it: this module is imported before, at no cost.
    from agents.tool import ComputerTool, FunctionTool, LocalShellTool

    kind = type(tool).__name__
    if not options.safe_to_repeat and isinstance(tool, LocalShellTool | ComputerTool):
        # The SDK has no way to stop for a person at a call of these.
        raise ValueError(
            f"safe_to_repeat=False needs a person to decide about a call in doubt, and the SDK "
            f"cannot stop for one at a call of a {kind}: wrap it in a @function_tool"
        )
    if options.timeout is not None and runs_in_a_thread(tool):
        raise ValueError(
            f"timeout cannot end a thread, where the SDK runs a tool that is not async: make "
            f"{getattr(tool, 'name', kind)!r} an async function"
        )
    if options.as_workflow and not isinstance(tool, FunctionTool):
        raise ValueError(f"as_workflow is for function tools, not for a {kind}")
    if options.as_workflow and _is_agent(tool):
        raise ValueError("as_workflow is not for an agent as a tool, which is durable without it")


def _acts_here(tool: object) -> bool:
    from agents import tool as kinds

    return isinstance(
        tool,
        kinds.FunctionTool
        | kinds.ShellTool
        | kinds.LocalShellTool
        | kinds.ApplyPatchTool
        | kinds.ComputerTool
        | kinds.CustomTool,
    )


def _is_agent(tool: object) -> bool:
    from agents import ToolOriginType
    from agents.tool import FunctionTool, get_function_tool_origin

    origin = get_function_tool_origin(tool) if isinstance(tool, FunctionTool) else None
    return origin is not None and origin.type is ToolOriginType.AGENT_AS_TOOL


def runs_in_a_thread(tool: object) -> bool:
    """Whether the SDK runs a tool's body in a thread, which cannot be stopped."""
    from agents.tool import FunctionTool

    if not isinstance(tool, FunctionTool):
        return False
    try:
        function = tool.__wrapped__
    except AttributeError:  # Made by hand: its invoker is async.
        return False
    return not inspect.iscoroutinefunction(function)
