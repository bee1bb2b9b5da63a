"""The command line, with a host that executes what it starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from tests.support import forked_processes
from tests.support.host_process import ROOT, Host, host, own_host
from tests.support.workflows_package import own_workflows
from timestep.cli import main
from timestep.operations.access import acting

__all__ = ["host", "own_host"]

Cli = Callable[..., Result]


@pytest.fixture
def cli(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    """Runs a command beside the host: same folder, same database."""
    monkeypatch.chdir(host.folder)
    monkeypatch.setenv("TIMESTEP_DB_URL", host.database)
    with own_workflows():
        yield run


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def done(result: Result) -> str:
    """What a command that ended well wrote."""
    assert result.exit_code == 0, result.stderr
    return result.stdout


def failed(result: Result, status: int = 1) -> str:
    """The one line that a command that failed wrote."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert status == 2 or len(lines) == 1, result.stderr
    return lines[-1]


def parsed(result: Result) -> Any:
    return json.loads(done(result))


def test_start_waits_for_the_result(cli: Cli) -> None:
    result = cli("start", "greet", "--input", '{"name": "Ada"}', "--wait")
    assert done(result) == "[offline model] hello Ada\n"
    assert result.stderr.startswith("workflow ")
    assert "1 turn · 1 model call · " in done(cli("show", result.stderr.split()[1]))
    result = cli("start", "plain", "--input", '{"order": {"item": "tea"}}', "--wait")
    assert done(result) == "1 tea\n"


def test_start_answers_the_id_and_the_same_id_is_the_same_run(cli: Cli, host: Host) -> None:
    command = ("start", "greet", "--input", '{"name": "Alan"}', "--id", "cli-once")
    started = cli(*command)
    assert (done(started), started.stderr) == ("cli-once\n", "")
    assert host.output("cli-once") == "[offline model] hello Alan"
    assert done(cli(*command)) == "cli-once\n"
    assert len(host.get("/api/runs", workflow_id="cli-once").json()["items"]) == 1
    other = ("start", "greet", "--input", '{"name": "Eve"}', "--id", "cli-once")
    assert "was started already, with another input" in failed(cli(*other))
    other = ("start", "fail", "--input", '{"reason": "x"}', "--id", "cli-once")
    assert "was started already, as 'greet', not 'fail'" in failed(cli(*other))


def test_start_tells_what_does_not_fit(cli: Cli) -> None:
    assert "there is no entrypoint 'nope': there are 'ask'," in failed(cli("start", "nope"))
    assert "'name' is missing" in failed(cli("start", "greet"), 2)
    assert "'x' is not JSON" in failed(cli("start", "greet", "--input", "x"), 2)
    assert "not [1]" in failed(cli("start", "greet", "--input", "[1]"), 2)
    unknown = cli("start", "greet", "--input", '{"name": "x"}', "--queue", "nope")
    assert "there is no queue 'nope'" in failed(unknown, 2)
    for misfit in (unknown, cli("fork", "nope", "--turn", "0"), cli("start", "greet")):
        assert len(misfit.stderr.splitlines()) == 1


def test_start_tells_how_the_workflow_failed(cli: Cli) -> None:
    result = cli("start", "fail", "--input", '{"reason": "out of tea"}', "--wait")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1] == "Error: ValueError: out of tea"


def test_what_is_started_while_no_host_runs_waits_for_one(
    own_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_host.folder)
    monkeypatch.setenv("TIMESTEP_DB_URL", own_host.database)
    with own_workflows():
        done(run("migrate"))
        started = run("start", "greet", "--input", '{"name": "Ada"}')
        workflow_id = done(started).strip()
        assert started.stderr == (
            f"no host runs: {workflow_id} waits in the queue until `timestep serve` is started\n"
        )
        assert "running" in done(run("show", workflow_id))
    own_host.start()
    assert own_host.output(workflow_id) == "[offline model] hello Ada"


def test_runs_are_listed(cli: Cli) -> None:
    done(cli("start", "greet", "--input", '{"name": "Grace"}', "--id", "cli-listed", "--wait"))
    text = done(cli("runs"))
    assert "cli-listed" in text
    assert "completed" in text
    page = parsed(cli("runs", "--json", "--limit", "1"))
    assert [run["workflow_id"] for run in page["items"]] == ["cli-listed"]
    others = parsed(cli("runs", "--status", "failed", "--json"))["items"]
    assert {run["workflow_name"] for run in others} <= {"fail"}
    assert done(cli("runs", "--agent", "Nobody")) == "No runs.\n"
    assert "'odd' is not one of" in failed(cli("runs", "--status", "odd"), 2)


