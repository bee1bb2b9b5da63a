"""Runs agents through the SDK's own loop, with each of the loop's effects a recorded step."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from agents import Agent, RunResult, RunResultStreaming
from agents.run import AgentRunner

from timestep.execution.current import entered
from timestep.execution.replay import recorded_end
from timestep.execution.run import Run
from timestep.runner import run_end
from timestep.runner.installation import Installation
from timestep.runner.run_begin import Input, begin, prepare
from timestep.runner.run_limits import cuttable, leave
from timestep.runtime import process_state
from timestep.sdk.state import continue_from_record
from timestep.sdk.stream_result import error_of, is_stopped
from timestep.sdk.turn_loop import end_events
from timestep.steps.interruption import InDoubtError


class _DurableAgentRunner(AgentRunner):
    """Runs agents durably for a caller inside a workflow."""

    async def run(self, starting_agent: Agent[Any], input: Input, **options: Any) -> RunResult:  # noqa: A002
        run = prepare(starting_agent, input, options)
        process_state.of(Installation).enter(run)
        with entered(run):
            try:
                async with cuttable(run):
                    given = await begin(run, starting_agent, input, options)
                    result = await super().run(starting_agent, given, **options)
                    if not result.interruptions:
                        await recorded_end.hold_if_cut(run, "its end")
                await run_end.finish(run, result)
            except InDoubtError as doubt:
                if run.questions.result is None:
                    await run_end.end(run, run_end.in_doubt(run, doubt.call))
                return await run_end.ask_again(run, doubt.call)
            except BaseException as error:  # noqa: BLE001  # run_end.end raises it
                await run_end.end(run, error)
            finally:
                await leave(run)
        return result

    def run_streamed(
        self,
        starting_agent: Agent[Any],
        input: Input,  # noqa: A002
        **options: Any,
    ) -> RunResultStreaming:
        run = prepare(starting_agent, input, options, is_streamed=True)
        process_state.of(Installation).enter(run)
        begin_stream = functools.partial(_begin_stream, run, starting_agent, input, options)
        run.streaming.begin(functools.partial(_stream, run, begin_stream))
        with entered(run):
            return super().run_streamed(starting_agent, input, **options)


async def _begin_stream(
    run: Run, agent: Agent[Any], given: Input, options: dict[str, Any], started: dict[str, Any]
) -> dict[str, Any]:
    """Begin a streamed run; what its loop is started with."""
    options["run_config"] = started["run_config"]
    found = await begin(run, agent, given, options)
    if run.record.continuation is None or run.record.is_of_the_past:
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
    run.streaming.stop_with(streamed.cancel)
    try:
        async with cuttable(run):
            await original(**await begin(kwargs))
            if not is_stopped(streamed) and not streamed.interruptions:
                await recorded_end.hold_if_cut(run, "its end")
        if (error := error_of(streamed)) is not None:
            await run_end.record_failure(run, error)
        elif streamed.final_output is None and not streamed.interruptions and is_stopped(streamed):
            await run_end.record_cut(run)
        else:
            await run_end.finish(run, streamed)
    except InDoubtError as doubt:
        end_events(streamed)
        await run_end.end(run, run_end.in_doubt(run, doubt.call))
    except BaseException as error:  # noqa: BLE001  # run_end.end raises it
        end_events(streamed)
        await run_end.end(run, error)
    finally:
        await leave(run)
