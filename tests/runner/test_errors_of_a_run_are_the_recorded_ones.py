"""What no step raised ends a run with what a replay will see, streamed or not."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

from agents import (
    Agent,
    AgentHooks,
    AgentOutputSchemaBase,
    GuardrailFunctionOutput,
    InputGuardrail,
    OutputGuardrail,
    RunConfig,
    RunHooks,
    ToolGuardrailFunctionOutput,
    TResponseInputItem,
    function_tool,
    handoff,
    tool_input_guardrail,
    tool_output_guardrail,
)
from agents.memory import SessionABC
from agents.testing import ScriptedModel, assistant_message, function_call

import timestep
from tests.support.dbos_app import App
from timestep.errors import RecordedError


class Locked(Exception):
    """Has an attribute that no record holds."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"locked {code}")
        self.lock = threading.Lock()
        self.code = code


def lock(*_: Any, **__: Any) -> Any:
    raise Locked(code=1)


async def lock_later(*_: Any, **__: Any) -> Any:
    lock()


class LockedSchema(AgentOutputSchemaBase):
    def is_plain_text(self) -> bool:
        return False

    def name(self) -> str:
        return "locked"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "object"}

    def is_strict_json_schema(self) -> bool:
        return False

    def validate_json(self, json_str: str) -> Any:
        lock()


@function_tool
def look() -> str:
    return "seen"


def agent(**changed: Any) -> Agent[Any]:
    model = ScriptedModel([[function_call("look", {}, call_id="c1")], [assistant_message("done")]])
    return Agent(**{"name": "A", "model": model, "tools": [look], **changed})


def lock_handoff(_: Any) -> None:
    lock()


def hooks(kind: type[Any], name: str) -> Any:
    made = kind()
    setattr(made, name, lock_later)
    return made


def handed_over() -> Agent[Any]:
    to = handoff(agent(name="B"), on_handoff=lock_handoff)
    model = ScriptedModel([[function_call(to.tool_name, {}, call_id="c1")]])
    return agent(model=model, handoffs=[to])


def check(_: Any, __: Any, ___: Any) -> GuardrailFunctionOutput:
    raise Locked(code=1)


