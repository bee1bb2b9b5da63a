"""The durable runner: the SDK's own loop, with each of its effects a recorded step."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import agents.run
from agents import (
    Agent,
    RunConfig,
    RunContextWrapper,
    RunResult,
    RunResultStreaming,
    RunState,
    TResponseInputItem,
)
from agents.run import DEFAULT_MAX_TURNS, AgentRunner, set_default_agent_runner

from timestep import endings
from timestep.dbos_internals import control_errors, workflow_scope
from timestep.errors import NotInWorkflowError
from timestep.execution import recorded_end
from timestep.execution.context_changes import warn_of_losses
from timestep.execution.current import StepScope, current_run, current_step, entered
from timestep.execution.identity import one_lane, open_run
from timestep.execution.run import Run
from timestep.journal import ownership_watch
from timestep.journal.recorder import recorder
from timestep.runtime.cancellation import Cut
from timestep.sdk import patches
from timestep.sdk.default_runner import DispatchingRunner
from timestep.sdk.mcp import shared_connections
from timestep.sdk.state import continue_from_record
from timestep.sdk.state.run_history import Ledger
from timestep.sdk.stream_result import error_of, is_stopped
from timestep.sdk.turn_loop import end_events
from timestep.sdk.validation import check_agents, check_options, recorded_input
from timestep.serialization.agent_definitions import RunGuardrail, describe
from timestep.serialization.sdk_objects import jsonable
from timestep.serialization.values import dumps, encode
from timestep.sessions import row_of
from timestep.steps import interruption, model_call
from timestep.steps.tool_call import InDoubtError

Input = str | list[TResponseInputItem] | RunState[Any]


class _DurableAgentRunner(AgentRunner):
    """Runs agents durably for a caller inside a workflow."""

    async def run(self, starting_agent: Agent[Any], input: Input, **options: Any) -> RunResult:  # noqa: A002
        run = prepare(starting_agent, input, options)
        with entered(run):
            try:
                async with cuttable(run):
                    given = await begin(run, starting_agent, input, options)
                    result = await super().run(starting_agent, given, **options)
                    if not result.interruptions:
                        await recorded_end.hold_if_cut(run, "its end")
                await endings.finish(run, result)
            except InDoubtError as doubt:
                if run.interrupted_result is None:
                    await endings.end(run, endings.in_doubt(run, doubt.call))
                return await endings.ask_again(run, doubt.call)
            except BaseException as error:  # noqa: BLE001  # _end raises it
                await endings.end(run, error)
            finally:
                leave(run)
        return result

    def run_streamed(
        self,
        starting_agent: Agent[Any],
        input: Input,  # noqa: A002
        **options: Any,
    ) -> RunResultStreaming:
        run = prepare(starting_agent, input, options)
        begin = functools.partial(_begin_stream, run, starting_agent, input, options)
        run.stream = functools.partial(_stream, run, begin)
        with entered(run):
            return super().run_streamed(starting_agent, input, **options)


async def _begin_stream(
    run: Run, agent: Agent[Any], given: Input, options: dict[str, Any], started: dict[str, Any]
) -> dict[str, Any]:
    """Begin a streamed run; what its loop is started with."""
    options["run_config"] = started["run_config"]
    found = await begin(run, agent, given, options)
    if run.continuation is None or run.is_of_the_past:
        return started
    return await continue_from_record.restarted(run, agent, found, options, started)


async def _stream(
    run: Run,
    begin: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]],
    original: Any,
    **kwargs: Any,
) -> None:
    """The streamed loop, from its first step to its recorded end."""
    streamed: RunResultStreaming = kwargs["streamed_result"]
    run.stop_stream = streamed.cancel
    try:
        async with cuttable(run):
            await original(**await begin(kwargs))
            if not is_stopped(streamed) and not streamed.interruptions:
                await recorded_end.hold_if_cut(run, "its end")
        if (error := error_of(streamed)) is not None:
            await endings.record_failure(run, error)
        elif streamed.final_output is None and not streamed.interruptions and is_stopped(streamed):
            await endings.record_cut(run)
        else:
            await endings.finish(run, streamed)
    except InDoubtError as doubt:
        end_events(streamed)
        await endings.end(run, endings.in_doubt(run, doubt.call))
    except BaseException as error:  # noqa: BLE001  # _end raises it
        end_events(streamed)
        await endings.end(run, error)
    finally:
        leave(run)


def prepare(agent: Agent[Any], given: Input, options: dict[str, Any]) -> Run:
    """Draw what must not depend on timing: the run's number and those of its first checks."""
    if not workflow_scope.in_workflow():
        raise NotInWorkflowError
    patches.connect()
    timeout = options.pop("timeout", None)
    approval_timeout = options.pop("approval_timeout", None)
    check_options(options)
    state = given if isinstance(given, RunState) else None
    run = open_run(recorder(), _task_of(agent, given), state)
    run.timeout = timeout
    run.has_hooks = options.get("hooks") is not None
    if approval_timeout is not None:
        run.approval_timeout = approval_timeout
    if run.interrupted_calls:
        run.resume()
        return run
    run.ledger = Ledger()
    enclosing = current_step()
    if enclosing is not None and _counts_in(enclosing, options.get("context")):
        run.step_id = enclosing.id
    if state is not None:
        run.turn = state._current_turn
        run.ledger.adopt(state)
    else:
        config = options.get("run_config")
        checks = [
            *agent.input_guardrails,
            *((config.input_guardrails or []) if isinstance(config, RunConfig) else []),
        ]
        run.input_checks.extend(run.draw() for _ in checks)
    return run