def test_show_tells_a_story(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    given = json.dumps({"folder": str(tmp_path)})
    done(cli("start", "work", "--input", given, "--id", "cli-story", "--wait"))
    text = done(cli("show", "cli-story"))
    parts = [
        "Run cli-story  completed",
        "workflow   work",
        "Turn 1",
        f'→ Worker: note({{"folder": "{tmp_path}"}})',
        "← note: noted",
        "Turn 3",
        "Answer  [offline model] all done",
        "3 turns · 3 model calls · ",
    ]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.count("[offline model] all done") == 1
    whole = parsed(cli("show", "cli-story", "--json"))
    assert whole["run"]["final_output"] == "[offline model] all done"
    assert [call["tool_name"] for call in whole["tool_calls"]] == ["note", "hold"]
    assert len(whole["items"]) == 5
    assert whole["run"]["id"] not in text
    head = f"Run {whole['run']['id']}  completed\n  workflow   cli-story (work)\n"
    told = done(cli("show", whole["run"]["id"]))
    assert told.startswith(head)
    assert told.splitlines()[2:] == text.splitlines()[2:]
    assert "there is no run and no workflow 'nope'" in failed(cli("show", "nope"))


def test_show_tells_of_a_workflow_without_a_run(cli: Cli) -> None:
    cli("start", "fail", "--input", '{"reason": "out of tea"}', "--id", "cli-failed", "--wait")
    text = done(cli("show", "cli-failed"))
    assert "Workflow cli-failed  failed" in text
    assert "Failed: ValueError: out of tea" in text


@pytest.mark.parametrize(
    ("decision", "output"),
    [
        (("--approve", "all", "--always"), "launched moon"),
        (("--reject", "all", "--message", "not today"), "not today"),
        (("--supply", "{id}", '"it flew already"'), "it flew already"),
        (("--edit", "{id}", '{"target":"mars"}', "--expect", "{id}", "{hash}"), "launched mars"),
    ],
)
def test_an_approval_is_decided(
    cli: Cli, host: Host, decision: tuple[str, ...], output: str
) -> None:
    workflow_id = done(cli("start", "ask", "--input", '{"target": "moon"}')).strip()
    host.run_when(workflow_id, "interrupted")
    (asked,) = parsed(cli("approvals", "--json"))["items"]
    assert asked["workflow_id"] == workflow_id
    text = done(cli("approvals"))
    assert 'launch({"target": "moon"})' in text
    assert f"timestep resume {workflow_id} --approve {asked['id']}" in text
    assert "Waits for a decision: launch" in done(cli("show", workflow_id))

    assert "nothing is decided" in failed(cli("resume", workflow_id), 2)
    assert "'nope' is not one of" in failed(cli("resume", workflow_id, "--approve", "nope"))
    command = [part.replace("{id}", asked["id"]) for part in decision]
    command = [part.replace("{hash}", asked["hash"]) for part in command]
    changed = failed(
        cli("resume", workflow_id, "--approve", "all", "--expect", asked["id"], "0" * 16)
    )
    assert "is not what was shown" in changed
    misfit = failed(cli("resume", workflow_id, "--edit", asked["id"], '{"target": 1}'), 2)
    assert "launch: target: 1 is not of type 'string'" in misfit
    assert "not JSON" in failed(cli("resume", workflow_id, "--edit", asked["id"], "{"), 2)
    assert asked["hash"][:16] in text
    assert "Launch moon" in text
    assert done(cli("resume", workflow_id, *command)) == "decided 1\n"
    assert host.output(workflow_id) == f"[offline model] {output}"
    (row,) = host.rows(f"SELECT * FROM interruptions WHERE id = '{asked['id']}'")
    assert row["resolved_by"] == acting.user()
    assert row["resolution_always"] == ("--always" in decision)
    how = f"{row['resolution_action']}{' always' if row['resolution_always'] else ''}"
    edited = ' to launch({"target": "mars"})' if "--edit" in decision else ""
    told = f'Decided: {how} launch({{"target": "moon"}}){edited} by {acting.user()}'
    shown = done(cli("show", workflow_id))
    assert told in shown
    assert ('moon"}), edited to launch({"target": "mars"})' in shown) == ("--edit" in decision)
    other = "--reject" if row["resolution_action"] != "reject" else "--approve"
    refused = failed(cli("resume", workflow_id, other, asked["id"]))
    assert refused.endswith(f"by {acting.user()}")
    assert done(cli("approvals")) == "Nothing waits for a decision.\n"


def test_a_workflow_is_cancelled(cli: Cli, host: Host) -> None:
    workflow_id = done(cli("start", "ask", "--input", '{"target": "moon"}')).strip()
    host.run_when(workflow_id, "interrupted")
    assert done(cli("cancel", workflow_id)) == f"cancelled {workflow_id}\n"
    assert host.run(workflow_id)["status"] == "cancelled"
    assert "there is no workflow 'nope'" in failed(cli("cancel", "nope"))

    ended = done(cli("start", "greet", "--input", '{"name": "Ada"}', "--wait", "--id", "over"))
    assert ended
    assert "'over' cannot be cancelled: it has completed" in failed(cli("cancel", "over"))


def test_doctor_finds_nothing_wrong(cli: Cli) -> None:
    text = done(cli("doctor"))
    assert "problem" not in text
    assert "ask, fail, greet, plain, work" in text


def test_migrate_makes_both_schemas(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", empty_database_url)
    monkeypatch.chdir(tmp_path)
    assert "run `timestep migrate`" in failed(run("runs"))
    assert "would apply 001_initial_schema" in done(run("migrate", "--dry-run"))
    text = run("doctor")
    assert text.exit_code == 1
    assert "run `timestep migrate`" in text.stdout
    assert text.stderr == "Error: 1 problem found\n"
    assert "applied 001_initial_schema" in done(run("migrate"))
    # An application that launches DBOS itself has none, and is fine.
    assert "doubt    entrypoints   there is no folder 'workflows'" in done(run("doctor"))
    assert done(run("migrate")) == "the schema is up to date\n"
    assert done(run("runs")) == "No runs.\n"
    assert "there is no workflow" in failed(run("cancel", "nope"))
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*) FROM dbos.workflow_status").fetchone() == (0,)


def test_a_database_that_is_away_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIMESTEP_DB_URL", "postgresql://me:secret@127.0.0.1:1/x")
    for command in (["runs"], ["show", "x"], ["approvals"], ["cancel", "x"], ["migrate"]):
        line = failed(run(*command))
        assert "postgresql://me:***@127.0.0.1:1/x" in line


def test_a_failure_shows_no_traceback(host: Host) -> None:
    command = ("-m", "timestep", "start", "nope")
    result = forked_processes.run(*command, cwd=host.folder, env=host.environment)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: there is no entrypoint 'nope'")
    assert len(result.stderr.splitlines()) == 1
    assert str(ROOT) not in result.stderr
