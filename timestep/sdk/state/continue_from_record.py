"""Begins runs with a recorded state: forks, and runs that other code began."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
from typing import Any

from agents import Agent, ModelSettings, RunConfig, RunContextWrapper, RunState
from agents.exceptions import AgentsException
from agents.run import AgentRunner
from agents.run_config import CallModelData, ModelInputData
from pydantic import TypeAdapter

from timestep.errors import ReplayError
from timestep.execution import context_changes
from timestep.execution.run import Run
from timestep.sdk.state.run_history import history_of
from timestep.serialization import values


async def continued(run: Run, agent: Agent[Any], given: Any, options: dict[str, Any]) -> Any:
    """What a run is given to begin with: what its code gives, unless it goes on from a record.

    Args:
        run: The run.
        agent: The agent that the code begins with.
        given: The input that the code gives.
        options: The runner's options, which are changed where the agent is to be different.

    Raises:
        ReplayError: The state cannot be gone on with in this code. A run that is taken over is
            left as it was.
    """
    row = run.record.continuation
    if row is None or run.record.is_of_the_past:
        return given
    change(run, options)
    if row["state"] is None:
        return _input(run, row, given)
    try:
        state = await _state(run, row, agent, options)
    except AgentsException as error:
        if row["kind"] != "forked":
            run.record.leave()
        raise ReplayError(
            f"run {row['run_id']} cannot go on before turn {row['turn']} in this code, whose "
            f"agents begin with {agent.name!r}: {error}"
        ) from error
    run.input_checks.clear()
    run.go_on_at(state._current_turn)
    history = history_of(run)
    history.adopt(state)
    history.left = []
    if row["kind"] == "taken_over":
        run.counters.go_on_from(row["progress"])
        run.guardrails.skip_before(row["turn"])
    return state


def _input(run: Run, row: dict[str, Any], given: Any) -> Any:
    """The input of a run that begins at its beginning."""
    if row["kind"] == "taken_over":
        if row["turn"] is None:
            return given
        return values.restored((run.record.own_row or {})["input"])
    edit = row["input"] or {}
    if "replace" in edit:
        return values.restored(edit["replace"])
    return given


async def _state(
    run: Run, row: dict[str, Any], agent: Agent[Any], options: dict[str, Any]
) -> RunState[Any]:
    state: RunState[Any] = await RunState.from_json(
        agent, values.restored(row["state"]), context_override={}
    )
    given = options.get("context")
    given = given.context if isinstance(given, RunContextWrapper) else given
    _change_context(run, row, given)
    assert state._context is not None  # Made of the override.
    state._context.context = given
    if "max_turns" in options:
        state._max_turns = options["max_turns"]
    edit = row["input"] or {}
    if "replace" in edit:
        # The model is shown this and nothing else; what was said before stays the run's.
        state._original_input = values.restored(edit["replace"])
        state._generated_items = []
        state._nested_history_owned_session_item_refs = []
    if "append" in edit:
        state.add_input(values.restored(edit["append"]))
    return state


def _change_context(run: Run, row: dict[str, Any], given: Any) -> None:
    """Change the context as the calls of the turns before did, which are not replayed."""
    if row["kind"] == "forked" and context_changes.is_supported(given):
        for delta in row["context_changes"]:
            context_changes.change(given, values.restored(delta))
        return
    calls = [
        call
        for call in run.record.all("tool_calls")
        if call["turn"] < row["turn"] and call["context_position"] is not None
    ]
    if calls:
        run.context.restore(given, max(calls, key=lambda c: c["context_position"]), calls)


def change(run: Run, options: dict[str, Any]) -> None:
    """Make the agent different, as the fork asked for; the code's own agent stays as it is."""
    row = run.record.continuation
    changes = values.restored(row["changes"]) if row is not None else None
    if changes is None:
        return
    config: RunConfig = options.get("run_config") or RunConfig()
    if "model" in changes:
        config = dataclasses.replace(config, model=changes["model"])
    if "model_settings" in changes:
        settings = model_settings(changes["model_settings"])
        merged = config.model_settings.resolve(settings) if config.model_settings else settings
        config = dataclasses.replace(config, model_settings=merged)
    if "instructions" in changes:
        config = dataclasses.replace(
            config,
            call_model_input_filter=_instructed(
                changes["agent"], changes["instructions"], config.call_model_input_filter
            ),
        )
    options["run_config"] = config


def model_settings(document: dict[str, Any], *, strict: bool = False) -> Any:
    """The SDK's settings of a model from JSON.

    Args:
        document: The settings by their names.
        strict: Whether true is no number, and "5" none either.

    Raises:
        ValidationError: A value does not fit.
        TypeError: There is no such setting.
    """
    for name in document:
        if name not in ModelSettings.__dataclass_fields__:
            raise TypeError(f"there is no setting {name!r}")
    return TypeAdapter(ModelSettings).validate_json(json.dumps(document), strict=strict)


def _instructed(name: str, instructions: str, inner: Any) -> Any:
    async def instruct(data: CallModelData[Any]) -> ModelInputData:
        if data.agent.name == name:
            changed = dataclasses.replace(data.model_data, instructions=instructions)
            data = dataclasses.replace(data, model_data=changed)
        if inner is None:
            return data.model_data
        found = inner(data)
        answer: ModelInputData = await found if inspect.isawaitable(found) else found
        return answer

    return instruct


_OWN = (asyncio.Queue, asyncio.Event, asyncio.Task)
"""What a stream's reader holds already, and is not replaced."""


async def restarted(
    run: Run, agent: Agent[Any], given: Any, options: dict[str, Any], started: dict[str, Any]
) -> dict[str, Any]:
    """What the streamed loop is started with so that it begins with another input.

    Args:
        run: The run.
        agent: The agent that the code begins with.
        given: What it begins with instead.
        options: The runner's options.
        started: What the loop was to be started with.
    """
    found: list[dict[str, Any]] = []

    async def take(original: Any, **kwargs: Any) -> None:
        found.append(kwargs)

    with run.streaming.driven_by(take):
        again = AgentRunner().run_streamed(agent, given, **options)
        assert again.run_loop_task is not None
        await again.run_loop_task
    streamed = started["streamed_result"]
    for name, value in vars(again).items():
        if not isinstance(value, _OWN) and not isinstance(vars(streamed).get(name), _OWN):
            setattr(streamed, name, value)
    return {**found[0], "streamed_result": streamed}
