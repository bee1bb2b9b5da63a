"""With TIMESTEP_URL a command says what it says of the database, and has the host do it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from tests.support.conditions import until
from tests.support.host_process import Host, own_host
from tests.support.workflows_package import own_workflows
from timestep.cli import main

__all__ = ["own_host"]

Both = Callable[..., Result]
HERE = {"doctor", "migrate", "serve", "stop"}
"""What does not go through a host."""
NEITHER = {"completion", "init"}
"""What asks neither a host nor a database."""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def told(result: Result) -> tuple[int, str, str]:
    return result.exit_code, result.stdout, result.stderr


def test_each_command_says_the_same(own_host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host = own_host.start()
    monkeypatch.chdir(host.folder)
    monkeypatch.setenv("TIMESTEP_DB_URL", host.database)
    token = run("tokens", "create", "ann", "--role", "admin").stdout.strip()
    monkeypatch.setenv("TIMESTEP_TOKEN", token)

    def remotely(*arguments: str) -> Result:
        with monkeypatch.context() as patch:
            patch.setenv("TIMESTEP_URL", host.url)
            # Nothing of it is asked.
            patch.setenv("TIMESTEP_DB_URL", "postgresql://127.0.0.1:9/none")
            return run(*arguments)

    def done(*arguments: str) -> Result:
        result = remotely(*arguments)
        assert result.exit_code == 0, result.output
        return result

    greeting = done("start", "greet", "--input", '{"name": "Ann"}', "--id", "a/greeting", "--wait")
    assert greeting.stdout == "[offline model] hello Ann\n"
    assert greeting.stderr == "workflow a/greeting\n"
    tagged = ("--tag", "team=billing", "--tag", "ä=b=c")
    done("start", "greet", "--input", '{"name": "Bob"}', "--id", "broken", "--wait", *tagged)
    host.rows(
        """UPDATE runs SET status = 'failed', final_output = NULL, error_type = 'Odd',
        error_message = 'x', error = '{"traceback": "Traceback\\n  in there\\n"}'
        WHERE workflow_id = 'broken' RETURNING id"""
    )
    assert "in there" in done("show", "broken", "--traceback").stdout
    assert "tags       ä=b=c, team=billing" in done("show", "broken").stdout
    for n in "12":
        answer = done("start", "ask", "--input", '{"target": "mars"}', "--id", f"ask{n}", "--json")
        assert json.loads(answer.stdout) == {"workflow_id": f"ask{n}"}
    until(lambda: json.loads(done("approvals", "--json").stdout)["items"][1:] != [])
    (first, second) = json.loads(done("approvals", "--json").stdout)["items"]
    until(lambda: host.rows("SELECT FROM dbos.workflow_status WHERE status = 'DELAYED'")[1:] != [])

    for arguments in (
        ("runs",),
        ("runs", "--json"),
        ("runs", "--status", "completed", "--limit", "1", "--json"),
        ("show", "a/greeting"),
        ("show", "ask1"),
        ("show", "ask1", "--json"),
        ("show", "nobody"),
        ("show", "broken", "--traceback"),
        ("show", "broken", "--traceback", "--json"),
        ("show", "ask1", "--traceback"),
        ("graph", "ask"),
        ("graph", "ask", "--json"),
        ("graph", "nothing"),
        ("runs", "--tag", "team:billing", "--json"),
        ("runs", "--tag", "team:"),
        ("start", "greet", "--input", '{"name": "Ann"}', "--id", "a/greeting", "--tag", "team=x"),
        ("start", "greet", "--input", '{"name": "Ann"}', "--tag", "a=", "--tag", "dbos.x=1"),
        ("approvals",),
        ("approvals", "--json"),
        ("resume", "ask1"),
        ("resume", "ask1", "--approve", "nobody"),
        ("resume", "ask1", "--edit", first["id"], '{"target": 3}'),
        ("resume", "ask1", "--approve", "all", "--expect", first["id"], "0123456789abcdef"),
        ("fork", "ask1", "--turn", "9"),
        ("cancel", "a/greeting"),
        ("start", "nothing"),
        ("start", "greet", "--input", '{"nobody": 1}'),
        ("start", "greet", "--input", '{"name": "Bob"}', "--id", "a/greeting"),
        ("usage",),
        ("usage", "--since", "7d", "--by", "entrypoint", "--json"),
        ("sessions",),
        ("sessions", "--json"),
        ("sessions", "nobody"),
        ("agents",),
        ("agents", "--json"),
        ("audit", "--json", "--act", "start"),
        ("audit", "--csv", "--act", "start"),
        ("audit", "--act", "start", "--limit", "1"),
        ("tokens", "create", "ann", "--role", "viewer"),
        ("tokens", "revoke", "nobody"),
        ("watch", "a/greeting"),
        ("watch", "a/greeting", "--json"),
        ("watch", "nobody"),
    ):
        with own_workflows():
            assert told(remotely(*arguments)) == told(run(*arguments)), arguments

    # The one whose token it is decides, and not who calls the command.
    assert done("resume", first["workflow_id"], "--approve", first["id"]).stdout == "decided 1\n"
    workflow_id = second["workflow_id"]
    edit = ("--edit", second["id"], '{"target": "phobos"}')
    edited = done("resume", workflow_id, *edit, "--json")
    assert json.loads(edited.stdout)["resolved"] == [second["id"]]
    watched = done("watch", workflow_id, "--json").stdout.splitlines()
    assert json.loads(watched[-1]) == {"kind": "end", "status": "completed"}
    assert "phobos" in done("show", workflow_id).stdout
    entries = done("audit", "--act", "decide", "--subject", workflow_id, "--json").stdout
    assert json.loads(entries.splitlines()[0])["who"] == "ann"
    assert done("fork", "ask2", "--turn", "1", "--id", "fork").stdout == "fork\n"
    assert done("cancel", "fork").stdout == "cancelled fork\n"
    made = json.loads(done("tokens", "create", "bob", "--role", "viewer", "--json").stdout)
    names = [one["name"] for one in json.loads(done("tokens", "list", "--json").stdout)["items"]]
    assert names == ["ann", "bob"]
    assert "bob" in done("tokens", "list").stdout
    monkeypatch.setenv("TIMESTEP_TOKEN", made["token"])
    for arguments in (
        ("cancel", "fork"),
        ("audit",),
        ("resume", "ask1", "--approve", "all"),
        ("show", "broken", "--traceback"),
    ):
        refused = remotely(*arguments)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert "viewer" in refused.stderr
    assert done("runs", "--limit", "1").exit_code == 0
    monkeypatch.setenv("TIMESTEP_TOKEN", "ts_" + 43 * "x")
    stranger = remotely("runs")
    assert stranger.exit_code == 1
    assert "xxx" not in stranger.output
    assert len(stranger.stderr.splitlines()) == 1


def test_what_is_about_this_machine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_URL", "http://127.0.0.1:9")
    for name in sorted(HERE):
        result = run(name)
        assert result.exit_code == 1
        assert "TIMESTEP_URL names http://127.0.0.1:9: unset it first" in result.stderr


def test_every_other_command_asks_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timestep.client.connection._PAUSES", ())
    monkeypatch.setenv("TIMESTEP_URL", "http://127.0.0.1:9")
    given = {
        "cancel": ("x",), "fork": ("x", "--turn", "1"), "resume": ("x", "--approve", "all"),
        "graph": ("x",), "show": ("x",), "start": ("x",), "tokens": ("list",),
    }  # fmt: skip
    for name in set(main.commands) - HERE - NEITHER - {"watch"}:
        result = run(name, *given.get(name, ()))
        assert result.exit_code == 1, name
        assert "http://127.0.0.1:9 cannot be reached" in result.stderr, name
    monkeypatch.setenv("TIMESTEP_URL", "http://runs.example.com")
    monkeypatch.setenv("TIMESTEP_TOKEN", "ts_secret")
    refused = run("runs")
    assert refused.exit_code == 1
    assert "plain http to another machine" in refused.stderr
    assert "ts_secret" not in refused.output
