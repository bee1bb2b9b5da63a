"""Makes a DBOS step of a model that code of a workflow asks itself, without the runner.

There is no turn whose rows could hold the answer, so DBOS's own record of the step does.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from agents import Model, ModelResponse
from agents.exceptions import ModelBehaviorError
from agents.run_internal.model_retry import apply_retry_attempt_usage as apply_retry_attempts
from dbos import DBOS

from timestep.dbos_internals import workflow_scope
from timestep.execution.current import current_step
from timestep.execution.replay import replay_check
from timestep.runtime import lease
from timestep.sdk.models import retry_policy
from timestep.sdk.models.durable_model import DurableModel, is_last
from timestep.serialization import exceptions, stream_events
from timestep.serialization.sdk_objects import model_name, response_columns, response_of
from timestep.serialization.values import restored, storable
from timestep.steps.model_attempts import ModelAttempts
from timestep.steps.step import Refused

T = TypeVar("T")

METHODS = frozenset({"get_response", "stream_response"})
"""Those that ask a model."""


def get_attribute(run: object, original: Any, model: Model, name: str) -> Any:
    """A model's attribute; one of `METHODS` asks through a step where nothing else records it."""
    found = original(model, name)
    if name not in METHODS or isinstance(model, DurableModel) or not workflow_scope.in_workflow():
        return found
    ask = _get_response if name == "get_response" else _stream

    @functools.wraps(found)
    def asked(*args: Any, **kwargs: Any) -> Any:
        # Where it is called counts, and not where it was looked up: a run's model may call it.
        is_recorded = not _is_code_of_workflow()
        return found(*args, **kwargs) if is_recorded else ask(model, found, *args, **kwargs)

    return asked


def _is_code_of_workflow() -> bool:
    if not workflow_scope.in_workflow() or workflow_scope.in_step():
        return False
    step = current_step()
    return step is None or step.run.owner != workflow_scope.scope().owner


async def _get_response(model: Model, get: Any, *args: Any, **kwargs: Any) -> ModelResponse:
    async def ask(attempt: int) -> ModelResponse:
        with retry_policy.alone():
            response: ModelResponse = await get(*args, **kwargs)
        response.usage = apply_retry_attempts(response.usage, attempt - 1)
        return response

    async def step() -> dict[str, Any]:
        request = retry_policy.request_of(model, args, kwargs, stream=False)
        return response_columns(await ModelAttempts(ask, request.pause_after).answer())

    return response_of(await _as_step(DBOS.reserve_step(), model, step))


async def _stream(model: Model, stream: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
    """Events as the model makes them; the last one only once all are recorded.

    As in a run, an attempt that died after it spoke is followed by the next one's events, and
    a replay gives the same. A consumer that goes away ends the stream, and that is recorded.
    """
    answer = _StreamedAnswer(retry_policy.request_of(model, args, kwargs, stream=True))
    step = asyncio.ensure_future(
        _as_step(DBOS.reserve_step(), model, lambda: answer.ask(lambda: stream(*args, **kwargs)))
    )
    step.add_done_callback(answer.end)
    given = 0
    try:
        while (event := await answer.live.get()) is not None:
            given += 1
            yield event
        recorded = await step
        for event in (answer.said or _decoded(recorded["events"]))[given:]:
            yield event
        if recorded["error"] is not None:
            raise exceptions.opened(restored(recorded["error"]))
    except GeneratorExit:
        answer.is_left.set()
        await asyncio.wait([step])
        raise
    finally:
        if not step.done():
            step.cancel()
            await asyncio.wait([step])


class _StreamedAnswer:
    """What a model says to a consumer, in all attempts.

    Args:
        request: What it is asked.
    """

    def __init__(self, request: retry_policy.Request) -> None:
        self.live: asyncio.Queue[Any] = asyncio.Queue()
        """Events as they are said, then None; not one that ends the answer."""
        self.said: list[Any] = []
        self.is_left = asyncio.Event()
        """Set once the consumer went away."""
        self._request = request

    def end(self, step: asyncio.Future[Any]) -> None:
        self.live.put_nowait(None)
        if not step.cancelled():
            # Nobody else asks where the consumer went away.
            step.exception()

    async def ask(self, begin: Callable[[], Any]) -> dict[str, Any]:
        """What is recorded: the events, and the error that ended them."""

        async def attempt(_: int) -> None:
            with retry_policy.alone():
                async with aclosing(begin()) as events:
                    async for event in events:
                        self._say(stream_events.survives(event))
            if not self.said or not is_last(self.said[-1]):
                raise ModelBehaviorError(retry_policy.NO_FINAL_RESPONSE)

        asking = asyncio.ensure_future(ModelAttempts(attempt, self._request.pause_after).answer())
        leaving = asyncio.ensure_future(self.is_left.wait())
        error = None
        try:
            await asyncio.wait([asking, leaving], return_when=asyncio.FIRST_COMPLETED)
            if asking.done():
                asking.result()
        except Exception as failure:  # noqa: BLE001  # recorded, and raised to the consumer
            error = storable(dict(exceptions.seal(failure)))
        finally:
            asking.cancel()
            leaving.cancel()
            await asyncio.wait([asking, leaving])
        events = [stream_events.encode_event(event) for event in self.said]
        return {"events": storable(events), "error": error}

    def _say(self, event: Any) -> None:
        if self.said and is_last(self.said[-1]):
            # It was that of an attempt which another one followed.
            self.live.put_nowait(self.said[-1])
        self.said.append(event)
        if not is_last(event):
            self.live.put_nowait(event)


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
