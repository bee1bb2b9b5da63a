"""Makes a DBOS step of a model that code of a workflow asks itself, without the runner.

There is no turn whose rows could hold the answer, so DBOS's own record of the step does. The model
is asked as its caller asks it: its client, and the caller, try again or do not.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from agents import Model, ModelResponse, OpenAIChatCompletionsModel, OpenAIResponsesModel
from agents.exceptions import ModelBehaviorError
from dbos import DBOS

from timestep.dbos_internals import control_errors, workflow_scope
from timestep.execution.current import current_step
from timestep.execution.replay import replay_check
from timestep.runtime import lease
from timestep.sdk.models import retry_policy
from timestep.sdk.models.durable_model import DurableModel, is_last
from timestep.serialization import exceptions, stream_events
from timestep.serialization.sdk_objects import model_name, response_columns, response_of
from timestep.serialization.values import restored, storable
from timestep.steps.step import Refused

T = TypeVar("T")

METHODS = frozenset({"get_response", "stream_response"})
"""Those that ask a model."""


def get_attribute(run: object, original: Any, model: Model, name: str) -> Any:
    """A model's attribute; one of `METHODS` asks through a step where nothing else records it."""
    found = original(model, name)
    if name not in METHODS or isinstance(model, DurableModel) or not workflow_scope.in_workflow():
        return found
    return _Asked(model, name, found)


class _Asked:
    """A model's method, which asks through a step where nothing else records it.

    Args:
        model: The model.
        name: One of `METHODS`.
        method: What it has under that name.
    """

    def __init__(self, model: Model, name: str, method: Any) -> None:
        functools.update_wrapper(self, method, updated=())
        self._model = model
        self._ask = _get_response if name == "get_response" else _stream
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Where it is called counts, and not where it was looked up: a run's model may call it.
        if not _is_code_of_workflow():
            return self._method(*args, **kwargs)
        return self._ask(self._model, self._method, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._method, name)


def _is_code_of_workflow() -> bool:
    if not workflow_scope.in_workflow() or workflow_scope.in_step():
        return False
    step = current_step()
    return step is None or step.run.owner != workflow_scope.scope().owner


async def _get_response(model: Model, get: Any, *args: Any, **kwargs: Any) -> ModelResponse:
    failed: list[Exception] = []

    async def step() -> dict[str, Any]:
        try:
            with retry_policy.on_own_loop():
                response: ModelResponse = await get(*args, **kwargs)
        except control_errors.CONTROL_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001  # recorded, and raised to the caller
            failed.append(error)
            return {_ERROR: storable(dict(exceptions.seal(error)))}
        return response_columns(response)

    recorded = await _as_step(DBOS.reserve_step(), model, step)
    if failed:
        raise failed[0]
    if (error := recorded.get(_ERROR)) is not None:
        raise exceptions.opened(restored(error))
    return response_of(recorded)


async def _stream(model: Model, stream: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    """Events as the model makes them; the last one only once all are recorded.

    A replay gives the same. A consumer that goes away ends the stream, and that is recorded.
    """
    answer = _StreamedAnswer(model)
    step = asyncio.ensure_future(
        _as_step(DBOS.reserve_step(), model, lambda: answer.ask(stream(*args, **kwargs)))
    )
    step.add_done_callback(answer.end)
    given = 0
    try:
        while (event := await answer.next()) is not None:
            given += 1
            yield event
        recorded = await step
        for event in (answer.said or _decoded(recorded["events"]))[given:]:
            yield event
        _raise_if_failed(answer, recorded)
    except GeneratorExit:
        answer.leave()
        await asyncio.wait([step])
        _raise_if_failed(answer, step.result())
        raise
    finally:
        if not step.done():
            step.cancel()
            await asyncio.wait([step])


def _raise_if_failed(answer: _StreamedAnswer, recorded: dict[str, Any]) -> None:
    if answer.error is not None:
        raise answer.error
    if recorded[_ERROR] is not None:
        raise exceptions.opened(restored(recorded[_ERROR]))


_ERROR = "error"
"""Under which the record of a step holds what the model raised."""


class _StreamedAnswer:
    """What a model says to a consumer, who asks for one event after the other.

    Args:
        model: The model. Where a stream of OpenAI's APIs ends before its last event, it broke off.
    """

    def __init__(self, model: Model) -> None:
        self._is_of_api = isinstance(model, OpenAIChatCompletionsModel | OpenAIResponsesModel)
        self.said: list[Any] = []
        self.error: Exception | None = None
        """What ended it, in the execution that asks."""
        self._live: asyncio.Queue[Any] = asyncio.Queue()
        """Events as they are said, then None; not one that ends the answer."""
        self._is_asked = asyncio.Event()
        self._is_left = False

    async def next(self) -> Any:
        """The next event; None: the others are recorded, or what came instead of them."""
        self._is_asked.set()
        return await self._live.get()

    def leave(self) -> None:
        """Note that the consumer went away."""
        self._is_left = True
        self._is_asked.set()

    def end(self, step: asyncio.Future[Any]) -> None:
        self._live.put_nowait(None)
        if not step.cancelled():
            # Nobody else asks where the consumer went away.
            step.exception()

    async def ask(self, events: Any) -> dict[str, Any]:
        """What is recorded: the events, and the error that ended them."""
        error = None
        try:
            with retry_policy.on_own_loop():
                async with aclosing(events):
                    await self._hear(events)
        except control_errors.CONTROL_ERRORS:
            raise
        except Exception as failure:  # noqa: BLE001  # recorded, and raised to the consumer
            self.error = failure
            error = storable(dict(exceptions.seal(failure)))
        said = [stream_events.encode_event(event) for event in self.said]
        return {"events": storable(said), _ERROR: error}

    async def _hear(self, events: Any) -> None:
        while await self._is_wanted():
            try:
                event = stream_events.survives(await anext(events))
            except StopAsyncIteration:
                if self._is_of_api and not self._has_last:
                    raise ModelBehaviorError(retry_policy.NO_FINAL_RESPONSE) from None
                return
            if self._has_last:
                # Another one followed it.
                self._live.put_nowait(self.said[-1])
            self.said.append(event)
            if not self._has_last:
                self._live.put_nowait(event)

    async def _is_wanted(self) -> bool:
        """Wait until the consumer wants another event; it has not got one that is the last yet."""
        if not self._has_last:
            await self._is_asked.wait()
            self._is_asked.clear()
        return not self._is_left

    @property
    def _has_last(self) -> bool:
        return bool(self.said) and is_last(self.said[-1])


def _decoded(events: Any) -> list[Any]:
    return [stream_events.decode_event(event) for event in restored(events)]


async def _as_step(number: Any, model: Model, work: Callable[[], Awaitable[T]]) -> T:
    name = f"model: {model_name(model, None)}"
    workflow_id = workflow_scope.scope().owner.workflow_id

    async def step() -> T:
        refusal = replay_check.refused(workflow_id, name, None)
        if refusal is not None:
            raise Refused(refusal)
        await lease.held()
        return await work()

    try:
        done: T = await number.run_async({"name": name}, step)
    except Refused as refused:
        raise refused.error from None
    return done
