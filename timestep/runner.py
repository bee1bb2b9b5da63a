"""The durable runner: the SDK's own loop, with each of its effects a recorded step."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, cast

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
from agents.exceptions import InputGuardrailTripwireTriggered, MaxTurnsExceeded
from agents.run import DEFAULT_MAX_TURNS, AgentRunner, set_default_agent_runner

from timestep import connections, envelopes, interruptions, ownership, seams, turns, watch
from timestep.calls import InDoubtError
from timestep.context import warn_of_losses
from timestep.definitions import RunGuardrail, describe
from timestep.durability import check_agents, check_options, recorded_input
from timestep.errors import NotInWorkflowError, ReplayError, RunTimeoutError, TimestepError
from timestep.opening import one_lane, open_run
from timestep.recorder import recorder
from timestep.rows import derived, jsonable
from timestep.run import Call, Rows, Run
from timestep.scopes import StepScope, current_run, current_step, entered
from timestep.seams import DispatchingRunner
from timestep.seams.ledger import Ledger
from timestep.seams.loop import end_events
from timestep.sessions import row_of
from timestep.values import dumps, encode, restored, storable
from timestep.watch import Cut

Input = str | list[TResponseInputItem] | RunState[Any]


class _DurableAgentRunner(AgentRunner):
    """Runs agents durably for a caller inside a workflow."""

    async def run(self, starting_agent: Agent[Any], input: Input, **options: Any) -> RunResult:  # noqa: A002
        run = _open(starting_agent, input, options)
        with entered(run):
            try:
                async with _cuttable(run):
                    await _begin(run, starting_agent, input, options)
                    result = await super().run(starting_agent, input, **options)
                    if not result.interruptions:
                        await run.hold_if_cut("its end")
                await _finish(run, result)
            except InDoubtError as doubt:
                if run.interrupted_result is None:
                    await _end(run, _in_doubt(run, doubt.call))
                return await _ask_again(run, doubt.call)
            except BaseException as error:  # noqa: BLE001  # _end raises it
                await _end(run, error)
            finally:
                _leave(run)
        return result

    def run_streamed(
        self,
        starting_agent: Agent[Any],
        input: Input,  # noqa: A002
        **options: Any,
    ) -> RunResultStreaming:
        run = _open(starting_agent, input, options)
        begin = functools.partial(_begin, run, starting_agent, input, options)
        run.stream = functools.partial(_stream, run, begin)
        with entered(run):
            return super().run_streamed(starting_agent, input, **options)


async def _stream(
    run: Run, begin: Callable[[], Awaitable[None]], original: Any, *args: Any, **kwargs: Any
) -> None:
    """The streamed loop, from its first step to its recorded end."""
    streamed: RunResultStreaming = kwargs["streamed_result"]
    run.stop_stream = streamed.cancel
    try:
        async with _cuttable(run):
            await begin()
            await original(*args, **kwargs)
            if not _stopped(streamed) and not streamed.interruptions:
                await run.hold_if_cut("its end")
        if (error := _stream_error(streamed)) is not None:
            await _record_failure(run, error)
        elif streamed.final_output is None and not streamed.interruptions and _stopped(streamed):
            await _record_cut(run)
        else:
            await _finish(run, streamed)
    except InDoubtError as doubt:
        end_events(streamed)
        await _end(run, _in_doubt(run, doubt.call))
    except BaseException as error:  # noqa: BLE001  # _end raises it
        end_events(streamed)
        await _end(run, error)
    finally:
        _leave(run)


def _stopped(streamed: RunResultStreaming) -> bool:
    return streamed._cancel_mode != "none"


def _stream_error(streamed: RunResultStreaming) -> BaseException | None:
    """What the stream's reader will be raised, where the loop itself ended quietly."""
    if streamed._triggered_input_guardrail_result is not None:
        return InputGuardrailTripwireTriggered(streamed._triggered_input_guardrail_result)
    limit = streamed.max_turns
    if limit is not None and streamed.current_turn > limit and not streamed._max_turns_handled:
        return MaxTurnsExceeded(f"Max turns ({limit}) exceeded")
    return streamed._stored_exception


