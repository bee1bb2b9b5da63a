"""A model that answers from the conversation alone, so that whoever takes over goes on rightly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from agents import Model, ModelResponse, Usage
from agents.testing import ScriptedModel

Answer = Callable[[list[Any]], list[Any]]


class AnsweringModel(Model):
    """Answers as a function of the items it is given; `asked` counts how often."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked = 0

    def _answer(self, given: Any) -> list[Any]:
        self.asked += 1
        return self.answer([] if isinstance(given, str) else list(given))

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        output = self._answer(kwargs["input"])
        usage = Usage(requests=1, input_tokens=10, output_tokens=5, total_tokens=15)
        return ModelResponse(output=output, usage=usage, response_id=None)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        output = self._answer(args[1])
        async for event in ScriptedModel([output]).stream_response(*args, **kwargs):
            yield event


def outputs(items: list[Any]) -> dict[str, Any]:
    """Outputs of calls so far, by call id."""
    return {i["call_id"]: i["output"] for i in items if i.get("type") == "function_call_output"}
