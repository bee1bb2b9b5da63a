"""Answers for agents where no API key is set: a model that needs no provider.

Its answers depend on the conversation alone, never on what this process did before, so a
process that takes over a run in the middle continues it as the first one would have.

    from timestep import offline
    from timestep.offline import Call, Conversation

    def search(seen: Conversation) -> list[Call]:
        return [offline.call("search_news", topic=seen.text)]

    def summarize(seen: Conversation) -> str:
        return f"The news of {seen.text}: {seen.output('search_news')}"

    agent = Agent("Reporter", tools=[search_news], model=offline.fallback(search, summarize))
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agents import Model, ModelResponse, TResponseInputItem, Usage
from agents.items import TResponseStreamEvent
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from openai.types.responses import ResponseTextDeltaEvent

from timestep import config
from timestep.errors import ConfigurationError

NAME = "offline"
"""The name that the offline model's agents and responses are recorded with."""

PREFIX = "[offline model] "
"""How every text of the offline model begins."""


@dataclass(frozen=True)
class Call:
    """A call that the offline model makes."""

    tool: str
    """The name of a tool, or of a handoff's tool (`transfer_to_…`)."""
    arguments: Mapping[str, Any]


def call(tool: str, /, **arguments: Any) -> Call:
    """A call of a tool with JSON arguments; of a handoff's tool, without any."""
    return Call(tool, arguments)


@dataclass(frozen=True)
class Conversation:
    """What was said since the user spoke last."""

    text: str
    """The user's words."""
    outputs: Mapping[str, Sequence[str]]
    """What each tool put out, by its name, in the order of its calls."""

    def output(self, tool: str) -> str:
        """What a tool put out last; an empty string where it was not called."""
        return next(reversed(self.outputs.get(tool, ())), "")


Step = Callable[[Conversation], Sequence[Call] | str]
"""A step of a plan: the calls to make at once, or the answer.

A function of the conversation alone, asked anew in each turn. A step is over once every call it
wants has an output; a step that wants none is passed over.
"""


def fallback(*steps: Step, name: str | None = None) -> Model | str | None:
    """The provider's model where `OPENAI_API_KEY` is set, else the offline model.

    For `Agent(model=...)`; the environment is read when this is called.

    Args:
        steps: The offline model's plan.
        name: The provider's model. None: the SDK's default.

    Raises:
        ConfigurationError: A setting cannot work.
    """
    return name if config.read().openai_api_key else OfflineModel(*steps)


async def pause() -> None:
    """Wait `TIMESTEP_OFFLINE_DELAY` seconds (default 0), so that a run can be watched.

    The offline model pauses before each answer.

    Raises:
        ConfigurationError: A setting cannot work, or this is not a number of seconds.
    """
    await asyncio.sleep(config.read().offline_delay)


class OfflineModel(Model):
    """Follows a plan: makes the calls of the first step that is not over, or gives its answer.

    A plan that ends without an answer is answered with the outputs of its tools. Calls that an
    agent made before it handed off count, for a step of the next agent that wants the same tool.
    Texts begin with `[offline model] `, so an agent that uses it has no `output_type`.
    """

    def __init__(self, *steps: Step) -> None:
        self.model = NAME
        self._steps = steps

    async def get_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],  # noqa: A002
        *args: Any,
        **kwargs: Any,
    ) -> ModelResponse:
        script = self._script(system_instructions, input, kwargs)
        await pause()
        return await script.get_response(system_instructions, input, *args, **kwargs)

    async def stream_response(
        self,
        system_instructions: str | None,
        input: str | list[TResponseInputItem],  # noqa: A002
        *args: Any,
        **kwargs: Any,
    ) -> AsyncIterator[TResponseStreamEvent]:
        script = self._script(system_instructions, input, kwargs)
        await pause()
        number = 0
        async for whole in script.stream_response(system_instructions, input, *args, **kwargs):
            for event in _by_words(whole):
                event.sequence_number = number
                number += 1
                yield event

    def _script(
        self,
        instructions: str | None,
        given: str | list[TResponseInputItem],
        options: Mapping[str, Any],
    ) -> ScriptedModel:
        """The next answer, for the SDK to deliver whole or as a stream."""
        if options.get("previous_response_id") or options.get("conversation_id"):
            raise ConfigurationError(
                "the offline model keeps no conversations: leave out previous_response_id and "
                "conversation_id, or set OPENAI_API_KEY"
            )
        items: list[Any] = [{"role": "user", "content": given}] if isinstance(given, str) else given
        asked = json.dumps([instructions, items], sort_keys=True, default=str)
        # No two turns of a run are asked the same, so ids made of what is asked are unique in it.
        key = hashlib.sha256(asked.encode()).hexdigest()[:16]
        output = _output(self._next(_conversation(items)), key)
        # Not model_dump_json, which refuses half of a surrogate pair.
        answered = "".join(_exact(item.model_dump(mode="json")) for item in output)
        step = ModelStep(output=output, usage=_usage(asked, answered), response_id=f"resp_{key}")
        return ScriptedModel([step])

    def _next(self, seen: Conversation) -> Sequence[Call] | str:
        unclaimed = Counter({tool: len(outputs) for tool, outputs in seen.outputs.items()})
        for step in self._steps:
            wanted = step(seen)
            if isinstance(wanted, str):
                return wanted
            missing = []
            for each in wanted:
                unclaimed[each.tool] -= 1
                if unclaimed[each.tool] < 0:
                    missing.append(each)
            if missing:
                return missing
        return " ".join(f"{t}: {', '.join(o)}." for t, o in seen.outputs.items()) or seen.text


def _exact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _conversation(items: list[Any]) -> Conversation:
    text, names, outputs = "", dict[str, str](), dict[str, list[str]]()
    for item in items:
        if item.get("role") == "user":
            text, outputs = _text(item.get("content")), {}
        elif item.get("type") == "function_call":
            names[item["call_id"]] = item["name"]
        elif item.get("type") == "function_call_output" and item["call_id"] in names:
            outputs.setdefault(names[item["call_id"]], []).append(_text(item["output"]))
    return Conversation(text, outputs)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return str(content)


def _output(wanted: Sequence[Call] | str, key: str) -> list[Any]:
    if isinstance(wanted, str):
        return [assistant_message(PREFIX + wanted, item_id=f"msg_{key}")]
    return [
        function_call(
            each.tool, each.arguments, call_id=f"call_{key}_{index}", item_id=f"fc_{key}_{index}"
        )
        for index, each in enumerate(wanted)
    ]


def _usage(asked: str, answered: str) -> Usage:
    """Tokens as a provider might count them: about four characters make one."""
    tokens_in, tokens_out = len(asked) // 4 + 1, len(answered) // 4 + 1
    return Usage(
        requests=1,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        total_tokens=tokens_in + tokens_out,
    )


def _by_words(event: TResponseStreamEvent) -> Iterator[TResponseStreamEvent]:
    """The event; where it is a text, one event for each word of it."""
    if not isinstance(event, ResponseTextDeltaEvent):
        yield event
        return
    for word in re.findall(r"\S+\s*", event.delta):
        yield event.model_copy(update={"delta": word})
