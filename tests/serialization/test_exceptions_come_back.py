"""Errors come back as the class they were, with what callers look at."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrail,
    InputGuardrailResult,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    OutputGuardrail,
    OutputGuardrailResult,
    OutputGuardrailTripwireTriggered,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrail,
    ToolOutputGuardrailTripwireTriggered,
    UserError,
)
from agents.exceptions import (
    MCPToolCancellationError,
    ModelRefusalError,
    ModelTimeoutError,
    ToolTimeoutError,
)

from timestep.errors import RecordedError, RunTimeoutError
from timestep.serialization import exceptions

REQUEST = httpx2.Request("POST", "https://x", headers={"authorization": "Bearer sk-secret"})


def reopened(error: BaseException) -> tuple[BaseException, str]:
    text = json.dumps(exceptions.seal(error))
    return exceptions.opened(json.loads(text)), text


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        KeyError("k"),
        UserError("bad"),
        ModelBehaviorError("odd"),
        MaxTurnsExceeded("many"),
        ToolTimeoutError("t", 2.5),
        ModelRefusalError("no"),
        ModelTimeoutError(1.5),
        MCPToolCancellationError("gone"),
        RunTimeoutError("late"),
    ],
)
def test_an_error_comes_back_as_its_class(error: Exception) -> None:
    back, _ = reopened(error)
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_a_rate_limit_keeps_when_to_try_again_and_no_key() -> None:
    response = httpx2.Response(
        429, headers={"retry-after": "7", "set-cookie": "no"}, json={"why": "slow"}, request=REQUEST
    )
    error = openai.RateLimitError("slow down", response=response, body={"code": "slow"})
    back, text = reopened(error)
    assert isinstance(back, openai.RateLimitError)
    assert back.status_code == 429
    assert back.response.headers["retry-after"] == "7"
    assert back.response.json() == {"why": "slow"}
    assert back.body == {"code": "slow"}
    assert "sk-secret" not in text
    assert "set-cookie" not in text


def test_a_lost_connection_comes_back_without_its_request() -> None:
    back, text = reopened(openai.APIConnectionError(request=REQUEST))
    assert isinstance(back, openai.APIConnectionError)
    assert "sk-secret" not in text


def test_an_error_whose_class_is_gone_says_which_it_was() -> None:
    class Local(Exception):
        pass

    back, _ = reopened(Local("inside"))
    assert isinstance(back, RecordedError)
    assert str(back) == "inside"
    assert back.type_name.endswith("Local")


def _check(*_: Any) -> Any:
    raise AssertionError


def test_a_tripwire_keeps_what_the_guardrail_said() -> None:
    said = GuardrailFunctionOutput({"score": (1, 2)}, tripwire_triggered=True)
    before = InputGuardrailResult(InputGuardrail(_check, name="polite"), said)
    back: Any
    back, _ = reopened(InputGuardrailTripwireTriggered(before))
    assert back.guardrail_result.guardrail.get_name() == "polite"
    assert back.guardrail_result.output == said
    after = OutputGuardrailResult(OutputGuardrail(_check, name="short"), "long", Agent("A"), said)
    back, _ = reopened(OutputGuardrailTripwireTriggered(after))
    assert back.guardrail_result.output == said
    assert (back.guardrail_result.agent.name, back.guardrail_result.agent_output) == ("A", "long")
    told = ToolGuardrailFunctionOutput.raise_exception({"why": "secret"})
    back, _ = reopened(ToolInputGuardrailTripwireTriggered(ToolInputGuardrail(_check, "t"), told))
    assert (back.guardrail.get_name(), back.output) == ("t", told)
    back, _ = reopened(ToolOutputGuardrailTripwireTriggered(ToolOutputGuardrail(_check), told))
    assert (back.guardrail.get_name(), back.output) == ("_check", told)


def test_what_is_not_json_stays_behind() -> None:
    error: Any = ValueError(object())
    error.note = "kept"
    error.thing = object()
    back: Any
    back, _ = reopened(error)
    assert back.note == "kept"
    assert not hasattr(back, "thing")
