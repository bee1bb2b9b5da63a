"""Begins runs: their options, their identity, their first row and their input."""

from __future__ import annotations

from typing import Any

from agents import Agent, RunConfig, RunContextWrapper, RunState, TResponseInputItem
from agents.run import DEFAULT_MAX_TURNS

from timestep.dbos_internals import workflow_scope
from timestep.errors import NotInWorkflowError
from timestep.execution.current import StepScope, current_step
from timestep.execution.identity import Stopped, open_run
from timestep.execution.run import Run
from timestep.journal.recorder import recorder
from timestep.sdk import declared_types
from timestep.sdk.reached_agents import describe
from timestep.sdk.state import continue_from_record, run_state_fields
from timestep.sdk.state.run_history import RunHistory, history_of
from timestep.sdk.validation import check_agents, check_options, recorded_input
from timestep.serialization.agent_definitions import RunGuardrail
from timestep.serialization.sdk_objects import jsonable
from timestep.serialization.values import dumps, encode
from timestep.sessions import row_of
from timestep.steps import interruption, model_call

Input = str | list[TResponseInputItem] | RunState[Any]


def prepare(
    agent: Agent[Any], given: Input, options: dict[str, Any], *, is_streamed: bool = False
) -> Run:
    """Draw what must not depend on timing: the run's number and those of its first checks.

    Args:
        agent: The agent that begins.
        given: What it is given.
        options: Those of the runner; those that are Timestep's own are taken out.
        is_streamed: Whether the run goes on behind a reader, who may leave it.
    """
    if not workflow_scope.in_workflow():
        raise NotInWorkflowError
    timeout = options.pop("timeout", None)
    approval_timeout = options.pop("approval_timeout", None)
    check_options(options)
    state = given if isinstance(given, RunState) else None
    run = open_run(recorder(), _task_of(agent, given), _stopped(state) if state else None)
    run.take_options(
        timeout=timeout,
        approval_timeout=approval_timeout,
        has_hooks=options.get("hooks") is not None,
        session=options.get("session"),
    )
    if run.questions.call_ids:
        run.resume()
        return run
    if is_streamed:
        run.set_numbers_aside()
    else:
        run.keep_numbers()
    history, enclosing = RunHistory(), current_step()
    is_counted = enclosing is not None and _counts_in(enclosing, options.get("context"))
    run.begin_with(history, enclosing.id if enclosing is not None and is_counted else None)
    if state is not None:
        run.go_on_at(run_state_fields.turn_of(state))
        history.adopt(state)
    else:
        config = options.get("run_config")
        checks = [
            *agent.input_guardrails,
            *((config.input_guardrails or []) if isinstance(config, RunConfig) else []),
        ]
        run.input_checks.extend(run.counters.draw() for _ in checks)
    return run


def _stopped(state: RunState[Any]) -> Stopped:
    waiting = frozenset(map(interruption.call_id, state.get_interruptions()))
    return Stopped(waiting, run_state_fields.newest_answer_of(state))


def _task_of(agent: Agent[Any], given: Input) -> str:
    """What a run is to do, as text."""
    return f"{agent.name}:{dumps(encode(jsonable(_input_of(given))))}"


def _input_of(given: Input) -> str | list[TResponseInputItem]:
    return run_state_fields.input_of(given) if isinstance(given, RunState) else given


def _counts_in(step: StepScope, context: object) -> bool:
    """Whether a nested run counts what it uses in the context of the call it is inside of."""
    return isinstance(context, RunContextWrapper) and context.usage is step.usage


async def begin(run: Run, agent: Agent[Any], given: Input, options: dict[str, Any]) -> Input:
    """Write that a run begins, or read what is recorded of it; the input that it begins with."""
    if run.record.is_begun:
        continue_from_record.change(run, options)
        if isinstance(given, RunState):
            await interruption.settle(run, given, run_state_fields.context_of(given))
        return given
    config = options.get("run_config")
    run_guardrails: list[RunGuardrail] = (
        [*(config.input_guardrails or []), *(config.output_guardrails or [])]
        if isinstance(config, RunConfig)
        else []
    )
    definitions = describe([agent], run_guardrails)
    check_agents(definitions.agents)
    context = _context_of(given, options)
    declared_types.declare(run.types, [agent], run_guardrails)
    run.types.declare_value(context)
    session = options.get("session")
    values = {
        "input": recorded_input(_input_of(given)),
        "max_turns": options.get("max_turns", DEFAULT_MAX_TURNS),
        "session_id": await row_of(session) if session is not None else None,
    }
    await run.begin(agent, definitions, values)
    given = await continue_from_record.continued(run, agent, given, options)
    run.context.warn_once(context, run.parent.context if run.parent is not None else None)
    if "started_at" not in (run.record.own_row or {}):
        run.start_timer()
    current = run_state_fields.agent_of(given) if isinstance(given, RunState) else None
    if current is not None:
        await model_call.expect_left(run, current, history_of(run).left)
    return given


def _context_of(given: Input, options: dict[str, Any]) -> object:
    """The user's object that a run's context is."""
    context = options.get("context")
    if context is None and isinstance(given, RunState):
        context = run_state_fields.context_of(given)
    return context.context if isinstance(context, RunContextWrapper) else context
