"""What one language saved, the other finishes: nothing twice, nothing forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.cross_language.javascript import JavaScript
from tests.cross_language.scenario import BOTH, finish, load, start

Names = tuple[str, ...]

_OUTPUTS = {"call_1": "noted", "call_3": "not that path"}


def _states(url: str) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM run_states ORDER BY created_at").fetchall()


def _one(url: str, query: str) -> Any:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def _ran(effects: Path) -> list[str]:
    return effects.read_text().splitlines()


def _shape(row: dict[str, Any]) -> tuple[Any, ...]:
    return (
        row["sdk"],
        row["state_type"],
        row["encoding"],
        row["is_active"],
        row["resumed_at"] is not None,
    )


@pytest.mark.parametrize(
    ("decided", "left"),
    [(BOTH, ()), ((), BOTH)],
    ids=["decided where saved", "decided where loaded"],
)
def test_a_run_of_python_is_finished_by_javascript(
    database_url: str, javascript: JavaScript, effects: Path, decided: Names, left: Names
) -> None:
    run_id = asyncio.run(start(database_url, decided, run_id="release 7"))

    place = {"runId": "release 7", "connectionString": database_url}
    told = javascript.run("finish", store=place, decided=left)

    assert _ran(effects) == ["python note ada", "javascript deploy ada"]
    assert told["runId"] == run_id
    assert (told["output"], told["agent"], told["asked"]) == ("all done", "worker", 1)
    assert told["outputs"] == {
        "call_0": '{"assistant": "worker"}',
        "call_2": '{"deployed":1.5}',
        **_OUTPUTS,
    }
    assert told["items"] == [
        "message",
        "function_call",
        "function_call_result",
        *["function_call"] * 3,
        *["function_call_result"] * 3,
    ]
    assert told["usage"] == {
        "requests": 3,
        "total_tokens": 45,
        "cached_tokens": 3,
        "reasoning_tokens": 2,
    }
    saved, final = _states(database_url)
    assert _shape(saved) == ("python", "interrupted", "whole", False, True)
    assert (saved["schema_version"], saved["sdk_version"][:2]) == ("1.21", "0.")
    assert _shape(final) == ("javascript", "final", "whole", True, False)
    assert (final["schema_version"], final["sdk_version"]) == ("1.22", "0.20.0")
    assert _one(database_url, "SELECT status FROM runs") == "completed"

    # And what JavaScript made of it is a state that Python reads.
    state = asyncio.run(load(database_url, run_id="release 7"))
    assert state.get_interruptions() == []
    assert state.to_json()["context"]["usage"]["total_tokens"] == 45


@pytest.mark.parametrize(
    ("decided", "left"),
    [(BOTH, ()), ((), BOTH)],
    ids=["decided where saved", "decided where loaded"],
)
def test_a_run_of_javascript_is_finished_by_python(
    database_url: str, javascript: JavaScript, effects: Path, decided: Names, left: Names
) -> None:
    place = {"runId": "release 8", "connectionString": database_url}
    javascript.run("start", store=place, context={"user": "ada"}, decided=decided)

    told = asyncio.run(finish(database_url, left, run_id="release 8"))

    assert _ran(effects) == ["javascript note ada", "python deploy ada"]
    assert (told["output"], told["agent"], told["asked"]) == ("all done", "worker", 1)
    assert told["outputs"] == {
        "call_0": '{"assistant":"worker"}',
        "call_2": "{'deployed': 1.5}",
        **_OUTPUTS,
    }
    assert told["items"] == [
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        *["function_call"] * 3,
        *["function_call_output"] * 3,
    ]
    assert told["usage"] == {
        "requests": 3,
        "total_tokens": 40 + 5,
        "cached_tokens": 6,
        "reasoning_tokens": 4,
    }
    saved, final = _states(database_url)
    assert _shape(saved) == ("javascript", "interrupted", "whole", False, True)
    assert (saved["schema_version"], saved["sdk_version"]) == ("1.22", "0.20.0")
    assert _shape(final) == ("python", "final", "whole", True, False)
    assert _one(database_url, "SELECT status FROM runs") == "completed"


def test_each_language_decides_one_call(
    database_url: str, javascript: JavaScript, effects: Path
) -> None:
    run_id = asyncio.run(start(database_url, (), session_id="chat 1"))
    place = {"sessionId": "chat 1", "connectionString": database_url}
    assert javascript.run("decide", store=place, decided=["deploy"]) == {"runId": run_id}
    told = asyncio.run(finish(database_url, ["erase"], session_id="chat 1"))

    assert told["runId"] == run_id
    assert _ran(effects) == ["python note ada", "python deploy ada"]
    assert {**told["outputs"], **_OUTPUTS} == told["outputs"]
    assert told["usage"]["requests"] == 3
    assert [row["is_active"] for row in _states(database_url)] == [False, False, True]
    assert _one(database_url, "SELECT session_key FROM sessions") == "chat 1"


@pytest.mark.parametrize(
    ("decided", "left"), [(["dig"], []), ([], ["dig"])], ids=["where saved", "where loaded"]
)
def test_what_an_agent_that_is_a_tool_asks_is_finished_by_the_other_language(
    database_url: str, javascript: JavaScript, effects: Path, decided: list[str], left: list[str]
) -> None:
    place = {"runId": "mine", "connectionString": database_url}
    asyncio.run(start(database_url, decided, nested=True, run_id="mine"))
    told = javascript.run("finish", store=place, decided=left, nested=True)
    assert (told["output"], told["outputs"]) == ("rich", {"call_1": "found gold"})

    javascript.run("start", store=place, decided=decided, nested=True)
    told = asyncio.run(finish(database_url, left, nested=True, run_id="mine"))
    assert (told["output"], told["outputs"]) == ("rich", {"call_1": "found gold"})

    assert told["usage"]["requests"] == 4
    assert _ran(effects) == ["javascript dig ada", "python dig ada"]
