"""What every contender runs: an agent whose model answers at once, one tool call a turn.

Knows the OpenAI Agents SDK alone, so that a process without Timestep can import it.
"""

from __future__ import annotations

import json
from typing import Any

from agents import Model, ModelResponse, Usage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputMessage,
    ResponseOutputText,
)

NAME = "Benchmark"
INSTRUCTIONS = "Call the tool until you know enough."
DONE = "done"


def asked(turns: int, size: int) -> str:
    """The input of a run of so many model calls, whose tool puts out so many characters."""
    return json.dumps({"turns": turns, "size": size})


def fetched(size: int) -> str:
    """What the tool puts out."""
    return ("0123456789abcdef" * (size // 16 + 1))[:size]


class ScriptedModel(Model):
    """Calls the tool in every turn but the last.

    What it says follows from how long the conversation is, so all runs may share it.
    """

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[Any],  # noqa: A002  # the SDK's name
        *args: Any,
        **kwargs: Any,
    ) -> ModelResponse:
        text, past = (
            (input, 0) if isinstance(input, str) else (input[0]["content"], len(input) // 2)
        )
        script = json.loads(text)
        return ModelResponse(
            output=[_answer() if past == script["turns"] - 1 else _call(past, script["size"])],
            usage=Usage(requests=1, input_tokens=100, output_tokens=10, total_tokens=110),
            response_id=f"resp_{past}",
        )

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


def _call(number: int, size: int) -> ResponseOutputItem:
    return ResponseFunctionToolCall(
        type="function_call",
        id=f"fc_{number}",
        call_id=f"call_{number}",
        name="fetch",
        arguments=json.dumps({"size": size}),
        status="completed",
    )


def _answer() -> ResponseOutputItem:
    text = ResponseOutputText(type="output_text", text=DONE, annotations=[])
    return ResponseOutputMessage(
        type="message", id="msg_0", role="assistant", status="completed", content=[text]
    )
