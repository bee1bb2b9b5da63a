"""Runs an agent until it answers, and waits meanwhile for what it asks people."""

from __future__ import annotations

import math
from typing import Any, Literal

from agents import Agent, RunResult, RunResultStreaming, RunState, TResponseInputItem

from timestep.errors import ConfigurationError
from timestep.runner.apply_decisions import decided_state
from timestep.runner.durable_runner import DurableRunner


async def run_agent(
    agent: Agent[Any],
    run_input: str | list[TResponseInputItem] | RunState[Any],
    session: Any = None,
    stream: bool = False,
    *,
    on_interruption: Literal["wait", "return"] = "wait",
    approval_timeout: float | None = None,
    timeout: float | None = None,  # noqa: ASYNC109  # durable, which asyncio's cannot be
    **runner_options: Any,
) -> RunResult | RunResultStreaming:
    """Run an agent durably; what an entrypoint calls.

    Args:
        agent: The agent that begins.
        run_input: Text, a list of input items, or a `RunState` to go on with.
        session: A `DatabaseSession`, or any other session that the SDK takes.
        stream: Whether the model is asked for a stream; the result comes when it has ended.
        on_interruption: `"wait"` sleeps durably until every pending approval is decided and
            goes on; `"return"` gives back the result with its `.interruptions`.
        approval_timeout: Seconds after which an undecided approval is rejected; those of runs
            inside this one, too.
        timeout: Seconds that the run may take, from its beginning or from the decision that it
            goes on with; people's time is not counted. A replay ends it where it ended.
        runner_options: As `agents.Runner.run` takes them.

    Raises:
        NotInWorkflowError: The caller is not inside a DBOS workflow.
        NotDurableError: Something of the run cannot be recorded; no model was called.
        ConfigurationError: An option has a value that is not one of those above.
        RunTimeoutError: `timeout` was over. The run is recorded as failed with it.
    """
    for name, seconds in {"timeout": timeout, "approval_timeout": approval_timeout}.items():
        if seconds is not None and not _is_duration(seconds):
            raise ConfigurationError(f"{name} {seconds!r} is not a positive number of seconds")
    if timeout is not None:
        runner_options["timeout"] = timeout
    if on_interruption not in ("wait", "return"):
        raise ConfigurationError(f"on_interruption is 'wait' or 'return', not {on_interruption!r}")
    if approval_timeout is not None and on_interruption == "wait":
        runner_options["approval_timeout"] = approval_timeout
    result = await _run(agent, run_input, session, stream, runner_options)
    while result.interruptions and on_interruption == "wait":
        state = await decided_state(result)
        result = await _run(agent, state, session, stream, runner_options)
    return result


def _is_duration(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and value > 0 and math.isfinite(value)  # type: ignore[operator, arg-type]  # a number


async def _run(
    agent: Agent[Any], given: Any, session: Any, stream: bool, options: dict[str, Any]
) -> RunResult | RunResultStreaming:
    if not stream:
        return await DurableRunner.run(agent, given, session=session, **options)
    streamed = DurableRunner.run_streamed(agent, given, session=session, **options)
    async for _ in streamed.stream_events():
        pass
    return streamed
