"""`timestep usage` tells what runs used, since when and of what one asks."""

from __future__ import annotations

import datetime
import json
from typing import Any, get_args

import pytest
from agents import Agent
from agents.testing import ModelStep, ScriptedModel, assistant_message
from agents.usage import Usage
from click.testing import CliRunner, Result

import timestep
from tests.support.dbos_app import App
from timestep.cli import main
from timestep.cli.commands import usage
from timestep.cli.moments import moment
from timestep.operations.queries.records import UsageBy


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["usage", *arguments])


def items(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("--json", *arguments).stdout)["items"]
    return found


def test_what_was_used_is_told_by_what_one_asks_for(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    assert run().stdout == "Nothing was used.\n"

    async def body() -> Any:
        used = Usage(requests=1, input_tokens=1200, output_tokens=30, total_tokens=1230)
        for name in ("\x1b[31mAnn", "Bob"):
            model = ScriptedModel([ModelStep([assistant_message("hi")], usage=used)])
            await timestep.run_agent(Agent(name=name, model=model), "hello")
        return "done"

    app.run(body, "talk")
    app.execute(
        "UPDATE runs SET started_at = started_at - interval '2 days' FROM agents a "
        "WHERE a.id = agent_id AND a.name = 'Bob'"
    )

    text = run().stdout
    assert "\\x1b[31mAnn" in text
    assert "\x1b" not in text
    (total,) = (line for line in text.splitlines() if "all" in line.split())
    assert total.split()[:3] == ["all", "2", "2,400"]
    assert "2 answers of models whose price is not known" in text
    assert [row["name"] for row in items("--since", "1d")] == ["\x1b[31mAnn"]
    assert len(items("--by", "day")) == 2
    assert [row["input_tokens"] for row in items("--by", "entrypoint")] == [2400]
    (model,) = items("--by", "model")
    assert model["requests"] == 2


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("90m", datetime.timedelta(minutes=90)),
        ("12h", datetime.timedelta(hours=12)),
        ("7d", datetime.timedelta(days=7)),
        ("2w", datetime.timedelta(weeks=2)),
    ],
)
def test_a_time_ago_is_counted_from_now(text: str, then: datetime.timedelta) -> None:
    before = datetime.datetime.now(datetime.UTC)
    found = moment(None, None, text)  # type: ignore[arg-type]  # it needs neither
    assert found is not None
    assert before - then <= found <= datetime.datetime.now(datetime.UTC) - then


def test_a_day_is_this_machines_own_unless_it_has_a_zone() -> None:
    there = moment(None, None, "2026-01-31T12:00+02:00")  # type: ignore[arg-type]
    assert there == datetime.datetime(2026, 1, 31, 10, tzinfo=datetime.UTC)
    here = moment(None, None, "2026-01-31")  # type: ignore[arg-type]
    assert here == datetime.datetime(2026, 1, 31).astimezone()


@pytest.mark.parametrize("text", ["soon", "7", "d", "7y", "-7d", "999999999w", "2026-13-01", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    result = run("--since", text)
    assert result.exit_code == 2
    assert "is neither a time ago (30m, 12h, 7d, 2w) nor a day" in result.stderr


def test_every_kind_of_report_can_be_asked_for() -> None:
    assert get_args(UsageBy) == usage._KINDS