def _open(agent: Agent[Any], given: Input, options: dict[str, Any]) -> Run:
    """Draw what must not depend on timing: the run's number and those of its first checks."""
    if not ownership.in_workflow():
        raise NotInWorkflowError
    seams.connect()
    timeout = options.pop("timeout", None)
    approval_timeout = options.pop("approval_timeout", None)
    check_options(options)
    state = given if isinstance(given, RunState) else None
    run = open_run(recorder(), _task_of(agent, given), state)
    run.timeout = timeout
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


async def _begin(run: Run, agent: Agent[Any], given: Input, options: dict[str, Any]) -> None:
    if run.is_begun:
        if isinstance(given, RunState):
            await interruptions.settle(run, given)
        return
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
    _warn_of_lost_changes(run, given, options.get("context"))
    if run.own_row is None or "started_at" not in run.own_row:
        run.start_timer()
    if isinstance(given, RunState) and given._current_agent is not None:
        await turns.expect_left(run, given._current_agent, run.ledger.left)


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
async def _cuttable(run: Run) -> AsyncIterator[None]:
    """End what a run waits for once its time is over, or its execution owns nothing any more."""
    async with run.cut as cut:
        with contextlib.ExitStack() as stack:
            if run.parent is None:
                stack.enter_context(watch.watching(run.recorder, run.owner, cut.now))
            yield


@contextlib.asynccontextmanager
async def cut_by_owner(run: Run) -> AsyncIterator[None]:
    """End a wait of the workflow for a run once this execution owns the workflow no more."""
    try:
        async with Cut() as cut:
            with watch.watching(run.recorder, run.owner, cut.now):
                yield
    except ownership.LOST:
        await run.recorder.cancelled(run.owner.workflow_id, run.root_id)
        raise


def _leave(run: Run) -> None:
    run.close()
    if run.parent is None:
        connections.leave(run.root_id)


async def _finish(run: Run, result: RunResult | RunResultStreaming) -> None:
    """Record how a run ended: with an answer, or with questions."""
    if run.control_error is not None:
        # The SDK answered it, and came to an end without another step that would raise it.
        raise run.control_error
    if result.interruptions:
        run.interrupted_result = result
        await interruptions.record(run, result)
        return
    if run.is_over:
        return
    rows: Rows = {}
    if (state := run.ledger.checkpoint(run, result.to_state)) is not None:
        rows["run_states"] = [run.states.row("final", state, derived(run.id, "final"))]
    output = storable(jsonable(result.final_output))
    await _record(run, "completed", {"final_output": output}, rows, result.last_agent)


def _in_doubt(run: Run, call: Call) -> ReplayError:
    return ReplayError(
        f"the outcome of call {call.row['call_id']!r} of tool {call.row['tool_name']!r} in run "
        f"{run.id} is unknown, and this run cannot stop to ask about it: use "
        "timestep.run_agent in the workflow that began it, which waits for a person's decision"
    )


async def _ask_again(run: Run, call: Call) -> RunResult:
    """A call was started once more and its outcome is unknown once more: stop as before."""
    result = cast(RunResult, run.interrupted_result)
    await interruptions.record(run, result, [call])
    return result


async def _end(run: Run, error: BaseException) -> NoReturn:
    """Record what ended the run, and raise it; DBOS's own errors come before the SDK's."""
    if run.control_error is not None:
        error, hidden = run.control_error, error
        error.__context__ = hidden if hidden is not error else None
    is_timeout = error is run.cut.cause and isinstance(error, RunTimeoutError)
    if run.parent is not None and isinstance(error, TimestepError) and not is_timeout:
        # A tool's error handler would tell the model of it, and go on.
        run.parent.control_error = error
    if isinstance(error, ownership.LOST):
        await run.recorder.cancelled(run.owner.workflow_id, run.root_id)
    elif isinstance(error, asyncio.CancelledError):
        # A process that stops cancels its tasks; their runs go on in the next one. And a run
        # that is cut off ends those inside it.
        is_inside = run.parent is not None and run.parent.is_cut_off
        if not ownership.is_stopping() and not is_inside:
            await run.cut_off()
            await _record_cut(run)
    elif is_timeout:
        await run.cut_off()
        timeout = {"cancel_reason": "timeout"}
        inside = [await _ended(child, "cancelled", timeout) for child in _begun(run)]
        await _record_failure(run, error, {"runs": inside})
    elif isinstance(error, Exception) and not isinstance(error, ownership.CONTROL_ERRORS):
        await _record_failure(run, error)
        error = _as_recorded(run, error)
    raise error


