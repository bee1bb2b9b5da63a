"""What others say is data, whatever its keys: it comes back equal, and nothing is called."""

from __future__ import annotations

import asyncio
import datetime
import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, ModelResponse, RunState, Usage
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from openai.types.responses import (
    ResponseCreatedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseTextDeltaEvent,
)

from tests.support.hostile_documents import JSON, OBJECTS, Registered, executed, from_jsonb, same
from timestep import FileRunStateStore, register_type
from timestep.approvals.decide import decision
from timestep.approvals.supplied import documents
from timestep.approvals.webhook import Webhook
from timestep.errors import RecordedError, UnreadableValueError
from timestep.execution import context_changes
from timestep.journal.checkpoints import context_document, context_of
from timestep.operations import fork
from timestep.run_states import file_store
from timestep.run_states.from_javascript import python_state_from_javascript
from timestep.sdk.validation import recorded_input
from timestep.serialization import exceptions
from timestep.serialization.json_delta import difference
from timestep.serialization.registered_types import type_path
from timestep.serialization.sdk_objects import call_columns, raw, response_columns, response_of
from timestep.serialization.stream_events import decode_event, encode_event, survives
from timestep.serialization.values import (
    decode,
    dumps,
    encode,
    exact_text,
    kept_exactly,
    restored,
    storable,
)

CASES = 100
"""Documents that are tried; each goes through every door of its test."""


@register_type
@dataclass
class FailsToBegin:
    """A class by now with a field whose default fails to be made, as a setting may be missing."""

    x: Any = field(default_factory=lambda: dict[str, Any]()["gone"])


@pytest.fixture(autouse=True)
def nothing_happens() -> Any:
    executed.clear()
    before = set(sys.modules)
    yield
    assert executed == []
    assert {"antigravity", "this"} & (set(sys.modules) - before) == set()


def made(kind: Any, document: dict[str, Any]) -> Any:
    """A model as the provider's client makes it: unchecked."""
    return kind.model_construct(**document)


ITEMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "message": (ResponseOutputMessage, {"id": "m", "role": "assistant", "status": "completed"}),
    "function_call": (ResponseFunctionToolCall, {"call_id": "c", "name": "t", "arguments": "{}"}),
}
EVENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "response.created": (ResponseCreatedEvent, {"sequence_number": 0}),
    "response.output_text.delta": (
        ResponseTextDeltaEvent,
        {"delta": "a", "item_id": "i", "logprobs": [], "content_index": 0, "output_index": 0},
    ),
}


@settings(max_examples=CASES, deadline=None)
@given(OBJECTS, JSON, st.sampled_from(sorted(ITEMS)), st.sampled_from(sorted(EVENTS)))
def test_what_a_provider_says_comes_back(
    keys: dict[str, Any], inside: Any, item_type: str, event_type: str
) -> None:
    # No model has a key with half of a surrogate pair.
    assume("\\ud800" not in json.dumps([keys, inside]))
    kind, usual = ITEMS[item_type]
    keys = {name: value for name, value in keys.items() if name != "type"}
    content = [{"type": "output_text", "text": "a", "n": inside}]
    items = [
        made(kind, {**usual, **keys, "type": item_type}),
        made(kind, {**keys, "n": inside, "type": item_type}),
        # Of a type that the client does not know, or of none.
        made(kind, {**keys, "n": inside}),
        made(kind, {**keys, "type": "brand_new"}),
        made(kind, {**keys, "type": inside}),
        made(kind, {**usual, "type": item_type, "content": content}),
    ]
    answer = ModelResponse(output=items, usage=Usage(), response_id=None)
    row = {**response_columns(answer), "response_id": None, "request_id": None}
    back = response_of({name: from_jsonb(value) for name, value in row.items()}).output
    for item, found in zip(items, back, strict=True):
        assert same(raw(found), raw(item))
        assert type(found) is kind

    event_kind, rest = EVENTS[event_type]
    for event in (
        made(event_kind, {**rest, **keys, "type": event_type, "n": inside}),
        {**keys, "type": event_type, "n": inside},
        keys,
    ):
        seen = survives(event)
        (stored,) = restored(from_jsonb(storable([encode_event(event)])))
        found_event = decode_event(stored)
        assert type(found_event) is type(event)
        assert found_event == seen == event


