"""The model of a turn, asked through the run's steps, streamed or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import aclosing
from typing import Any

from agents import Model, ModelResponse, Tool
from agents.exceptions import ModelBehaviorError
from agents.models._response_terminal import (
    response_error_event_failure_error,
    response_terminal_failure_error,
)
from agents.usage import Usage, _response_usage_to_usage
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseOutputItemDoneEvent,
    ResponseUsage,
)
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails

from timestep import turns
from timestep.run import Run


def get_model(run: Run, original: Any, *args: Any, **kwargs: Any) -> Model:
    model: Model = original(*args, **kwargs)
    # The SDK tells models apart by identity: one durable model for each of the run's models.
    durable: Model = run.models.setdefault(id(model), DurableModel(model, run))
    return durable


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
        def ask() -> Awaitable[ModelResponse]:
            return self.inner.get_response(*args, **kwargs)

        tools, handoffs = _tools_and_handoffs(args, kwargs)
        return await turns.call_model(self.run, self.inner, tools, handoffs, ask)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Events as the model makes them; the last one only once the answer is recorded."""
        events: asyncio.Queue[Any] = asyncio.Queue()
        last: list[Any] = []

        async def ask() -> ModelResponse:
            async with aclosing(self.inner.stream_response(*args, **kwargs)) as stream:  # type: ignore[type-var]
                async for event in stream:
                    if _is_last(event):
                        last.append(event)
                        break
                    events.put_nowait(event)
                    if isinstance(event, ResponseOutputItemDoneEvent):
                        done.append(event.item)
            return _answer(last[0] if last else None, done)

        done: list[Any] = []
        tools, handoffs = _tools_and_handoffs(args, kwargs)
        step = asyncio.ensure_future(turns.call_model(self.run, self.inner, tools, handoffs, ask))
        step.add_done_callback(lambda _: events.put_nowait(None))
        try:
            streamed = False
            while (event := await events.get()) is not None:
                streamed = True
                yield event
            if last:
                yield last[0]
            response = await step
            if not streamed and not last:
                for event in _replayed_events(response):
                    yield event
        finally:
            if not step.done():
                step.cancel()
                await asyncio.wait([step])


def _tools_and_handoffs(args: Any, kwargs: Any) -> tuple[list[Tool], list[Any]]:
    """`tools` and `handoffs` are the fourth and sixth of a model's parameters."""
    tools = kwargs["tools"] if "tools" in kwargs else args[3]
    handoffs = kwargs["handoffs"] if "handoffs" in kwargs else args[5]
    return tools, handoffs


def _is_last(event: Any) -> bool:
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
        raise ModelBehaviorError("Model did not produce a final response!")
    response = getattr(last, "response", None)
    if last.type in {"response.incomplete", "response.failed"}:
        raise response_terminal_failure_error(
            last.type, response if isinstance(response, Response) else None
        )
    if not isinstance(last, ResponseCompletedEvent):
        raise response_error_event_failure_error(last.type, last)
    answer = last.response
    return ModelResponse(
        output=list(answer.output or done),
        usage=_response_usage_to_usage(answer.usage) if answer.usage else Usage(),
        response_id=answer.id,
        request_id=getattr(answer, "_request_id", None),
    )


def _replayed_events(response: ModelResponse) -> list[Any]:
    """The events of a recorded answer: each item as done, then the whole."""
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
