"""Nothing keeps an agent once its run has ended and nobody has its result."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from agents import Agent, Runner
from agents.testing import ScriptedModel, assistant_message

import timestep
from tests.support.dbos_app import App


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_agent_is_freed_with_its_run(app: App, is_streamed: bool) -> None:
    timestep.install()

    async def body() -> bool:
        agent = Agent("A", model=ScriptedModel([[assistant_message("done")]]))
        found = weakref.ref(agent)
        if is_streamed:
            result = Runner.run_streamed(agent, "hi")
            async for event in result.stream_events():
                del event
            del result
        else:
            await Runner.run(agent, "hi")
        del agent
        # A streamed run's own task may end a moment after its last event was read.
        async with asyncio.timeout(60):
            while found() is not None:
                gc.collect()
                await asyncio.sleep(0.01)
        return found() is None

    assert app.run(body, "w") == "True"
    assert app.replay("w") == "True"
