"""Asks a turn's model through the run's steps, streamed or not."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from agents import Model, ModelResponse
from agents.exceptions import ModelBehaviorError, _mark_error_to_drain_stream_events
from agents.models._response_terminal import (
    response_error_event_failure_error,
    response_terminal_failure_error,
)
from agents.run_internal.model_retry import _await_model_attempt
from agents.run_internal.model_retry import apply_retry_attempt_usage as apply_retry_attempts
from agents.usage import (
    Usage,
    _attach_raw_usage_snapshot,
    _extract_raw_usage_snapshot,
    _requests_for_response_without_usage,
    _response_usage_to_usage,
)
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseOutputItemDoneEvent,
    ResponseUsage,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from timestep.execution.limits import LACKS
from timestep.execution.run import Run
from timestep.sdk.models import missing_key, retry_policy
from timestep.serialization import exceptions, stream_events
from timestep.serialization.values import restored
from timestep.steps import model_call
from timestep.steps.model_attempts import ModelAttempts
from timestep.steps.model_stream import Stream


def get_model(run: Run, original: Any, *args: Any, **kwargs: Any) -> Model:
    """The model of a turn. One whose answer is recorded needs no provider, nor its key."""
    row = run.record.own_row
    if run.record.is_over and row is not None and row["error_turn"] == run.turn:
        recorded = restored(row["error"])
        if recorded is not None and recorded.get(LACKS):
            # Its code has answered that, and answers it again, though there may be one by now.
            raise exceptions.opened(recorded)
    try:
        model = missing_key.resolved(original, *args, **kwargs)
    except Exception as error:
        if not _is_answered(run):
            run.limits.lack(error)
            raise
        model = _Unasked()
    # The SDK tells models apart by identity: one durable model for each of the run's models.
    return run.models.setdefault(id(model), DurableModel(model, run))


def _is_answered(run: Run) -> bool:
    """Whether the turn's answer is recorded, and no provider needed for it.

    A run that other code takes over has to be able to go on, before it makes its first call.
    """
    taken_over = run.record.continuation is not None and not run.record.is_over
    answers = run.record.all("model_responses")
    return not taken_over and any(one["turn"] == run.turn for one in answers)


class _Unasked(Model):
    """Stands for the model of a turn whose answer is recorded."""

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        raise NotImplementedError

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        raise NotImplementedError


class DurableModel(Model):
    """Whatever model was resolved, asked through the run's steps."""

    def __init__(self, inner: Model, run: Run) -> None:
        self.inner = inner
        self.run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def close(self) -> None:
        await self.inner.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self.inner._cleanup_on_run_end(owner)

    def get_retry_advice(self, request: Any) -> Any:
        return self.inner.get_retry_advice(request)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        async def ask(attempt: int) -> ModelResponse:
            with retry_policy.alone():
                response = await self.inner.get_response(*args, **kwargs)
            response.usage = apply_retry_attempts(response.usage, attempt - 1)
            return response

        return await self._call(args, kwargs, ask, None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Events as the model makes them; the last one only once the answer is recorded.

        An attempt that dies after it spoke is followed by the next one's events: whoever shows
        them begins anew at the next `response.created`. A replay gives the same events, those
        of failed attempts included, without asking the model.
        """
        events: asyncio.Queue[Any] = asyncio.Queue()
        last: list[Any] = []
        stream = Stream(self.run, events.put_nowait)

        async def ask(attempt: int) -> ModelResponse:
            done: list[Any] = []
            stream.begin(attempt)
            # The retries of the client are off in this task alone, not in the consumer's.
            with retry_policy.alone():
                async with aclosing(self.inner.stream_response(*args, **kwargs)) as spoken:  # type: ignore[type-var]
                    async for said in spoken:
                        event = stream_events.survives(said)
                        if is_last(event):
                            last.append(event)
                            break
                        stream.hand_out(event)
                        if isinstance(event, ResponseOutputItemDoneEvent):
                            done.append(event.item)
            try:
                response = _answer(last[0] if last else None, done)
            except Exception:
                if last:
                    stream.keep(last[0])
                raise
            stream.end_with(last[0])
            response.usage = apply_retry_attempts(response.usage, attempt - 1)
            return response

        step = asyncio.ensure_future(self._call(args, kwargs, ask, stream))
        step.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            if stream.is_live:
                for event in last:
                    if isinstance(event, ResponseCompletedEvent):
                        await step
                    yield event
            else:
                for event in _replayed(stream, step):
                    yield event
            await step
        except Exception as error:
            # What was said before it is heard first, live and replayed alike.
            _mark_error_to_drain_stream_events(error)
            raise
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait([step])
            if not step.cancelled():
                # The loop reads a last event that tells of a failure no further.
                step.exception()

    async def _call(
        self,
        args: Any,
        kwargs: Any,
        ask: Callable[[int], Awaitable[ModelResponse]],
        stream: Stream | None,
    ) -> ModelResponse:
        tools = retry_policy.argument_of(args, kwargs, "tools")
        handoffs = retry_policy.argument_of(args, kwargs, "handoffs")
        settings = retry_policy.argument_of(args, kwargs, "model_settings")
        request = retry_policy.request_of(self.inner, args, kwargs, stream=stream is not None)
        attempts = _TimedAttempts(ask, request.pause_after, settings.timeout)
        response = await model_call.call_model(
            self.run, self.inner, tools, handoffs, attempts, stream
        )
        self.run.streaming.answered(response.usage)
        return response


class _TimedAttempts(ModelAttempts[ModelResponse]):
    """Makes attempts within `ModelSettings.timeout`, as the provider's client does its own.

    The SDK would count the time in which the answer is recorded, too, and give it up after.

    Args:
        ask: As for `ModelAttempts`.
        pause_after: As for `ModelAttempts`.
        timeout: Seconds, or none.
    """

    def __init__(
        self,
        ask: Callable[[int], Awaitable[ModelResponse]],
        pause_after: Callable[[Exception, int], Awaitable[float | None]],
        timeout: float | None,
    ) -> None:
        super().__init__(ask, pause_after)
        self._timeout = timeout

    async def answer(self) -> ModelResponse:
        """The model's answer.

        Raises:
            ModelTimeoutError: It did not come in time.
            Exception: What the last attempt raised.
        """
        return await _await_model_attempt(super().answer(), self._timeout)


def without_timeout(run: Run, original: Any, **kwargs: Any) -> Any:
    """Ask the model as the SDK does, where its step counts the time it has."""
    return original(**{**kwargs, "timeout": None})


def apply_retry_attempt_usage(run: Run, original: Any, usage: Usage, failed: int) -> Any:
    """What a streamed answer used is told by its record, live and replayed alike."""
    return original(copy.deepcopy(run.streaming.answer_usage), failed)


def is_last(event: Any) -> bool:
    """Whether an event ends an answer, well or not."""
    return getattr(event, "type", None) in {
        "response.completed",
        "response.incomplete",
        "response.failed",
        "response.error",
        "error",
    }


def _answer(last: Any, done: list[Any]) -> ModelResponse:
    """The answer that a stream's last event holds, read as the SDK's loop reads it."""
    if last is None:
        raise ModelBehaviorError(retry_policy.NO_FINAL_RESPONSE)
    response = getattr(last, "response", None)
    if last.type in {"response.incomplete", "response.failed"}:
        raise response_terminal_failure_error(
            last.type, response if isinstance(response, Response) else None
        )
    if not isinstance(last, ResponseCompletedEvent):
        raise response_error_event_failure_error(last.type, last)
    answer = last.response
    if not answer.output:
        # As the loop does; but not with the items of an attempt that died.
        answer.output = list(done)
    return ModelResponse(
        output=answer.output,
        usage=_response_usage_to_usage(answer.usage)
        if answer.usage
        else Usage(requests=_requests_for_response_without_usage(answer)),
        response_id=answer.id,
        request_id=getattr(answer, "_request_id", None),
        raw_usage=_extract_raw_usage_snapshot(answer),
    )


def _replayed(stream: Stream, step: asyncio.Future[ModelResponse]) -> list[Any]:
    """The events that the consumer saw when the answer, or the failure, was recorded."""
    events = stream.events()
    if step.cancelled() or step.exception() is not None:
        return events
    response = step.result()
    if not events:
        return _events_of(response)
    whole = events[-1]
    if not isinstance(whole, ResponseCompletedEvent):
        # The user's own kind of event, that JSON cannot hold.
        return [*events[:-1], _events_of(response)[-1]]
    whole.response._request_id = response.request_id
    _attach_raw_usage_snapshot(whole.response, response.raw_usage)
    return events


def _events_of(response: ModelResponse) -> list[Any]:
    """The events of an answer that was not streamed when it was recorded: its items, the whole."""
    usage = response.usage
    whole = Response(
        id=response.response_id or "",
        created_at=0,
        model="",
        object="response",
        output=response.output,
        tool_choice="auto",
        tools=[],
        parallel_tool_calls=True,
        usage=ResponseUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            total_tokens=usage.total_tokens,
            input_tokens_details=usage.input_tokens_details
            or InputTokensDetails(cached_tokens=0, cache_write_tokens=0),
            output_tokens_details=usage.output_tokens_details
            or OutputTokensDetails(reasoning_tokens=0),
        ),
    )
    if response.request_id is not None:
        whole._request_id = response.request_id
    items = [
        ResponseOutputItemDoneEvent(
            item=item, output_index=index, sequence_number=index, type="response.output_item.done"
        )
        for index, item in enumerate(response.output)
    ]
    completed = ResponseCompletedEvent(
        response=whole, sequence_number=len(items), type="response.completed"
    )
    return [*items, completed]
