"""The offline model: the same conversation gets the same answer, whole or streamed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from agents import (
    Agent,
    ModelResponse,
    ModelSettings,
    ModelTracing,
    RunConfig,
    Runner,
    RunResultStreaming,
    function_tool,
)
from openai.types.responses import (
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
)

from timestep import errors, offline
from timestep.offline import PREFIX, Call, Conversation, OfflineModel, call


def search(seen: Conversation) -> list[Call]:
    return [call("search", topic=seen.text), call("search", topic="everything else")]


def read(seen: Conversation) -> list[Call]:
    return [call("read", page=seen.output("search"))]


def answer(seen: Conversation) -> str:
    return f"{seen.text}: {seen.output('read')}"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def called(name: str, call_id: str, output: str) -> list[dict[str, Any]]:
    return [
        {"type": "function_call", "name": name, "call_id": call_id, "arguments": "{}"},
        {"type": "function_call_output", "call_id": call_id, "output": output},
    ]


BEES = user("bees")
SEARCHED = [BEES, *called("search", "a", "hives"), *called("search", "b", "honey")]
READ = [*SEARCHED, *called("read", "c", "sweet")]


def arguments(given: str | Sequence[dict[str, Any]], instructions: str | None) -> list[Any]:
    items = given if isinstance(given, str) else list(given)
    return [instructions, items, ModelSettings(), [], None, [], ModelTracing.DISABLED]


NO_CONVERSATION: dict[str, Any] = {
    "previous_response_id": None,
    "conversation_id": None,
    "prompt": None,
}


def ask(
    model: OfflineModel,
    given: str | Sequence[dict[str, Any]],
    instructions: str | None = None,
    **options: Any,
) -> ModelResponse:
    asked = arguments(given, instructions)
    return asyncio.run(model.get_response(*asked, **NO_CONVERSATION | options))


def stream(model: OfflineModel, given: str | Sequence[dict[str, Any]]) -> list[Any]:
    async def collect() -> list[Any]:
        asked = arguments(given, None)
        return [event async for event in model.stream_response(*asked, **NO_CONVERSATION)]

    return asyncio.run(collect())


def calls(response: ModelResponse) -> list[tuple[str, dict[str, Any]]]:
    made = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
    return [(item.name, json.loads(item.arguments)) for item in made]


def text(response: ModelResponse) -> str:
    [message] = response.output
    assert isinstance(message, ResponseOutputMessage)
    [content] = message.content
    assert isinstance(content, ResponseOutputText)
    return content.text


def ids(response: ModelResponse) -> list[str]:
    return [item.call_id for item in response.output if isinstance(item, ResponseFunctionToolCall)]


@pytest.mark.parametrize("given", ["bees", [BEES], SEARCHED, READ], ids=len)
def test_the_same_conversation_gets_the_same_answer_from_another_process(given: Any) -> None:
    assert ask(OfflineModel(search, read, answer), given) == ask(
        OfflineModel(search, read, answer), given
    )


def test_an_answer_does_not_depend_on_what_was_asked_before() -> None:
    model = OfflineModel(search, read, answer)
    first = ask(model, [BEES])
    ask(model, SEARCHED)
    ask(model, READ)

    assert ask(model, [BEES]) == first


def test_the_plan_is_followed_by_what_the_conversation_holds() -> None:
    model = OfflineModel(search, read, answer)

    assert calls(ask(model, "bees")) == [
        ("search", {"topic": "bees"}),
        ("search", {"topic": "everything else"}),
    ]
    assert calls(ask(model, SEARCHED)) == [("read", {"page": "honey"})]
    assert text(ask(model, READ)) == PREFIX + "bees: sweet"


def test_calls_that_have_no_output_yet_are_the_ones_made() -> None:
    model = OfflineModel(search, answer)

    half = ask(model, [BEES, *called("search", "a", "hives")])

    assert calls(half) == [("search", {"topic": "everything else"})]


def test_a_step_that_wants_no_call_is_passed_over() -> None:
    assert text(ask(OfflineModel(lambda _: [], answer), "bees")) == PREFIX + "bees: "


def test_a_plan_without_an_answer_ends_with_the_outputs() -> None:
    assert text(ask(OfflineModel(search), SEARCHED)) == PREFIX + "search: hives, honey."


def test_an_empty_plan_repeats_the_user() -> None:
    assert text(ask(OfflineModel(), "bees")) == PREFIX + "bees"


def test_every_text_says_that_it_is_offline() -> None:
    assert text(ask(OfflineModel(lambda _: "done"), "bees")) == "[offline model] done"


def test_the_plan_begins_anew_when_the_user_speaks_again() -> None:
    model = OfflineModel(search, read, answer)
    wasps = {"role": "user", "content": [{"type": "input_text", "text": "wasps"}]}

    again = ask(model, [*READ, wasps])

    assert calls(again)[0] == ("search", {"topic": "wasps"})
    assert not set(ids(again)) & set(ids(ask(model, [BEES])))


def test_call_ids_are_unique_within_a_run() -> None:
    model = OfflineModel(search, read, answer)
    made = [*ids(ask(model, [BEES])), *ids(ask(model, SEARCHED)), *ids(ask(model, READ[:3]))]
    # An agent that was handed a run may see just what the first agent saw.
    made += ids(ask(model, [BEES], instructions="You are another agent."))

    assert len(made) == 6
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("given", [[BEES], SEARCHED, READ], ids=len)
def test_streaming_ends_with_the_answer_that_is_given_whole(given: Any) -> None:
    model = OfflineModel(search, read, answer)
    whole = ask(model, given)

    events = stream(model, given)

    last = events[-1]
    assert isinstance(last, ResponseCompletedEvent)
    assert last.response.usage is not None
    assert last.response.output == whole.output
    assert last.response.id == whole.response_id
    assert last.response.usage.total_tokens == whole.usage.total_tokens
    assert [event.sequence_number for event in events] == list(range(len(events)))


def test_text_is_streamed_word_by_word() -> None:
    events = stream(OfflineModel(lambda _: "one two\n three "), "bees")

    words = [event.delta for event in events if isinstance(event, ResponseTextDeltaEvent)]
    assert words == ["[offline ", "model] ", "one ", "two\n ", "three "]
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds.index("response.output_item.added") < kinds.index("response.output_text.delta")
    assert kinds[-2:] == ["response.output_item.done", "response.completed"]


def test_usage_grows_with_the_conversation() -> None:
    model = OfflineModel(search, read, answer)
    short, long = ask(model, [BEES]).usage, ask(model, SEARCHED).usage

    assert short.requests == 1
    assert 0 < short.input_tokens < long.input_tokens
    assert short.total_tokens == short.input_tokens + short.output_tokens


@pytest.mark.parametrize("option", ["previous_response_id", "conversation_id"])
def test_a_conversation_kept_by_a_server_is_refused(option: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="keeps no conversations"):
        ask(OfflineModel(answer), "bees", **{option: "resp_1"})


def test_the_sdk_runs_an_agent_with_it_whole_and_streamed() -> None:
    @function_tool(name_override="search")
    def search_tool(topic: str) -> str:
        return f"found {topic}"

    second = Agent(name="Reader", model=OfflineModel(lambda seen: seen.output("search")))
    first = Agent(
        name="Searcher",
        tools=[search_tool],
        handoffs=[second],
        model=OfflineModel(
            lambda seen: [call("search", topic=seen.text)],
            lambda seen: [call("transfer_to_reader")],
        ),
    )
    config = RunConfig(tracing_disabled=True)

    async def both() -> tuple[Any, RunResultStreaming]:
        whole = await Runner.run(first, "bees", run_config=config)
        streamed = Runner.run_streamed(first, "bees", run_config=config)
        async for _ in streamed.stream_events():
            pass
        return whole, streamed

    whole, streamed = asyncio.run(both())
    assert whole.final_output == streamed.final_output == PREFIX + "found bees"
    assert whole.last_agent is second
    assert [r.output for r in whole.raw_responses] == [r.output for r in streamed.raw_responses]


@pytest.mark.parametrize("name", [None, "gpt-5-mini"])
def test_the_provider_answers_where_a_key_is_set(
    name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any")
    assert offline.fallback(answer, name=name) == name


@pytest.mark.parametrize("key", [None, ""])
def test_the_offline_model_answers_where_no_key_is_set(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    assert isinstance(offline.fallback(answer, name="gpt-5-mini"), OfflineModel)


def test_the_model_pauses_before_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_OFFLINE_DELAY", "0.05")
    before = time.monotonic()
    ask(OfflineModel(answer), "bees")
    stream(OfflineModel(answer), "bees")
    assert time.monotonic() - before >= 0.1


@pytest.mark.parametrize("delay", ["soon", "-1", "inf", "nan"])
def test_a_delay_that_is_no_number_of_seconds_is_refused(
    delay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_OFFLINE_DELAY", delay)
    with pytest.raises(errors.ConfigurationError, match=f"TIMESTEP_OFFLINE_DELAY='{delay}' is not"):
        asyncio.run(offline.pause())
