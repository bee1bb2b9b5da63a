"""What a run drew beside the step that ended it shifts nothing that comes after the run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agents import Agent, GuardrailFunctionOutput, InputGuardrail
from agents.exceptions import AgentsException
from agents.testing import ScriptedModel, assistant_message

import timestep
from tests.support.dbos_app import App


class AskedModel(ScriptedModel):
    """Tells when it is asked, and never answers its first question."""

    def __init__(self, asked: asyncio.Event) -> None:
        super().__init__([[assistant_message("hello")]])
        self.asked = asked

    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        self.asked.set()
        await asyncio.Event().wait()


def plain(name: str) -> Agent[Any]:
    return Agent(name=name, model=ScriptedModel([[assistant_message(f"{name} is done")]]))


async def failing(agent: Agent[Any], **options: Any) -> str:
    """How the run of an agent fails."""
    with pytest.raises(AgentsException) as failure:
        await timestep.DurableRunner.run(agent, "hi", **options)
    return failure.type.__name__


def replays(app: App, body: Any) -> str:
    """What a workflow says; and see that its replays repeat it, whatever the timing."""
    first = app.run(body, workflow_id="w")
    steps = app.steps("w")
    rows = app.everything()
    for _ in range(5):
        assert app.replay("w") == first
    assert app.steps("w") == steps
    assert app.everything() == rows
    return first


@pytest.mark.parametrize("waits", [True, False])
def test_an_input_guardrail_trips_while_the_model_is_asked(app: App, waits: bool) -> None:
    async def body() -> str:
        asked = asyncio.Event()

        async def check(*_: Any) -> GuardrailFunctionOutput:
            if waits:
                await asked.wait()
            return GuardrailFunctionOutput(output_info=None, tripwire_triggered=True)

        agent = Agent(
            name="A", model=AskedModel(asked), input_guardrails=[InputGuardrail(check, name="no")]
        )
        told = await failing(agent)
        result = await timestep.DurableRunner.run(plain("B"), "and then?")
        return f"{told} {result.final_output}"

    assert replays(app, body) == "InputGuardrailTripwireTriggered B is done"