def _task_of(agent: Agent[Any], given: Input) -> str:
    """What a run is to do, as text."""
    task = given._original_input if isinstance(given, RunState) else given
    return f"{agent.name}:{dumps(encode(jsonable(task)))}"


def _counts_in(step: StepScope, context: object) -> bool:
    """Whether a nested run counts what it uses in the context of the call it is inside of."""
    return isinstance(context, RunContextWrapper) and context.usage is step.usage


async def begin(run: Run, agent: Agent[Any], given: Input, options: dict[str, Any]) -> Input:
    """Write that a run begins, or read what is recorded of it; the input that it begins with."""
    if run.is_begun:
        continue_from_record.change(run, options)
        if isinstance(given, RunState):
            await interruption.settle(run, given)
        return given
    config = options.get("run_config")
    run_guardrails: list[RunGuardrail] = (
        [*(config.input_guardrails or []), *(config.output_guardrails or [])]
        if isinstance(config, RunConfig)
        else []
    )
    run.definitions = describe([agent], run_guardrails)
    check_agents(run.definitions.agents)
    session = options.get("session")
    values = {
        "input": recorded_input(given),
        "max_turns": options.get("max_turns", DEFAULT_MAX_TURNS),
        "session_id": await row_of(session) if session is not None else None,
    }
    run.agent = agent
    await run.begin(agent, values)
    given = await continue_from_record.continued(run, agent, given, options)
    _warn_of_lost_changes(run, given, options.get("context"))
    if run.own_row is None or "started_at" not in run.own_row:
        run.start_timer()
    if isinstance(given, RunState) and given._current_agent is not None:
        await model_call.expect_left(run, given._current_agent, run.ledger.left)
    return given


def _warn_of_lost_changes(run: Run, given: Input, context: object) -> None:
    """Where changes of the run's context will not survive, say so once."""
    if context is None and isinstance(given, RunState):
        context = given._context
    if isinstance(context, RunContextWrapper):
        context = context.context
    run.context.told_of = context
    if run.parent is None or run.parent.context.told_of is not context:
        warn_of_losses(context)


@contextlib.asynccontextmanager
async def cuttable(run: Run) -> AsyncIterator[None]:
    """End what a run waits for once its time is over, or its execution owns nothing any more."""
    async with run.cut as cut:
        with contextlib.ExitStack() as stack:
            if run.parent is None:
                stack.enter_context(ownership_watch.watching(run.recorder, run.owner, cut.now))
            yield


@contextlib.asynccontextmanager
async def cut_by_owner(run: Run) -> AsyncIterator[None]:
    """End a wait of the workflow for a run once this execution owns the workflow no more."""
    try:
        async with Cut() as cut:
            with ownership_watch.watching(run.recorder, run.owner, cut.now):
                yield
    except control_errors.LOST:
        await run.recorder.cancelled(run.owner.workflow_id, run.root_id)
        raise


def leave(run: Run) -> None:
    run.close()
    if run.parent is None:
        shared_connections.leave(run.root_id)


durable = _DurableAgentRunner()
_is_installed = False


def _is_durable_here() -> bool:
    """Inside a durable run everything is durable; elsewhere in a workflow, once installed."""
    return workflow_scope.in_workflow() and (_is_installed or current_run() is not None)


def dispatch() -> None:
    patches.connect()
    if not isinstance(agents.run.get_default_agent_runner(), DispatchingRunner):
        set_default_agent_runner(DispatchingRunner(durable, _is_durable_here))


def install() -> None:
    """Make `agents.Runner` durable inside DBOS workflows; outside them it stays as it is.

    Raises:
        ConfigurationError: The installed Agents SDK is not one Timestep can work with.
    """
    global _is_installed
    dispatch()
    _is_installed = True


def uninstall() -> None:
    """Undo `install()`: `agents.Runner` is the SDK's own everywhere."""
    global _is_installed
    _is_installed = False
    set_default_agent_runner(None)


class DurableRunner:
    """`agents.Runner`, durable: the same signatures, results and exceptions.

    Works inside a function decorated with `@DBOS.workflow()`.
    """

    @classmethod
    async def run(cls, starting_agent: Agent[Any], input: Input, **options: Any) -> RunResult:  # noqa: A002
        """Run an agent until it answers, or stops for an approval.

        Args:
            starting_agent: The agent that begins.
            input: The user's input: text, a list of items, or the state of a run to go on with.
            options: As `agents.Runner.run` takes them: `context`, `max_turns`, `hooks`,
                `run_config`, `error_handlers`, `previous_response_id`,
                `auto_previous_response_id`, `conversation_id`, `session`.

        Raises:
            NotInWorkflowError: The caller is not inside a DBOS workflow.
            NotDurableError: Something of the run cannot be recorded; no model was called.
        """
        _require_workflow()
        return await durable.run(starting_agent, input, **options)

    @classmethod
    def run_sync(cls, starting_agent: Agent[Any], input: Input, **options: Any) -> RunResult:  # noqa: A002
        """`run` for a workflow that is not async. Raises as `run` does."""
        _require_workflow()
        with one_lane():
            return durable.run_sync(starting_agent, input, **options)

    @classmethod
    def run_streamed(
        cls,
        starting_agent: Agent[Any],
        input: Input,  # noqa: A002
        **options: Any,
    ) -> RunResultStreaming:
        """`run` with the SDK's events as they come. Raises as `run` does, or while streaming."""
        _require_workflow()
        return durable.run_streamed(starting_agent, input, **options)


def _require_workflow() -> None:
    if not workflow_scope.in_workflow():
        raise NotInWorkflowError
    dispatch()
