"""Offers `agents.Runner`'s signatures for durable runs."""

from __future__ import annotations

from typing import Any

from agents import Agent, RunResult, RunResultStreaming

from timestep.dbos_internals import workflow_scope
from timestep.errors import NotInWorkflowError
from timestep.execution.identity import one_lane
from timestep.runner.install import dispatch, durable
from timestep.runner.run_begin import Input


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
