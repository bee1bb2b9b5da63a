"""Temporal's plugin in a process of its own, as its README says: the tool is an activity.

python -m tests.benchmarks.temporal_contender ADDRESS
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowFailureError
from temporalio.openai_agents import ModelActivityParameters, OpenAIAgentsPlugin
from temporalio.openai_agents.workflow import activity_as_tool
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig
from temporalio.worker import Worker

with workflow.unsafe.imports_passed_through():
    from agents import Agent, Model, ModelProvider, Runner, set_tracing_disabled

    from tests.benchmarks import agent
    from tests.benchmarks.contenders import obey

_QUEUE = "benchmark"
_LIMIT = timedelta(seconds=60)


class Provider(ModelProvider):
    """Provides the scripted model, whatever the name."""

    def get_model(self, model_name: str | None) -> Model:
        return agent.ScriptedModel()


@activity.defn
async def fetch(size: int) -> str:
    """Fetch so many characters."""
    return agent.fetched(size)


@workflow.defn
class RunIt:
    """Runs the agent."""

    @workflow.run
    async def run(self, text: str, max_turns: int) -> str:
        it = Agent(
            agent.NAME,
            instructions=agent.INSTRUCTIONS,
            model="scripted",
            tools=[activity_as_tool(fetch, start_to_close_timeout=_LIMIT)],
        )
        result = await Runner.run(it, text, max_turns=max_turns)
        return str(result.final_output)


async def connected(address: str) -> Client:
    """A client, once the server listens."""
    plugin = OpenAIAgentsPlugin(
        model_params=ModelActivityParameters(start_to_close_timeout=_LIMIT),
        model_provider=Provider(),
    )
    for _ in range(300):
        try:
            return await Client.connect(address, plugins=[plugin])
        except RuntimeError:
            await asyncio.sleep(0.1)
    raise RuntimeError(f"nothing listens at {address}")


async def main() -> None:
    set_tracing_disabled(True)
    # It warns of each payload over half a MiB, which those of a long run are.
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter="ERROR"))))
    client = await connected(sys.argv[1])

    async def run(text: str, max_turns: int) -> object:
        name = f"run-{uuid.uuid4()}"
        try:
            return await client.execute_workflow(
                RunIt.run, args=[text, max_turns], id=name, task_queue=_QUEUE
            )
        except WorkflowFailureError as error:
            raise RuntimeError(str(error.cause)) from error

    async with Worker(client, task_queue=_QUEUE, workflows=[RunIt], activities=[fetch]):
        await obey(run)


if __name__ == "__main__":
    asyncio.run(main())
