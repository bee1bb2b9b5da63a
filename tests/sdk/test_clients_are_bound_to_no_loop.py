"""A model's client serves every event loop of its process, or tells how it can."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agents import Agent, OpenAIProvider, RunConfig
from agents.testing import ScriptedModel, assistant_message

import timestep
from tests.support.dbos_app import App
from tests.support.model_provider import Provider, answers
from tests.support.model_provider import provider as provider
from timestep.errors import ConfigurationError
from timestep.steps import model_attempts


@pytest.fixture(autouse=True)
def installed(app: App) -> Iterator[None]:
    timestep.install()
    yield
    timestep.uninstall()


@pytest.mark.parametrize("use_responses", [True, False])
def test_the_sdks_client_serves_every_loop(
    app: App, provider: Provider, use_responses: bool
) -> None:
    models = OpenAIProvider(base_url=provider.url, api_key="k", use_responses=use_responses)
    provider.behaviours = [answers] * 3

    async def body() -> str:
        options = RunConfig(model_provider=models)
        agent = Agent(name="A", model="m")
        first = await timestep.DurableRunner.run(agent, "hi", run_config=options)
        return str(first.final_output)

    # Each on a loop of its own, which ends.
    for number in range(3):
        assert app.run(body, f"loop {number}") == "Hello"
    rows = app.rows("model_responses")
    assert [(row["attempt"], row["error"]) for row in rows] == [(1, None)] * 3


def test_a_users_client_is_asked_again_on_another_loop(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(seconds: float) -> None:
        pass

    monkeypatch.setattr(model_attempts, "sleep", sleep)
    closed = RuntimeError("Event loop is closed")
    model = ScriptedModel([closed, [assistant_message("Hello")], *[closed] * 3])

    async def body() -> str:
        try:
            result = await timestep.DurableRunner.run(Agent(name="A", model=model), "hi")
        except ConfigurationError as error:
            return str(error)
        return str(result.final_output)

    assert app.run(body) == "Hello"
    assert "make the client in the workflow" in app.run(body)
