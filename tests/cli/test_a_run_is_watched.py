"""`timestep watch`: a timeline of a run from elsewhere, while hosts come and go."""

from __future__ import annotations

import datetime
import importlib
import json
import signal
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner, Result

from tests.support.conditions import until
from tests.support.forked_processes import Forked
from tests.support.host_process import Host, host, lines, own_host
from timestep.cli import main
from timestep.cli.timeline import Timeline
from timestep.operations.queries.records import RunEvent

__all__ = ["host", "own_host"]


def watching(host: Host, out: IO[str], *arguments: str) -> Forked:
    """A process that watches; it may tell, on standard error, why nothing comes for long."""
    command = ("-m", "timestep", "watch", *arguments)
    with (host.folder / "told").open("a") as told:
        return Forked(*command, cwd=host.folder, env=host.environment, stdout=out, stderr=told)


def watched(host: Host, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("TIMESTEP_DB_URL", host.database)
    return CliRunner().invoke(main, ["watch", *arguments])


def test_a_run_is_watched_through_its_hosts_death(
    own_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = own_host.start()
    workflow_id = host.begin("work", folder=str(tmp_path), stream=True)
    log, events = tmp_path / "log", tmp_path / "events"
    with log.open("w") as first, events.open("w") as second:
        people = watching(host, first, workflow_id)
        program = watching(host, second, workflow_id, "--json")
        until(lambda: bool(lines(tmp_path, "held")) and "→" in log.read_text())
        host.signal(signal.SIGKILL)
        host.ended()
        host.start()
        until(lambda: len(lines(tmp_path, "held")) == 2)
        (tmp_path / "go").touch()
        assert (people.wait(60), program.wait(60)) == (0, 0)
    said = log.read_text().splitlines()
    # It is the run of the workflow that was asked for: no other id is told for it.
    assert said[:2] == ["Worker started", "Turn 1"]
    assert str(host.run(workflow_id)["id"]) not in log.read_text()
    assert host.run(workflow_id)["recoveries"] == 1
    monkeypatch.setenv("TIMESTEP_DB_URL", host.database)
    shown = CliRunner().invoke(main, ["show", workflow_id]).stdout
    assert "  recovered  its host died or was stopped, and it went on from its record\n" in shown
    assert said[-1] == "Worker completed"
    assert [line for line in said if line.startswith("Turn")] == ["Turn 1", "Turn 2", "Turn 3"]
    (noted,) = (line for line in said if "← note: noted" in line)
    assert noted.endswith(" ms)")
    assert any("Worker: [offline model] all done" in line for line in said)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    assert told[-1] == {"kind": "end", "status": "completed"}
    assert [one["type"] for one in told[:-1]][:: len(told) - 2] == ["run.started", "run.completed"]
    assert len({one["cursor"] for one in told[:-1]}) == len(told) - 1


@pytest.mark.parametrize("command", ["watch", "start"])
def test_who_leaves_is_told_that_it_is_not_stopped(
    host: Host, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", host.database)
    monkeypatch.setenv("TIMESTEP_URL", host.url)

    async def left(*asked: object, **options: object) -> None:
        raise KeyboardInterrupt

    module = importlib.import_module(f"timestep.cli.commands.{command}")
    monkeypatch.setattr(module, "_watch" if command == "watch" else "_outcome", left)
    given = ["--input", '{"name": "Ada"}', "--id", "left", "--wait"]
    arguments = ["watch", "left"] if command == "watch" else ["start", "greet", *given]
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 130
    assert "and not stopped: `timestep watch left` shows it" in found.stderr
    assert "Aborted" not in found.stderr


def test_how_it_ends_is_the_exit_status(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = host.begin("ask", target="moon")
    host.run_when(asking, "interrupted")
    host.post(f"/api/workflows/{asking}/cancel")
    found = watched(host, monkeypatch, asking)
    assert found.exit_code == 1
    assert found.stderr == f"Error: {asking} is cancelled\n"
    said = found.stdout.splitlines()
    assert said[-1] == "Asker is cancelled: somebody cancelled its workflow"
    assert any(line.startswith('Waits for a decision: launch({"target": "moon"})') for line in said)
    assert any(line.strip().startswith(f"timestep resume {asking} --approve ") for line in said)
    failing = host.begin("fail", reason="no \x1b[31m luck")
    found = watched(host, monkeypatch, failing)
    assert (found.exit_code, found.stdout) == (1, "")
    assert found.stderr == f"Error: {failing} failed: ValueError: no \\x1b[31m luck\n"
    assert watched(host, monkeypatch, "nobody").exit_code == 1


def event(kind: Any, type_: str, data: Any, **given: Any) -> RunEvent:
    values = {"cursor": "1.0", "run_id": "r", "turn": 1, "position": 0, "attempt": None}
    return RunEvent(**{**values, "response_id": None, **given}, kind=kind, type=type_, data=data)


def test_what_models_say_is_shown_and_not_obeyed() -> None:
    timeline, moment = Timeline(), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

    def told(one: RunEvent) -> list[str]:
        return [entry.plain for entry in timeline.entries(one)]

    whose = {"workflow_id": "w", "parent_run_id": None, "agent_name": "A\x1b"}
    assert told(event("run", "run.started", whose)) == ["A\\x1b started"]
    for attempt, text in ((1, "one"), (1, " \x1b[2J"), (2, "again\u202e")):
        delta = {"type": "response.output_text.delta", "delta": text}
        assert told(event("model", delta["type"], delta, attempt=attempt)) == []
    assert timeline.now(moment).plain == "A\\x1b: again\\u202e"
    call = {"name": "f", "call_id": "c", "arguments": '{"a": "\x1b"}'}
    assert told(event("item", "tool_call_item", call, created_at=moment)) == [
        "Turn 1",
        '  → A\\x1b: f({"a": "\\x1b"})',
    ]
    assert timeline.now(moment + datetime.timedelta(seconds=3)).plain == "f 3 s"
    output = {"call_id": "c", "output": "one\nTurn 9"}
    assert told(event("item", "tool_call_output_item", output, duration_ms=7)) == [
        "  ← f: one\n        Turn 9 (7 ms)"
    ]
    assert timeline.now(moment).plain == "…"
    edited = {"action": "edit", "tool_name": "pay", "arguments": {"cents": 5}, "by": None}
    edited |= {"edited_arguments": {"cents": 4}, "message": None}
    decided = event("question", "question.decided", {**whose, "questions": [edited]})
    assert told(decided) == ['Decided: edit pay({"cents": 5}) to pay({"cents": 4})']
    failed = {**whose, "error": {"turn": 1, "type": "E", "message": "no\x1b"}}
    assert told(event("run", "run.failed", failed)) == ["A\\x1b failed: E: no\\x1b"]
    inside = event("run", "run.started", {**whose, "parent_run_id": "r"}, run_id="s")
    assert told(inside) == ["    Run s of A\\x1b started"]
