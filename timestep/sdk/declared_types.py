"""Finds the classes that an application declares: those that its agents' own code names.

An agent declares its output type, its context (`Agent[Context]`), and what its functions
(tools, guardrails, instructions) are annotated with or name in their bodies. An agent that a
function names, or that is a tool, is reached, too: what it answers may be what the function
gives. All of it is there before a run begins, in a recovery as in the first execution.
"""

from __future__ import annotations

import functools
import inspect
import typing
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

from agents import Agent, Handoff

from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess
from timestep.sdk.reached_agents import agent_of, target_of
from timestep.serialization.registered_types import RegisteredTypes


class KnownAnnotations(PerProcess):
    """Keeps what functions at the top level of modules are annotated with: to read it is slow."""

    def __init__(self) -> None:
        self.of: weakref.WeakKeyDictionary[FunctionType, list[Any]] = weakref.WeakKeyDictionary()


def declare(types: RegisteredTypes, agents: Iterable[Agent[Any]], others: Iterable[Any]) -> None:
    """Register what agents declare, and all agents that they reach.

    Args:
        types: Where it is registered.
        agents: The agents.
        others: Guardrails, and whatever else holds functions of the run's.
    """
    waiting: list[Any] = [*agents, *others]
    seen: dict[int, Any] = {}
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen[id(found)] = found  # Kept, so that its id is no other object's.
        if isinstance(found, Agent):
            types.declare(getattr(found, "__orig_class__", None))
            types.declare(getattr(found.output_type, "output_type", found.output_type))
            waiting.extend((*found.tools, *found.handoffs))
            waiting.extend((*found.input_guardrails, *found.output_guardrails))
            waiting.extend((found.instructions, found.prompt, found.tool_use_behavior))
        elif isinstance(found, Handoff):
            waiting.append(target_of(found))
        elif (function := _function_of(found)) is not None:
            for annotation in _annotations(function):
                types.declare(annotation)
            for named in _named(function):
                if isinstance(named, Agent):
                    waiting.append(named)
                elif isinstance(named, type):
                    types.declare(named)
        else:
            waiting.append(agent_of(found))
            waiting.extend(_held(found))


def _held(holder: Any) -> Iterator[Any]:
    """The functions that a tool or a guardrail is made of, and a tool's guardrails."""
    yield getattr(holder, "__wrapped__", None)
    for value in getattr(holder, "__dict__", {}).values():
        if isinstance(value, list):
            yield from value
        elif _function_of(value) is not None:
            yield value


def _function_of(found: Any) -> FunctionType | None:
    """The function that is called in the end, if it is the application's."""
    if isinstance(found, functools.partial):
        return _function_of(found.func)
    if inspect.ismethod(found):
        found = found.__func__
    if not isinstance(found, FunctionType):
        return None
    unwrapped: Callable[..., Any] = inspect.unwrap(found)
    if not isinstance(unwrapped, FunctionType) or unwrapped.__module__.startswith("agents."):
        return None
    return unwrapped


def _annotations(function: FunctionType) -> list[Any]:
    kept = process_state.of(KnownAnnotations).of
    known = kept.get(function)
    if known is None:
        try:
            known = list(typing.get_type_hints(function, include_extras=True).values())
        except Exception:  # noqa: BLE001  # an annotation may be any expression
            known = list(function.__annotations__.values())
        if "<locals>" not in function.__qualname__:
            kept[function] = known
    return known


def _named(function: FunctionType) -> Iterator[Any]:
    """What a function's body refers to: globals, and variables of the functions around it."""
    names: set[str] = set()
    codes: list[CodeType] = [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes.extend(constant for constant in code.co_consts if isinstance(constant, CodeType))
    space = function.__globals__
    yield from (space[name] for name in names if name in space)
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # It is empty as yet.
            continue
