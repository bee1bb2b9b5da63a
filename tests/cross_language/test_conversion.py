"""What becomes of each field and of each item, there and back."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import pytest

from tests.approvals.test_calls_are_made_as_they_were_edited import EDITED, clerk
from tests.cross_language.javascript import JavaScript
from tests.cross_language.scenario import agents, interrupted
from tests.support.dbos_app import App
from tests.support.decisions import decide, started, waiting
from timestep.errors import ForeignStateError, StateTooNewError
from timestep.run_states import from_javascript
from timestep.run_states.from_javascript import python_state_from_javascript
from timestep.run_states.javascript_items import FIELDS

_MESSAGES: list[dict[str, Any]] = [
    {"type": "message", "role": "user", "content": "hello"},
    {
        "type": "message",
        "role": "user",
        "content": [
            {"type": "input_text", "text": "look"},
            {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"},
            {"type": "input_image", "file_id": "file_1", "detail": "auto"},
            {"type": "input_file", "file_data": "data:text/plain;base64,aGk=", "filename": "a.txt"},
            {"type": "input_file", "file_url": "https://example.com/a.pdf"},
            {"type": "input_file", "file_id": "file_2"},
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        ],
    },
    {"type": "message", "role": "system", "content": "be brief"},
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "phase": "commentary",
        "content": [
            {
                "type": "output_text",
                "text": "as told",
                "annotations": [{"type": "file_citation", "file_id": "file_3", "index": 1}],
            },
            {"type": "refusal", "refusal": "no"},
        ],
    },
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "thus"}],
        "content": [{"type": "reasoning_text", "text": "because"}],
        "encrypted_content": "sealed",
    },
    {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_9",
        "name": "draw",
        "arguments": "{}",
        "status": "completed",
    },
    {
        "type": "function_call_output",
        "call_id": "call_9",
        "status": "completed",
        "output": [
            {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"}
        ],
    },
    {"type": "compaction", "id": "cmp_1", "encrypted_content": "sealed"},
    {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {"type": "search", "query": "weather"},
    },
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["a"]},
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": "completed",
        "code": "1 + 1",
        "container_id": "cntr_1",
    },
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGk="},
    {
        "type": "mcp_call",
        "id": "mcp_1",
        "status": "completed",
        "name": "ask",
        "server_label": "wiki",
        "arguments": "{}",
        "output": "42",
    },
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "wiki", "tools": []},
]


def _document() -> dict[str, Any]:
    """A state of the run that both languages know."""

    async def made() -> dict[str, Any]:
        return (await interrupted(agents()[0])).to_json()

    return asyncio.run(made())


@pytest.fixture
def document(effects: Any) -> dict[str, Any]:
    return _document()


def test_items_come_back_as_they_were(javascript: JavaScript, document: dict[str, Any]) -> None:
    document["original_input"] = _MESSAGES
    there = javascript.run("convert", documents=[document])[0]
    assert there["originalInput"][6]["name"] == "draw"
    back = python_state_from_javascript({**there, "$schemaVersion": "1.22"})
    assert back["original_input"] == _MESSAGES


def test_what_is_not_lost_comes_back_as_it_was(
    javascript: JavaScript, document: dict[str, Any]
) -> None:
    document["max_turns"] = None
    document["conversation_id"] = "conv_1"
    document["context"]["tool_input"] = {"question": "why"}
    check = {"guardrail": {"type": "tool_input", "name": "polite"}}
    for behavior in ({"type": "reject_content", "message": "no"}, {"type": "raise_exception"}):
        output = {"outputInfo": None, "behavior": behavior}
        document["tool_input_guardrail_results"].append({**check, "output": output})
    answer = document["last_processed_response"]
    answer["mcp_tool_bindings"] = {"call_1": ["wiki", "note", 0]}
    sticky = {"approved": False, "rejected": True, "sticky_rejection_message": "never"}
    document["context"]["function_tool_approvals"].append(
        {"agent": {"name": "triage"}, "tool_key": "erase", "decision": sticky}
    )
    before = copy.deepcopy(document)

    there = javascript.run("convert", documents=[document])[0]
    back = python_state_from_javascript({**there, "$schemaVersion": "1.22"})

    assert document == before
    kept = [*FIELDS["state"]["renamed"], "max_turns", "current_agent", "current_step"]
    kept += ["tool_input_guardrail_results", "model_responses", "original_input"]
    kept.remove("$schemaVersion")
    assert back["max_turns"] is None
    assert _plain(back, kept) == _plain(document, kept)
    wanted = document["context"]
    kept = ["context", "tool_input", "usage", "function_tool_approvals", "tool_invocations"]
    assert _plain(back["context"], kept) == _plain(wanted, kept)
    assert back["last_processed_response"]["mcp_tool_bindings"] == answer["mcp_tool_bindings"]


_UNSAID = {"tool_origin", "description", "title", "response_accepted", "llm_end_hooks_started"}


def _plain(document: Any, names: list[str] | None = None) -> Any:
    """Without what is lost, or says only that there is nothing."""
    if isinstance(document, list):
        return [_plain(found) for found in document]
    if not isinstance(document, dict):
        return document
    return {
        name: _plain(value)
        for name, value in document.items()
        if (names is None or name in names)
        and name not in _UNSAID
        and value not in (None, [])
        and (name, value) != ("status", "completed")
    }


def test_states_at_every_step_are_converted(
    javascript: JavaScript, document: dict[str, Any]
) -> None:
    over = {**document, "current_step": None}
    again = {**document, "current_step": {"type": "next_step_run_again"}}
    new = {
        **over,
        "current_turn": 0,
        "model_responses": [],
        "last_model_response": None,
        "generated_items": [],
    }
    there = javascript.run("convert", documents=[over, again, new])
    steps = [found["currentStep"]["type"] for found in there]
    assert steps == ["next_step_final_output", "next_step_run_again", "next_step_run_again"]
    back = [python_state_from_javascript({**found, "$schemaVersion": "1.22"}) for found in there]
    assert [found["current_step"] for found in back] == [None, *[again["current_step"]] * 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pendingInput": [{"role": "user", "content": "more"}]}, "'pendingInput'"),
        ({"pendingAgentToolRuns": {"a": "{}"}}, "belong to no call"),
        ({"$schemaVersion": "1.17"}, "converts from 1.18 on"),
        ({"originalInput": [{"type": "shell_call", "callId": "c"}]}, "'shell_call'"),
        (
            {"originalInput": [{"type": "function_call", "namespace": "n"}]},
            "a tool in a namespace",
        ),
        ({"currentStep": {"type": "next_step_handoff"}}, "'next_step_handoff'"),
        ({"currentTurn": 1, "initialInputGuardrailsCompleted": False}, "checks of the run's input"),
    ],
)
def test_what_python_has_no_place_for_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ForeignStateError, match=said):
        python_state_from_javascript({**_NOTHING, **change})
    with pytest.raises(StateTooNewError, match="upgrade timestep"):
        python_state_from_javascript({**_NOTHING, "$schemaVersion": "2.0"})


_USAGE = {"requests": 0, "inputTokens": 0, "outputTokens": 0, "totalTokens": 0}
_NOTHING: dict[str, Any] = {
    "$schemaVersion": "1.22",
    "currentTurn": 0,
    "currentAgent": {"name": "triage"},
    "originalInput": "go",
    "modelResponses": [],
    "generatedItems": [],
    "maxTurns": 10,
    "context": {"context": {}, "usage": _USAGE, "approvals": {}},
}


def test_an_empty_state_of_javascript_is_converted() -> None:
    state = python_state_from_javascript(_NOTHING)
    assert (state["$schemaVersion"], state["current_step"]) == (
        "1.21",
        {"type": "next_step_run_again"},
    )


def test_the_docstring_names_every_field() -> None:
    told = from_javascript.__doc__ or ""
    words = set(told.replace(",", " ").replace(":", " ").replace(";", " ").split())
    words |= {word.rpartition(".")[2] for word in words}
    joined = "current_response_generated_item_ownership"  # It is broken over two lines.
    for kind in ("state", "context"):
        table = FIELDS[kind]
        named = {*table["renamed"].items(), *table["converted"].items()}
        fields = {name for pair in named for name in pair}
        for which in ("lost", "refused"):
            fields |= {name for names in table[which].values() for name in names}
        assert {field for field in fields if field not in words} <= {joined}


def test_a_call_that_a_person_edited_stays_edited(app: App, javascript: JavaScript) -> None:
    outcome = started(app, clerk())
    app.until(lambda: len(waiting()) == 2)
    decide(edit={"c1": EDITED}, approve=["c3"])
    outcome.result(timeout=60)
    (row,) = [row for row in app.rows("run_states") if row["state_type"] == "final"]
    document = row["state_data"]
    there = javascript.run("convert", documents=[document])[0]
    asked = [there["modelResponses"][0]["output"][0], there["generatedItems"][0]["rawItem"]]
    assert [json.loads(item["arguments"]) for item in asked] == [EDITED, EDITED]
    back = python_state_from_javascript({**there, "$schemaVersion": "1.22"})
    kept = ["generated_items", "model_responses"]
    assert _plain(back, kept) == _plain(document, kept)
    assert back["context"]["tool_invocations"] == document["context"]["tool_invocations"]