def trip(_: Any, __: Any, ___: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput({"why": Locked(code=2)}, tripwire_triggered=True)


@tool_input_guardrail
def check_arguments(_: Any) -> ToolGuardrailFunctionOutput:
    raise Locked(code=1)


@tool_input_guardrail
def trip_on_arguments(_: Any) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.raise_exception({"why": Locked(code=2)})


@tool_output_guardrail
def check_output(_: Any) -> ToolGuardrailFunctionOutput:
    raise Locked(code=1)


class LockedSession(SessionABC):
    session_id = "locked"
    session_settings = None

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        return []

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        lock()

    async def pop_item(self) -> TResponseInputItem | None:
        return None

    async def clear_session(self) -> None:
        pass


def look_with(**changed: Any) -> Agent[Any]:
    tool = function_tool(lambda: "seen", name_override="look")
    return agent(tools=[dataclasses.replace(tool, **changed)])


def answer_later(*_: Any) -> str:
    raise Locked(code=3)


@function_tool(failure_error_function=answer_later, name_override="look")
def fail() -> str:
    raise Locked(code=1)


def agent_as_tool() -> Agent[Any]:
    model = ScriptedModel([[function_call("look", {"input": "hi"}, call_id="c1")]])
    inner = agent(instructions=lock).as_tool("look", "", failure_error_function=None)
    return agent(model=model, tools=[inner])


Case = Callable[[], tuple[Agent[Any], dict[str, Any]]]


def of_run_hook(name: str) -> Case:
    return lambda: (agent(), {"hooks": hooks(RunHooks, name)})


def of_agent_hook(name: str) -> Case:
    return lambda: (agent(hooks=hooks(AgentHooks, name)), {})


AROUND = ("on_agent_start", "on_agent_end", "on_llm_start", "on_llm_end")
OF_TOOLS = ("on_tool_start", "on_tool_end")
CASES: dict[str, Case] = {
    **{f"run {name}": of_run_hook(name) for name in (*AROUND, *OF_TOOLS)},
    **{f"agent {name}": of_agent_hook(name) for name in ("on_start", "on_end", *OF_TOOLS)},
    "output type": lambda: (agent(output_type=LockedSchema()), {}),
    "instructions": lambda: (agent(instructions=lock), {}),
    "tool use": lambda: (agent(tool_use_behavior=lock), {}),
    "handoff": lambda: (handed_over(), {}),
    "input guardrail": lambda: (
        agent(input_guardrails=[InputGuardrail(check, run_in_parallel=False)]),
        {},
    ),
    "parallel input guardrail": lambda: (agent(input_guardrails=[InputGuardrail(check)]), {}),
    "output guardrail": lambda: (agent(output_guardrails=[OutputGuardrail(check)]), {}),
    "input filter": lambda: (
        agent(),
        {"run_config": RunConfig(call_model_input_filter=lock)},
    ),
    "max turns": lambda: (agent(), {"max_turns": 1}),
    "tripwire": lambda: (
        agent(input_guardrails=[InputGuardrail(trip, run_in_parallel=False)]),
        {},
    ),
    "parallel tripwire": lambda: (agent(input_guardrails=[InputGuardrail(trip)]), {}),
    "output tripwire": lambda: (agent(output_guardrails=[OutputGuardrail(trip)]), {}),
    "tool guardrail": lambda: (look_with(tool_input_guardrails=[check_arguments]), {}),
    "tool tripwire": lambda: (look_with(tool_input_guardrails=[trip_on_arguments]), {}),
    "tool output guardrail": lambda: (look_with(tool_output_guardrails=[check_output]), {}),
    "is enabled": lambda: (look_with(is_enabled=lock), {}),
    "needs approval": lambda: (look_with(needs_approval=lock_later), {}),
    "failure function": lambda: (agent(tools=[fail]), {}),
    "agent as tool": lambda: (agent_as_tool(), {}),
    "session": lambda: (agent(), {"session": LockedSession()}),
    "session input": lambda: (
        agent(),
        {"session": LockedSession(), "run_config": RunConfig(session_input_callback=lock)},
    ),
    "error handler": lambda: (
        agent(),
        {"max_turns": 1, "error_handlers": {"max_turns": lock}},
    ),
}


def told(error: BaseException) -> Any:
    kinds = [kind.__name__ for kind in (Locked, RecordedError) if isinstance(error, kind)]
    cause = error.__cause__
    found = getattr(error, "guardrail_result", None)
    output = getattr(error, "output", None) if found is None else found.output
    info = None if output is None else repr(output.output_info)
    code = getattr(error, "code", None)
    return [str(error), kinds, hasattr(error, "lock"), code, info, cause and told(cause)]


async def ended(name: str, is_streamed: bool) -> Any:
    """What code that runs an agent can tell of how the run ended."""
    starting, options = CASES[name]()
    try:
        if is_streamed:
            result = timestep.DurableRunner.run_streamed(starting, "hi", **options)
            async for _ in result.stream_events():
                pass
        else:
            await timestep.DurableRunner.run(starting, "hi", **options)
    except Exception as error:  # noqa: BLE001  # it is looked at
        return told(error)
    return None


def test_what_no_step_raised_is_what_a_replay_sees(app: App) -> None:
    seen: list[dict[str, list[Any]]] = []

    async def body() -> str:
        seen.append({name: [await ended(name, way) for way in (False, True)] for name in CASES})
        return "done"

    app.run(body, workflow_id="w")
    app.recover("w")
    first, second = seen
    for name, (run, streamed) in first.items():
        assert run is not None, name
        assert streamed == run, name
        assert second[name] == [run, run], name
    recorded = [told for told, _ in first.values() if told[1] or (told[5] and told[5][1])]
    assert len(recorded) == 27
    for _, *locked, cause in recorded:
        classes, has_lock, *_ = locked if locked[0] else cause[1:]
        assert (classes, has_lock) == (["Locked", "RecordedError"], False)
    for name in ("tripwire", "parallel tripwire", "output tripwire", "tool tripwire"):
        assert first[name][0][4] == "{'why': 'locked 2'}"
