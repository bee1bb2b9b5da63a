"""Events of a stream come back from JSON as the objects they were."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents.models.fake_id import FAKE_RESPONSES_ID
from openai.types.responses import (
    ResponseCompletedEvent,
    ResponseOutputItemDoneEvent,
    ResponseTextDeltaEvent,
)

import timestep
from timestep.serialization.stream_events import decode_event, encode_event, survives


@timestep.register_type
class MyDelta(ResponseTextDeltaEvent):
    mine: int = 0


DELTA: dict[str, Any] = {
    "type": "response.output_text.delta",
    "content_index": 0,
    "delta": "é",
    "item_id": FAKE_RESPONSES_ID,
    "logprobs": [],
    "output_index": 0,
    "sequence_number": 3,
}


@pytest.mark.parametrize(
    "event",
    [
        ResponseTextDeltaEvent(**DELTA),
        ResponseTextDeltaEvent(**DELTA, obfuscation="x1", later={"b": 1, "a": [None]}),
        MyDelta(**DELTA, mine=4),
        # A gateway leaves out what the types ask for, and the client does not mind.
        ResponseTextDeltaEvent.construct(type="response.output_text.delta", delta="a"),
        ResponseCompletedEvent.construct(
            type="response.completed",
            response={
                "id": "r",
                "output": [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}],
                "text": {"format": {"type": "json_schema", "name": "n", "schema": {"a": 1}}},
            },
        ),
        ResponseOutputItemDoneEvent.construct(
            type="response.output_item.done", item={"type": "brand_new", "n": 1}
        ),
        # The client makes what it does not know of some class.
        ResponseTextDeltaEvent.construct(type="response.brand_new", n={"$type": "a:b", "value": 1}),
        ResponseTextDeltaEvent.construct(delta="without a type"),
        {"type": "response.completed", "but": "only a dict"},
        ("a", 1),
        "text",
        None,
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_comes_back_as_it_was(event: object) -> None:
    document = json.loads(json.dumps(encode_event(event)))
    back = decode_event(document)
    assert back == event
    assert type(back) is type(event)


class Unknown(ResponseTextDeltaEvent):
    mine: int = 0


def test_an_event_of_a_class_that_is_not_known_is_the_apis_from_the_first() -> None:
    event = Unknown(**DELTA, mine=4)
    seen = survives(event)
    assert type(seen) is ResponseTextDeltaEvent
    assert seen == ResponseTextDeltaEvent(**DELTA, mine=4)
    assert decode_event(json.loads(json.dumps(encode_event(event)))) == seen
    known = ResponseTextDeltaEvent(**DELTA)
    assert survives(known) is known


def test_an_event_is_recorded_as_the_api_writes_it() -> None:
    assert encode_event(ResponseTextDeltaEvent(**DELTA)) == DELTA