def _as_recorded(run: Run, error: Exception) -> BaseException:
    """What ended the run: of two calls that fail at once, the first execution chose one."""
    row = run.own_row if run.is_over else None
    if row is None or row["error"] is None:
        return error
    recorded = restored(row["error"])
    return error if recorded == envelopes.seal(error) else envelopes.opened(recorded)


async def _record_failure(run: Run, error: BaseException, rows: Rows | None = None) -> None:
    await run.settle()
    if not run.is_begun or run.is_over:
        return
    envelope = envelopes.seal(error)
    columns = {
        "error_type": envelopes.short_type(str(envelope["type"])),
        "error_message": envelope["message"],
        "error_turn": run.turn,
        "error": storable(dict(envelope)),
    }
    await _record(run, "failed", columns, rows)


async def _record_cut(run: Run) -> None:
    """Record that the workflow's own code cut a run off, and with it the runs inside it."""
    numbers = run.numbers.newest() if run.numbers is not None else None
    inside = [await _ended(child, "cancelled", {"cancel_reason": "code"}) for child in _begun(run)]
    columns = {"cancel_reason": "code", "cancel_steps": numbers}
    await _record(run, "cancelled", columns, {"runs": inside})


async def _record(
    run: Run,
    status: str,
    columns: dict[str, Any],
    rows: Rows | None = None,
    agent: Agent[Any] | None = None,
) -> None:
    if not run.is_begun:
        return
    await run.settle()
    rows = rows or {}
    row = await _ended(run, status, columns, agent)
    await run.commit({**rows, "runs": [row, *rows.get("runs", [])]}, is_end=True)


async def _ended(
    run: Run, status: str, columns: dict[str, Any], agent: Agent[Any] | None = None
) -> dict[str, Any]:
    last = agent if agent is not None else run.agent
    return {
        "id": str(run.id),
        "status": status,
        "current_turn": run.turn,
        "current_agent_id": str(await run.agent_id(last)) if last is not None else None,
        "completed_at": True,
        **columns,
    }


def _begun(run: Run) -> list[Run]:
    return [child for child in run.family() if child.is_begun]


_durable = _DurableAgentRunner()
_is_installed = False


def _is_durable_here() -> bool:
    """Inside a durable run everything is durable; elsewhere in a workflow, once installed."""
    return ownership.in_workflow() and (_is_installed or current_run() is not None)


def _dispatch() -> None:
    seams.connect()
    if not isinstance(agents.run.get_default_agent_runner(), DispatchingRunner):
        set_default_agent_runner(DispatchingRunner(_durable, _is_durable_here))


def install() -> None:
    """Make `agents.Runner` durable inside DBOS workflows; outside them it stays as it is.

    Raises:
        ConfigurationError: The installed Agents SDK is not one Timestep can work with.
    """
    global _is_installed
    _dispatch()
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
        return await _durable.run(starting_agent, input, **options)

    @classmethod
    def run_sync(cls, starting_agent: Agent[Any], input: Input, **options: Any) -> RunResult:  # noqa: A002
        """`run` for a workflow that is not async. Raises as `run` does."""
        _require_workflow()
        with one_lane():
            return _durable.run_sync(starting_agent, input, **options)

    @classmethod
    def run_streamed(
        cls,
        starting_agent: Agent[Any],
        input: Input,  # noqa: A002
        **options: Any,
    ) -> RunResultStreaming:
        """`run` with the SDK's events as they come. Raises as `run` does, or while streaming."""
        _require_workflow()
        return _durable.run_streamed(starting_agent, input, **options)


def _require_workflow() -> None:
    if not ownership.in_workflow():
        raise NotInWorkflowError
    _dispatch()
