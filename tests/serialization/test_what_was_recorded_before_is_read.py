"""What was recorded before the modules moved into packages comes back."""

from __future__ import annotations

import base64
import importlib
import pickle

import agents
import openai
import pytest

import timestep
from timestep.serialization.values import decode

MAX_TURNS = (
    "gASV1AAAAAAAAACMEnRpbWVzdGVwLmVudmVsb3Blc5SMBm9wZW5lZJSTlH2UKIwEdHlwZZSMImFnZW50cy5leG"
    "NlcHRpb25zOk1heFR1cm5zRXhjZWVkZWSUjAdtZXNzYWdllIwWTWF4IHR1cm5zICgzKSBleGNlZWRlZJSMBGFy"
    "Z3OUXZSMFk1heCB0dXJucyAoMykgZXhjZWVkZWSUYYwKYXR0cmlidXRlc5R9lChoBmgKjAhydW5fZGF0YZROdY"
    "wIcmVzcG9uc2WUTowIdHJpcHdpcmWUTnWFlFKULg=="
)
RATE_LIMIT = (
    "gASVSQEAAAAAAACMEnRpbWVzdGVwLmVudmVsb3Blc5SMBm9wZW5lZJSTlH2UKIwEdHlwZZSMFW9wZW5haTpSYX"
    "RlTGltaXRFcnJvcpSMB21lc3NhZ2WUjAlzbG93IGRvd26UjARhcmdzlF2UjAlzbG93IGRvd26UYYwKYXR0cmli"
    "dXRlc5R9lChoBmgKjARib2R5lE6MBGNvZGWUTowFcGFyYW2UTmgETowLc3RhdHVzX2NvZGWUTa0BjApyZXF1ZX"
    "N0X2lklE51jAhyZXNwb25zZZR9lCiMBm1vZHVsZZSMBWh0dHB4lIwGc3RhdHVzlE2tAYwHaGVhZGVyc5R9lIwM"
    "Y29udGVudC10eXBllIwQYXBwbGljYXRpb24vanNvbpRzaA2MGXsiZXJyb3IiOnsibWVzc2FnZSI6Im0ifX2UdY"
    "wIdHJpcHdpcmWUTnWFlFKULg=="
)
RESUMED = (
    "gASVZAAAAAAAAACMEnRpbWVzdGVwLmFwcHJvdmFsc5SMDFJlc3VtZVJlc3VsdJSTlCmBlH2UKIwLd29ya2Zsb3"
    "dfaWSUjAF3lIwIcmVzb2x2ZWSUXZSMAWGUYYwHcGVuZGluZ5RdlIwBYpRhdWIu"
)


@pytest.mark.parametrize(
    ("pickled", "kind"), [(MAX_TURNS, agents.MaxTurnsExceeded), (RATE_LIMIT, openai.RateLimitError)]
)
def test_an_error_that_dbos_pickled(pickled: str, kind: type[Exception]) -> None:
    assert type(pickle.loads(base64.b64decode(pickled))) is kind


def test_a_record_of_timesteps_own_in_a_step_of_dbos() -> None:
    assert pickle.loads(base64.b64decode(RESUMED)) == timestep.ResumeResult("w", ["a"], ["b"])


def test_a_record_of_timesteps_own_in_a_tools_output() -> None:
    value = {"workflow_id": "w", "resolved": ["a"], "pending": ["b"]}
    found = decode({"$type": "timestep.approvals:ResumeResult", "value": value})
    assert found == timestep.ResumeResult("w", ["a"], ["b"])


@pytest.mark.parametrize(
    "path",
    [
        "timestep.approvals:Interruption",
        "timestep.following:RunEvent",
        "timestep.operations.queries.follow:RunEvent",
        "timestep.operations.queries.usage:UsageRow",
        "timestep.pages:Page",
        "timestep.queries:Run",
        "timestep.queries:RunError",
        "timestep.queries:RunItem",
        "timestep.queries:ToolCall",
        "timestep.queries:Usage",
        "timestep.queries:Workflow",
        "timestep.reports:UsageRow",
    ],
)
def test_a_class_is_found_by_the_path_that_was_recorded(path: str) -> None:
    module, _, name = path.partition(":")
    assert getattr(importlib.import_module(module), name).__name__ == name
