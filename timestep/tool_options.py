"""Says how a tool's calls are made durable, and told to people, at the tool's definition."""

from __future__ import annotations

import contextvars
import copy
import inspect
import json
import math
import re
import string
from collections.abc import Callable, Iterator
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

Describe = str | Callable[[dict[str, Any]], str]
"""What makes a sentence of a call's arguments: a template, or a function."""

_LONGEST_SENTENCE = 500
_LONGEST_VALUE = 100
"""Characters of a sentence, and of an argument in a template."""
_SPEC = re.compile(r",?(\.[0-9])?[df%]?")
"""Format specifications of a template: those that do not make text longer than the number is."""


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
    describe: Describe | None = None


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
    describe: Describe | None = None,
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
        describe: What a call will do, for the person who is asked about it: a sentence with
            arguments by their names (`"Refund {cents} cents of order {order}"`), or a function
            that makes one of the arguments, of nothing else, and at once. It is recorded with
            the question, 500 characters at most. Where it fails, the log tells, and the question
            has none. A number may have a format: `{price:,.2f}`.

    Raises:
        TypeError: What is decorated is not a tool that acts here, or an option is of another
            type.
        ValueError: An option is out of range, or does nothing for this tool.
    """
    options = ToolOptions(
        safe_to_repeat,
        retries,
        retry_delay,
        retry_backoff,
        retry_on,
        timeout,
        as_workflow,
        describe,
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
    _check_describe(options.describe)


def _check_describe(describe: object) -> None:
    if describe is None:
        return
    if isinstance(describe, str):
        _fields(describe)
        if not describe.strip():
            raise ValueError(f"describe={describe!r} is no sentence")
    elif not callable(describe) or inspect.iscoroutinefunction(describe):
        raise TypeError(f"describe is a template or a function that is not async, not {describe!r}")


def _fields(template: str) -> list[tuple[str, str | None, str]]:
    """The parts of a template: text, and the argument that follows it with its format.

    Raises:
        ValueError: It has something else.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"describe={template!r} is no template: {error}") from error
    for _, name, spec, conversion in parts:
        if name is not None and (not name.isidentifier() or conversion is not None):
            raise ValueError(
                f"describe={template!r} has {{{name}}}: give arguments by their names alone, such "
                "as {order}, or a function"
            )
        if not _SPEC.fullmatch(spec or ""):
            raise ValueError(
                f"describe={template!r} has the format {spec!r}: a number's may be such as ',' "
                "and ',.2f'; give a function for others"
            )
    return [(text, name, spec or "") for text, name, spec, _ in parts]


def sentence_of(tool: object, arguments: Any) -> str | None:
    """What a call of a tool will do, as the tool says; None: it does not.

    Raises:
        Exception: Whatever the tool's own function raises; or what it makes is no sentence.
    """
    describe = options_of(tool).describe
    if describe is None:
        return None
    # A tool of the user's own may take text instead of an object.
    given = copy.deepcopy(arguments if isinstance(arguments, dict) else {"input": arguments})
    if isinstance(describe, str):
        made: object = "".join(_filled(describe, {**_defaults(tool), **given}))
    else:
        # In no workflow, run or step: what it would do there is not recorded.
        made = contextvars.Context().run(describe, given)
    if inspect.iscoroutine(made):
        made.close()
    if not isinstance(made, str) or not made.strip():
        raise TypeError(f"describe gave {made!r}, which is no sentence")
    is_long = len(made) > _LONGEST_SENTENCE
    return f"{made[: _LONGEST_SENTENCE - 1]}…" if is_long else made


def _filled(template: str, arguments: dict[str, Any]) -> Iterator[str]:
    for text, name, spec in _fields(template):
        yield text
        if name is not None:
            if name not in arguments:
                raise KeyError(name)
            value = arguments[name]
            yield format(value, spec) if spec else shown_value(value)


def shown_value(value: Any) -> str:
    """An argument of a call as a template's sentence has it."""
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[: _LONGEST_VALUE - 1]}…"


def _defaults(tool: object) -> dict[str, Any]:
    """What arguments are that a model leaves out."""
    return {
        name: schema["default"]
        for name, schema in _parameters(tool).items()
        if isinstance(schema, dict) and "default" in schema
    }


def _parameters(tool: object) -> dict[str, Any]:
    """The JSON schemas of a function tool's arguments, as far as it tells them."""
    from agents.tool import FunctionTool

    schema = tool.params_json_schema if isinstance(tool, FunctionTool) else {}
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _check_fits(options: ToolOptions, tool: object) -> None:
    # Whoever has a tool has imported it: this module is imported before, at no cost.
    from agents.tool import ComputerTool, FunctionTool, LocalShellTool

    kind = type(tool).__name__
    # The SDK has no way to stop for a person at a call of these.
    never_asks = isinstance(tool, LocalShellTool | ComputerTool)
    if not options.safe_to_repeat and never_asks:
        raise ValueError(
            f"safe_to_repeat=False needs a person to decide about a call in doubt, and the SDK "
            f"cannot stop for one at a call of a {kind}: wrap it in a @function_tool"
        )
    if options.timeout is not None and runs_in_a_thread(tool):
        raise ValueError(
            f"timeout cannot end a thread, where the SDK runs a tool that is not async: make "
            f"{getattr(tool, 'name', kind)!r} an async function"
        )
    if options.describe is not None and never_asks:
        raise ValueError(f"describe is for who is asked about a call, and nobody is of a {kind}")
    known = _parameters(tool)
    for _, name, _ in _fields(options.describe) if isinstance(options.describe, str) else ():
        if known and name is not None and name not in known:
            raise ValueError(
                f"describe={options.describe!r} has {{{name}}}, which is no argument of "
                f"{getattr(tool, 'name', kind)!r}: there are {', '.join(known)}"
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