@pytest.mark.parametrize("told", ["a\x00b", "\ud800", "plain", None])
def test_the_ids_of_an_answer_come_back(told: str | None) -> None:
    usage = Usage(requests=1, input_tokens=2, output_tokens=3, total_tokens=5)
    answer = ModelResponse(output=[], usage=usage, response_id=told, request_id=told)
    row = response_columns(answer)
    json.dumps([row["response_id"], row["request_id"]], ensure_ascii=False).encode()
    assert "\x00" not in f"{row['response_id']}{row['request_id']}"
    back = response_of({**row, "usage": from_jsonb(row["usage"])})
    assert (back.response_id, back.request_id, back.usage) == (told, told, usage)


@settings(max_examples=CASES, deadline=None)
@given(JSON, OBJECTS)
def test_what_tools_people_and_callers_say_comes_back(document: Any, object_: Any) -> None:
    for given_ in (document, object_, [document, object_]):
        # The arguments that a model writes, and what viewers and webhooks are told of them.
        item = {"type": "function_call", "name": "t", "call_id": "c"}
        columns = call_columns({**item, "arguments": json.dumps(given_)})
        stored = from_jsonb(columns["arguments"])
        assert same(restored(stored), given_)
        message = Webhook("http://x", None, False, None).message("w", "r", [row_of(stored)])
        told = json.loads(message)
        assert same(told["data"]["interruptions"][0]["arguments"], given_)
        # What a tool, a session or a server gives.
        encoded = encode(given_)
        exact = exact_text(encoded)
        column = restored(from_jsonb(storable(encoded)))
        assert same(decode(column), given_)
        assert exact is None or same(decode(json.loads(exact)), given_)
        # What a person supplies.
        supplied = documents({"1": given_})["1"]
        assert same(decode(restored(from_jsonb(supplied))), given_)
        # What a person gives instead of a call's arguments.
        edited = decision({"id": 1}, "edit", None, value={"given": given_})["arguments"]
        assert same(restored(from_jsonb(edited)), {"given": given_})
        # Sessions' items, inputs of runs and of forks, final outputs.
        assert same(restored(from_jsonb(storable(given_))), given_)
        assert same(restored(from_jsonb(recorded_input([given_]))), [given_])
    # Items that a fork adds are objects.
    edit = fork._edit(None, [object_])
    assert edit is not None
    assert same(restored(from_jsonb(edit)["append"]), [object_])
    whole = fork._given(from_jsonb(recorded_input([object_])), edit)
    assert same(restored(from_jsonb(whole["replace"])), [object_, object_])


def row_of(arguments: Any) -> dict[str, Any]:
    names = ["id", "run_id", "type", "reason", "tool_name", "call_id", "agent_name", "expires_at"]
    names += ["description", "hash"]
    now = datetime.datetime.now(datetime.UTC)
    return {**dict.fromkeys(names), "arguments": arguments, "created_at": now}


@settings(max_examples=CASES, deadline=None)
@given(JSON, OBJECTS)
def test_what_a_context_holds_comes_back(document: Any, object_: dict[str, Any]) -> None:
    after = {"before": 1, "document": document, "object": object_, "$type": document}
    old = context_changes.fields_of({"before": 1}, {})
    new = context_changes.fields_of(after, {})
    context: dict[str, Any] = {"before": 1}
    change = restored(from_jsonb(kept_exactly(difference(old, new))))
    context_changes.change(context, change)
    assert same(context, after)
    kept = from_jsonb(storable(context_document([document, Registered(object_)])))
    assert context_of(restored(kept)) == [document, Registered(object_)]


USAGE = {"requests": 0, "inputTokens": 0, "outputTokens": 0, "totalTokens": 0}


def javascript(context: dict[str, Any]) -> dict[str, Any]:
    return {
        "$schemaVersion": "1.22",
        "currentTurn": 0,
        "currentAgent": {"name": "A"},
        "originalInput": "go",
        "modelResponses": [],
        "generatedItems": [],
        "maxTurns": 10,
        "context": {"context": context, "usage": USAGE, "approvals": {}},
    }


