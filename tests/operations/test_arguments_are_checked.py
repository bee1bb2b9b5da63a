"""What Python's callers and the command line give, before anything is done with it."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dbos import DBOS

import timestep
from tests.support.dbos_app import App
from timestep.cli import main
from timestep.errors import (
    InvalidInputError,
    InvalidQueryError,
    TimestepError,
    UnknownRunError,
)
from timestep.operations.arguments import LONGEST_ID, check_id, check_seconds
from timestep.operations.entrypoints import lookup
from timestep.operations.queries.interruptions import page_of_interruptions
from timestep.runtime.terminal import quoted

NO_TEXT: tuple[Any, ...] = ("", " \n", "\x00", "a\x00", "\ud800", "a\udfff", 5, b"a", ["a"])
DEEP: Any = json.loads("[" * 500 + "]" * 500)
ITSELF: list[Any] = []
ITSELF.append(ITSELF)


@DBOS.workflow()
async def echo(value: Any) -> Any:
    return value


def test_an_id_is_text_of_some_length() -> None:
    for good in (
        "a",
        "a b",
        "...",
        "a/../b",
        "\N{GRINNING FACE}" * 250,
        "\x1b[31m",
        "x" * LONGEST_ID,
    ):
        check_id("workflow_id", good)
    for bad in (*NO_TEXT, ".", "..", "x" * 1001, "\N{GRINNING FACE}" * 251, "x" * 10**7):
        with pytest.raises(InvalidInputError, match="workflow_id") as caught:
            check_id("workflow_id", bad)
        assert len(caught.value.message) < 200
        assert caught.value.message.isprintable()


def test_seconds_are_some_that_dbos_can_count() -> None:
    for good in (0.001, 1, 3.5, 1e9):
        check_seconds("delay", good)
    for bad in (0, -1, 1e-4, 1e10, 1e300, -1e300, float("nan"), float("inf"), True, "5", 10**5000):
        with pytest.raises(InvalidInputError, match="is not a positive number"):
            check_seconds("delay", bad)


def test_what_is_quoted_is_short() -> None:
    assert quoted("a'\x00\ud800") == '"a\'\\x00\\ud800"'
    for long in ("x" * 10**6, 10**5000, list(range(1000))):
        assert len(quoted(long)) <= 80


def test_an_input_may_hold_any_text() -> None:
    entrypoint = lookup(echo)
    for text in ("\x00", "\ud800", "\udfff \x00", "\N{GRINNING FACE}"):
        assert entrypoint.validate({"value": [text]}) == {"value": [text]}
    for bad in (DEEP, ITSELF, float("nan"), 10**5000, b"x"):
        with pytest.raises(InvalidInputError):
            entrypoint.validate({"value": bad})


def refused(kind: type[TimestepError], call: Coroutine[Any, Any, Any]) -> None:
    with pytest.raises(kind) as caught:
        asyncio.run(call)
    assert type(caught.value) is kind
    assert len(caught.value.message) < 1000


async def all_of(events: AsyncIterator[Any]) -> list[Any]:
    return [event async for event in events]


def test_what_cannot_be_used_changes_nothing(app: App) -> None:
    known = asyncio.run(timestep.start_run(echo, {"value": 1}))
    assert DBOS.retrieve_workflow(known).get_result(polling_interval_sec=0.02) == 1
    before = len(DBOS.list_workflows())

    options: dict[str, tuple[Any, ...]] = {
        "workflow_id": (*NO_TEXT, "x" * 9000),
        "queue": (*NO_TEXT, "x" * 9000),
        "deduplication_id": (*NO_TEXT, "x" * 9000),
        "priority": (0, -1, 2**31, 10**5000, 1.5, True, "1"),
        "delay": (0, -1, 1e300, float("nan"), float("inf"), "1", True),
        "timeout": (0, -1, 1e300, float("nan"), float("inf"), "1", True),
    }
    for name, values in options.items():
        for value in values:
            given: dict[str, Any] = {name: value}
            refused(InvalidInputError, timestep.start_run(echo, {"value": 1}, **given))
    for value in (DEEP, ITSELF):
        refused(InvalidInputError, timestep.start_run(echo, {"value": value}))
        supplied = timestep.resume_workflow(known, supply={"x": value})
        refused(InvalidInputError, supplied)
        refused(InvalidInputError, timestep.fork_run(known, turn=1, input=[value]))
        refused(InvalidInputError, timestep.fork_run(known, turn=1, append=[value]))
        agent = {"model_settings": {"extra_body": {"x": value}}}
        refused(InvalidInputError, timestep.fork_run(known, turn=1, agent=agent))
    for name in (*NO_TEXT, "x" * 9000):
        refused(InvalidInputError, timestep.fork_run(known, turn=1, new_workflow_id=name))
    for name in NO_TEXT:
        if isinstance(name, str):
            refused(UnknownRunError, timestep.get_run(name))
            refused(UnknownRunError, all_of(timestep.follow(name)))
            refused(UnknownRunError, timestep.list_items(name))
        refused(UnknownRunError, timestep.cancel_run(name))
        refused(UnknownRunError, timestep.resume_workflow(name, approve="all"))
        refused(UnknownRunError, timestep.resume_workflow(name, from_checkpoint=True))
        refused(UnknownRunError, timestep.fork_run(name, turn=1))
        if name and name != " \n":
            for filter_ in ("agent", "entrypoint", "session_id", "text", "version", "workflow_id"):
                asked: dict[str, Any] = {filter_: name}
                refused(InvalidQueryError, timestep.list_runs(**asked))
            refused(InvalidQueryError, timestep.list_interruptions(workflow_id=name))
    for turn in (True, 1.5, "1", 10**5000):
        refused(InvalidInputError, timestep.fork_run(known, turn=turn))  # type: ignore[arg-type]
    for cursor in ("x", "\x00", "\ud800", 5, "W" * 10**6):
        paged: dict[str, Any] = {"cursor": cursor}
        refused(InvalidQueryError, timestep.list_runs(**paged))
        refused(InvalidQueryError, timestep.list_items(known, **paged))
        asked = {"workflow_id": None, "resolved": None, "limit": 1, **paged}
        refused(InvalidQueryError, page_of_interruptions(**asked))
        if isinstance(cursor, str):
            refused(InvalidQueryError, all_of(timestep.follow(known, after=cursor)))
    west, east = (datetime.timezone(datetime.timedelta(hours=hours)) for hours in (-1, 1))
    for moment in (
        5,
        "2026-01-01T00:00:00Z",
        datetime.datetime(2026, 1, 1),
        datetime.datetime(1, 1, 1, tzinfo=east),
        datetime.datetime(9999, 12, 31, 23, 59, tzinfo=west),
    ):
        for name in ("since", "until"):
            at: dict[str, Any] = {name: moment}
            refused(InvalidQueryError, timestep.list_runs(**at))
    for limit in (0, 201, 10**5000, "1", 1.0):
        refused(InvalidQueryError, timestep.list_runs(limit=limit))  # type: ignore[arg-type]
    refused(InvalidQueryError, timestep.list_runs(status="\ud800"))
    refused(UnknownRunError, timestep.get_run("x" * 10**6))
    refused(UnknownRunError, timestep.cancel_run("x" * 10**6))
    assert len(DBOS.list_workflows()) == before


def test_a_start_may_be_long_and_far_away(app: App) -> None:
    DBOS.register_queue("far", polling_interval_sec=0.05)
    longest = "\N{GRINNING FACE}" * 250
    started = timestep.start_run(
        echo,
        {"value": "\ud800 \x00"},
        workflow_id=longest,
        queue="far",
        deduplication_id=longest,
        delay=1e9,
        timeout=1e9,
        priority=2**31 - 1,
    )
    assert asyncio.run(started) == longest
    run = asyncio.run(timestep.get_run(longest))
    assert (run.status, run.input) == ("running", {"value": "\ud800 \x00"})
    at_once = timestep.start_run(echo, {"value": "\ud800 \x00"}, timeout=1e9)
    workflow_id = asyncio.run(at_once)
    assert (
        DBOS.retrieve_workflow(workflow_id).get_result(polling_interval_sec=0.02) == "\ud800 \x00"
    )


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("start", "x", "--input", '{"a": 1, "a": 2}'), "the key 'a' is there twice"),
        (("start", "x", "--input", "[" * 100_000), "nested deeper than 100"),
        (("start", "x", "--input", '{"a": NaN}'), "NaN is not JSON"),
        (("fork", "x", "--turn", "1", "--input", "9" * 5000), "digits"),
        (("fork", "x", "--turn", "1", "--agent", "{"), "is not JSON"),
        (("resume", "x", "--supply", "y", "[" * 100_000), "nested deeper than 100"),
    ],
)
def test_json_of_the_command_line_is_strict(
    command: tuple[str, ...], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert len(result.stderr) < 500
