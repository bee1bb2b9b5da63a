"""A model's time counts its answer only, and not what is done beside it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from agents import Agent, ModelResponse, ModelSettings
from agents.exceptions import ModelTimeoutError
from agents.testing import ScriptedModel, assistant_message

import timestep
from tests.support.dbos_app import App
from tests.support.passing_time import HOUR, pass_time
from timestep.steps import model_attempts

HELLO = [[assistant_message("hello")]]


async def ask(model: ScriptedModel, seconds: float, *, streamed: bool) -> str:
    """What ended a run, and the events that were heard before."""
    agent = Agent("A", model=model, model_settings=ModelSettings(timeout=seconds))
    heard: list[str] = []
    try:
        if not streamed:
            return str((await timestep.DurableRunner.run(agent, "hi")).final_output)
        result = timestep.DurableRunner.run_streamed(agent, "hi")
        async for event in result.stream_events():
            heard.append(getattr(getattr(event, "data", event), "type", event.type))
        return str(result.final_output)
    except ModelTimeoutError:
        return f"too late after {', '.join(heard)}"


def attempts_of(app: App) -> list[tuple[int, str]]:
    rows = app.rows("model_responses", "ordinal", "attempt")
    return [(row["attempt"], row["error"]["type"].partition(":")[2]) for row in rows]


class Closing(ScriptedModel):
    """Hangs, and cannot close its connection when it is cancelled."""

    asked = 0

    async def _hang(self) -> None:
        self.asked += 1
        pass_time()
        try:
            await asyncio.Event().wait()
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            raise ConnectionResetError("closing failed")

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        await self._hang()
        raise AssertionError

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        await self._hang()
        yield None


@pytest.mark.parametrize("streamed", [False, True])
def test_what_a_cancelled_attempt_ends_with_is_no_reason_for_another(
    app: App, streamed: bool
) -> None:
    model = Closing(HELLO)

    async def body() -> str:
        return await ask(model, HOUR, streamed=streamed)

    assert app.run(body, workflow_id="w").startswith("too late after")
    assert model.asked == 1
    assert attempts_of(app) == [(1, "ModelTimeoutError")]
    app.replay("w")


def test_nor_is_it_where_the_workflows_code_cuts_the_run_off(app: App) -> None:
    model = Closing(HELLO)

    async def body() -> str:
        run = timestep.DurableRunner.run(Agent("A", model=model), "hi")
        try:
            await asyncio.wait_for(run, HOUR)
        except ConnectionResetError as error:
            return str(error)
        return "answered"

    assert app.run(body, workflow_id="w") == "closing failed"
    assert model.asked == 1
    assert attempts_of(app) == [(1, "ConnectionResetError")]
    assert app.replay("w") == "closing failed"


class Late(ScriptedModel):
    """Answers although it is cancelled."""

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        async for event in super().stream_response(*args, **kwargs):
            if event.type == "response.completed":
                pass_time()
                for _ in range(2):
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        continue
            yield event


def test_an_answer_that_comes_while_it_is_given_up_is_heard_in_no_execution(app: App) -> None:
    async def body() -> str:
        return await ask(Late(HELLO), HOUR, streamed=True)

    said = app.run(body, workflow_id="w")
    assert said.startswith("too late after")
    assert "response.output_item.done" in said
    assert "response.completed" not in said
    assert app.replay("w") == said


class Refusing(ScriptedModel):
    """Cannot be reached."""

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise ConnectionError("nobody is there")


def test_an_attempt_that_failed_is_recorded_if_the_pause_after_it_is_too_long(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(_: float) -> None:
        pass_time()
        await asyncio.Event().wait()

    monkeypatch.setattr(model_attempts, "sleep", sleep)

    async def body() -> str:
        return await ask(Refusing(HELLO), HOUR, streamed=False)

    assert app.run(body, workflow_id="w").startswith("too late after")
    assert attempts_of(app) == [(1, "ConnectionError"), (2, "ModelTimeoutError")]
    app.replay("w")
