"""A model that workflow code asks itself is a step: a replay takes what it said."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from agents import (
    Agent,
    AgentHooks,
    Model,
    ModelSettings,
    ModelTracing,
    OpenAIProvider,
    RunContextWrapper,
)
from agents.exceptions import ModelBehaviorError
from agents.testing import ScriptedModel, assistant_message
from openai import AsyncOpenAI

import timestep
from tests.support.dbos_app import App
from tests.support.model_provider import (
    Provider,
    answers,
    breaks_off,
    ends_early,
    fails,
)
from tests.support.model_provider import provider as provider

KEYWORDS: dict[str, Any] = {
    "previous_response_id": None,
    "conversation_id": None,
    "prompt": None,
}
ASKED: dict[str, Any] = {
    "system_instructions": None,
    "input": "hi",
    "model_settings": ModelSettings(),
    "tools": [],
    "output_schema": None,
    "handoffs": [],
    "tracing": ModelTracing.DISABLED,
    **KEYWORDS,
}


@pytest.fixture(autouse=True)
def installed(app: App) -> Iterator[None]:
    timestep.install()
    yield
    timestep.uninstall()


async def said(model: Model, seen: list[Any], at_most: int = 100) -> str:
    """The text of a streamed answer, or the class of the error that ends it."""
    text = ""
    try:
        events: AsyncIterator[Any] = model.stream_response(**ASKED)
        async for event in events:
            seen.append(event)
            at_most -= 1
            if event.type == "response.created":
                text = ""
            if event.type == "response.output_text.delta":
                text += event.delta
            if at_most == 0:
                break
    except (openai.APIError, ModelBehaviorError) as error:
        return type(error).__name__
    return text


@pytest.mark.parametrize("is_chat", [False, True])
def test_a_model_asked_without_the_runner_is_asked_once(
    app: App, provider: Provider, is_chat: bool
) -> None:
    provider.behaviours = [
        answers,  # Whole.
        *[answers, ends_early, fails(400)],  # Streamed.
        answers,  # The consumer goes away.
        breaks_off,
        answers,
    ]
    seen: list[list[Any]] = []

    async def body() -> str:
        async with AsyncOpenAI(base_url=provider.url, api_key="k", max_retries=0) as client:
            models = OpenAIProvider(openai_client=client, use_responses=not is_chat)
            model = models.get_model("m")
            events: list[Any] = []
            seen.append(events)
            answer = await model.get_response(**ASKED)
            told = [
                str(answer.usage.requests),
                await said(model, events),
                await said(model, events),
                await said(model, events),
                await said(model, events, at_most=2),
            ]
            # Nobody asks again whom the caller does not ask again.
            try:
                await model.get_response(**ASKED)
            except openai.APIConnectionError as error:
                told.append(type(error).__name__)
            last: Any = (await model.get_response(*list(ASKED.values())[:7], **KEYWORDS)).output[0]
            return " ".join([*told, last.content[0].text])

    first = app.run(body, "lone")
    errors = ["ModelBehaviorError", "BadRequestError"]
    assert first.split()[:4] == ["1", "Hello", *errors]
    assert first.split()[-2:] == ["APIConnectionError", "Hello"]
    assert app.steps("lone") == ["model: m"] * 7
    assert app.replay("lone") == first
    assert provider.behaviours == []
    before, after = seen
    assert after == before
    assert [type(event) for event in after] == [type(event) for event in before]


def test_code_inside_a_run_asks_a_model_once_too(app: App) -> None:
    """Hooks and instructions are executed again by a replay; what they asked is not."""
    other = ScriptedModel([[assistant_message(text)] for text in ("one", "two")])
    texts: list[str] = []

    async def ask() -> str:
        output: Any = (await other.get_response(**ASKED)).output[0]
        texts.append(output.content[0].text)
        return texts[-1]

    async def instructions(context: RunContextWrapper[Any], agent: Agent[Any]) -> str:
        return await ask()

    class Hooks(AgentHooks[Any]):
        async def on_end(self, context: Any, agent: Any, output: Any) -> None:
            await ask()

    async def body() -> str:
        model = ScriptedModel([[assistant_message("done")]])
        agent = Agent(name="A", model=model, instructions=instructions, hooks=Hooks())
        result = await timestep.DurableRunner.run(agent, "hi")
        return str(result.final_output)

    assert app.run(body, "inside") == "done"
    assert app.replay("inside") == "done"
    assert texts == ["one", "two"] * 2


def test_a_request_that_no_step_records_does_not_replay(app: App, provider: Provider) -> None:
    """A client that code of a workflow asks itself is none of a model's."""
    provider.behaviours = [answers]

    async def body() -> str:
        async with AsyncOpenAI(base_url=provider.url, api_key="k", max_retries=0) as client:
            try:
                return (await client.responses.create(model="m", input="hi")).output_text
            except openai.APIConnectionError:
                return "Hello"

    assert app.run(body, "raw") == "Hello"
    with pytest.raises(AssertionError, match=r"was about to send something to .*127\.0"):
        app.replay("raw")
    assert len(provider.requests) == 1
    assert "send" not in vars(socket.socket)


def test_a_step_asks_a_model_as_it_is(app: App) -> None:
    """What is recorded as a whole needs no record of its parts."""
    from dbos import DBOS

    model = ScriptedModel([[assistant_message("one")]])

    async def ask() -> str:
        output: Any = (await model.get_response(**ASKED)).output[0]
        return str(output.content[0].text)

    async def body() -> str:
        return await DBOS.run_step_async({"name": "mine"}, ask)

    assert app.run(body, "step") == "one"
    assert app.steps("step") == ["mine"]


def test_a_method_that_was_looked_up_before_the_run_is_part_of_the_run(app: App) -> None:
    """As who puts a function of his own around a model's does, and calls the model's inside."""

    async def body() -> str:
        model = ScriptedModel([[assistant_message("hello")]])
        original = model.get_response

        async def around(*args: Any, **kwargs: Any) -> Any:
            return await original(*args, **kwargs)

        model.get_response = around  # type: ignore[method-assign]  # what is tested
        result = await timestep.DurableRunner.run(Agent("A", model=model), "hi")
        return str(result.final_output)

    assert app.run(body, workflow_id="w") == "hello"
    assert app.steps("w") == ["turn 1: A"]
    assert app.replay("w") == "hello"