@settings(max_examples=CASES, deadline=None)
@given(OBJECTS)
def test_what_javascript_and_files_hold_comes_back(context: dict[str, Any]) -> None:
    state = python_state_from_javascript(javascript(context))["context"]
    assert same(state["context"], context)
    is_ours = context.keys() == {"$type", "value"} and str(context["$type"]).endswith(
        (":Registered", ":Colour", "queries:Run")
    )
    assert state["context_meta"]["serialized_via"] == "context_serializer" or not is_ours
    assert is_ours or state["context_meta"]["serialized_via"] == "mapping"
    for envelope in (context, {"state": context}):
        assert same(file_store._parsed(dumps(envelope)), envelope)


@settings(max_examples=CASES, deadline=None)
@given(JSON)
def test_a_row_that_anybody_wrote_makes_nothing_that_is_not_registered(document: Any) -> None:
    try:
        found = decode(restored(document))
    except UnreadableValueError:
        pass
    else:
        assert_known(found)
    assert same(restored(from_jsonb(storable(document))), document)


def assert_known(value: Any) -> None:
    kinds = "str int float bool NoneType list dict tuple set frozenset bytes datetime UUID Decimal"
    assert type(value).__name__ in (*kinds.split(), "Registered", "Colour", "Run")
    if isinstance(value, dict):
        for key, item in value.items():
            assert_known(key)
            assert_known(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            assert_known(item)


ENVELOPES = st.fixed_dictionaries(
    {},
    optional={
        "type": JSON | st.sampled_from(["builtins:ValueError", "openai:RateLimitError"]),
        "message": JSON,
        "args": JSON | st.lists(JSON, max_size=3),
        "attributes": JSON | OBJECTS,
        "response": JSON
        | st.fixed_dictionaries(
            {"module": st.sampled_from(["httpx2", "subprocess", "os"]), "status": JSON},
            optional={"headers": JSON, "body": JSON},
        ),
        "tripwire": JSON,
    },
)


@settings(max_examples=CASES, deadline=None)
@given(ENVELOPES | JSON)
def test_an_envelope_that_anybody_wrote_is_an_error_and_no_more(envelope: Any) -> None:
    error = exceptions.opened(envelope)
    assert isinstance(error, Exception)
    assert exceptions.summary(envelope)
    str(error)


def envelope_of(path: str, **changes: Any) -> dict[str, Any]:
    envelope: dict[str, Any] = {
        "type": path,
        "message": "m",
        "args": ["a"],
        "attributes": {},
        "response": None,
    }
    return {**envelope, **changes}


@pytest.mark.parametrize(
    "path",
    [
        "builtins:SystemExit",
        "builtins:KeyboardInterrupt",
        "builtins:GeneratorExit",
        "builtins:ExceptionGroup",
        "builtins:UnicodeDecodeError:x",
        "subprocess:Popen",
        "antigravity:Error",
        "tests.support.hostile_documents:executed",
        "gone:Error",
        ":",
        "",
    ],
)
def test_an_envelope_of_no_error_is_a_recorded_error(path: str) -> None:
    error = exceptions.opened(envelope_of(path))
    assert type(error) is RecordedError
    assert error.type_name == path


def test_an_errors_own_code_is_not_called() -> None:
    path = "tests.support.hostile_documents:HostileError"
    attributes = {"x": 1, "note": "kept", "__class__": "y", "__dict__": {"z": 1}}
    error: Any = exceptions.opened(envelope_of(path, attributes=attributes))
    assert type(error).__name__ == "HostileError"
    assert (error.args, error.note, vars(error)) == (("a",), "kept", {"x": 1, "note": "kept"})


def test_a_module_is_not_asked_for_the_class_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = importlib.import_module("tests.support.hostile_documents")
    asked: list[str] = []
    monkeypatch.setattr(lazy, "__getattr__", asked.append, raising=False)
    assert type(exceptions.opened(envelope_of(f"{lazy.__name__}:Lazy"))) is RecordedError
    assert asked == []


def test_rows_from_before_are_read() -> None:
    # An event and an item with such a key were stored as they are.
    created = {"type": "response.created", "sequence_number": 0, "$type": "os:system", "value": 1}
    event = decode_event(created)
    assert (type(event), event.model_extra) == (
        ResponseCreatedEvent,
        {"$type": "os:system", "value": 1},
    )
    # Text under `$text` that no version made.
    for document in ({"$text": "hello"}, {"$text": "[" * 100_000}, {"$text": 5}):
        assert restored(document) == document
    assert restored({"$text": "[1]"}) == [1]
    # Values of registered classes, and of those of before that moved.
    assert decode({"$type": "tests.support.hostile_documents:Registered", "value": {"x": 1}}) == (
        Registered(1)
    )
    with pytest.raises(UnreadableValueError, match=r"'y'.*does not have"):
        decode({"$type": "tests.support.hostile_documents:Registered", "value": {"y": 1}})
    with pytest.raises(UnreadableValueError, match=r"cannot be made again"):
        decode({"$type": "tests.support.hostile_documents:Colour", "value": "blue"})


def test_a_file_with_hostile_keys_is_loaded(tmp_path: Path) -> None:
    agent = Agent("A")
    path = tmp_path / "state.json"
    context = {"$type": "subprocess:Popen", "value": ["touch", str(tmp_path / "made")]}
    saved = {"sdk": "javascript", "sdk_version": "0", "state": javascript(context)}
    path.write_text(json.dumps(saved))
    state: RunState[Any] = asyncio.run(FileRunStateStore(agent, file_path=path).load())
    assert state._context is not None
    assert state._context.context == context
    assert [entry.name for entry in tmp_path.iterdir() if "made" in entry.name] == []


def _nested(document: Any, around: Callable[[Any], Any], depth: int = 60) -> Any:
    for _ in range(depth):
        document = around(document)
    return document


@pytest.mark.parametrize("seed", [0, {"$type": "timestep:same", "value": ["elsewhere"]}])
@pytest.mark.parametrize(
    ("named", "held"),
    [
        ("builtins:set", lambda d: [d, []]),
        ("builtins:frozenset", lambda d: [d, []]),
        ("builtins:dict", lambda d: [[0, d], [[], 0]]),
        ("collections:OrderedDict", lambda d: [[0, d], [[], 0]]),
        ("collections:Counter", lambda d: [[0, d], [0]]),
        ("collections:defaultdict", lambda d: ["int", [[0, d], [[], 0]]]),
        ("collections:defaultdict", lambda d: [d, []]),
        ("collections:deque", lambda d: ["no length", d]),
        ("builtins:tuple", lambda d: {"no": d}),
        ("uuid:UUID", lambda d: d),
        ("data", lambda d: d),
    ],
)
def test_each_part_is_decoded_once(named: str, held: Callable[[Any], Any], seed: Any) -> None:
    """Twice at each level would not end."""
    document = _nested(seed, lambda inner: {"$type": named, "value": held(inner)})
    found = decode({"elsewhere": 0, "here": document})["here"]
    plain = _nested(0, lambda inner: {"$type": named, "value": held(inner)})
    assert found == plain, "it is data as it is"


@pytest.mark.parametrize(
    ("kind", "sections"),
    [
        (Registered, {"$fields": {"x": 1}, "$unset": 5}),
        (Registered, {"$fields": {"x": 1}, "$attributes": [1]}),
        (Registered, {"$fields": []}),
        (FailsToBegin, {"$fields": {}}),
    ],
)
def test_what_makes_no_value_of_a_class_is_told_at_once(
    kind: type, sections: dict[str, Any]
) -> None:
    """Decoded once more by each tuple around it, it would not end."""
    document = {"$type": type_path(kind), "value": sections}
    with pytest.raises(UnreadableValueError, match=f"{kind.__name__}' cannot be made again"):
        decode(_nested(document, lambda inner: {"$type": "builtins:tuple", "value": [inner]}, 100))


def test_each_part_is_decoded_once_where_links_come_before_it() -> None:
    links = [
        {"$type": "timestep:same", "value": ["parts", 1, *["value", 0] * n, "value", 1]}
        for n in range(50)
    ]
    document = _nested(0, lambda inner: {"$type": "builtins:set", "value": [inner, []]})
    found = decode({"parts": [links, document]})["parts"]
    assert found[1]["value"][1] is found[0][0]


def test_a_set_of_what_cannot_be_in_one_has_each_part_once() -> None:
    shared = {"$type": "timestep:same", "value": [0, "value", 0]}
    document = [{"$type": "builtins:set", "value": [["a"], 1]}, shared]
    found = decode(document)
    assert found == [{"$type": "builtins:set", "value": [["a"], 1]}, ["a"]]
    assert found[1] is found[0]["value"][0]
