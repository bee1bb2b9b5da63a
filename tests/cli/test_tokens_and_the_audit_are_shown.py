"""The commands `tokens` and `audit`, beside a host."""

from __future__ import annotations

import csv
import io
import json
import os
import pwd
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.support.conditions import until
from tests.support.host_process import Host, own_host
from tests.support.workflows_package import own_workflows
from timestep.cli import main
from timestep.journal.recorder import recorder
from timestep.operations.access import acting
from timestep.operations.access.acting import Actor

__all__ = ["own_host"]

Cli = Callable[..., Result]


@pytest.fixture
def cli(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command."""
    monkeypatch.setenv("TIMESTEP_DB_URL", database_url)
    return run


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def done(result: Result) -> str:
    """What a command that ended well wrote."""
    assert result.exit_code == 0, result.stderr
    return result.stdout


def parsed(result: Result) -> Any:
    return json.loads(done(result))


def lines(result: Result) -> list[Any]:
    return [json.loads(line) for line in done(result).splitlines()]


def test_a_token_is_printed_once_and_listed_without(cli: Cli) -> None:
    made = cli("tokens", "create", "ann", "--role", "admin", "--expires", "30d")
    secret = done(made)
    assert secret.startswith("ts_")
    assert len(secret) == len("ts_") + 43 + len("\n")
    assert "not shown again" in made.stderr
    created = parsed(cli("tokens", "create", "bob", "--role", "viewer", "--json"))
    assert created["token"].startswith("ts_")
    assert (created["role"], created["expires_at"]) == ("viewer", None)
    listed = cli("tokens", "list")
    assert secret.strip() not in done(listed)
    assert "admin" in done(listed)
    page = parsed(cli("tokens", "list", "--json"))
    assert [token["name"] for token in page["items"]] == ["ann", "bob"]
    assert not any("token" in token or "hash" in token for token in page["items"])
    assert done(cli("tokens", "revoke", "ann")) == "revoked the token of ann\n"
    assert parsed(cli("tokens", "revoke", "ann", "--json"))["revoked_at"] is not None
    assert "revoked" in done(cli("tokens", "list"))


def test_what_cannot_be_a_token_is_told(cli: Cli) -> None:
    assert "No tokens" in done(cli("tokens", "list"))
    for arguments, status, reason in (
        (("create", "ann"), 2, "--role"),
        (("create", "ann", "--role", "king"), 2, "king"),
        (("create", "ann", "--role", "viewer", "--expires", "soon"), 2, "no time like"),
        (("create", "ann", "--role", "viewer", "--expires", "0d"), 2, "expires after"),
        (("create", "ann", "--role", "viewer", "--expires", "999999w"), 2, "expires after"),
        (("create", "", "--role", "viewer"), 2, "is empty"),
        (("revoke", "ann"), 1, "there is no token 'ann'"),
    ):
        result = cli("tokens", *arguments)
        assert (result.exit_code, result.stdout) == (status, ""), arguments
        assert reason in result.stderr


def test_the_audit_is_a_table_or_lines_of_json_or_csv(cli: Cli) -> None:
    names = ["ann", '=cmd|"/c calc"', "a\x1b[31mb\nc"]
    for name in names:
        done(cli("tokens", "create", name, "--role", "viewer"))
    user = acting.user()
    found = lines(cli("audit", "--json"))
    assert [one["details"]["name"] for one in found] == names[::-1]
    assert {(one["who"], one["via"], one["act"]) for one in found} == {
        (user, "cli", "create_token")
    }
    assert "create_token" in done(cli("audit"))
    assert "\x1b" not in done(cli("audit"))
    table = list(csv.DictReader(io.StringIO(done(cli("audit", "--csv")))))
    assert [json.loads(row["details"])["name"] for row in table][-1] == "ann"
    assert [row["id"] for row in table] == [str(one["id"]) for one in found]
    assert len(lines(cli("audit", "--json", "--limit", "2"))) == 2
    assert lines(cli("audit", "--json", "--who", "nobody-else")) == []
    assert len(lines(cli("audit", "--json", "--who", user, "--since", "1h"))) == 3
    assert done(cli("audit", "--act", "start")) == "No entries.\n"
    for arguments in (
        ("--json", "--csv"),
        ("--act", "x"),
        ("--since", "x"),
        ("--since", "999999w"),
        ("--limit", "0"),
    ):
        assert cli("audit", *arguments).exit_code == 2


def test_who_calls_a_command_is_no_variables_matter(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody-else")
    done(cli("tokens", "create", "ann", "--role", "viewer"))
    (entry,) = lines(cli("audit", "--json"))
    assert entry["who"] == pwd.getpwuid(os.getuid()).pw_name


def test_a_cell_that_a_spreadsheet_would_compute_is_text(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timestep.cli.group.user", lambda: "=1+1")
    done(cli("tokens", "create", "ann", "--role", "viewer"))
    (row,) = csv.DictReader(io.StringIO(done(cli("audit", "--csv"))))
    assert row["who"] == "'=1+1"


def test_all_of_a_long_audit_is_exported(cli: Cli) -> None:
    done(cli("tokens", "create", "ann", "--role", "viewer"))
    with acting.acting(Actor("many", "python")):
        _enter(450)
    assert len(lines(cli("audit", "--json"))) == 451
    assert len(done(cli("audit", "--csv")).splitlines()) == 452
    assert len(lines(cli("audit", "--json", "--limit", "300"))) == 300


def _enter(count: int) -> None:

    with recorder().transactions.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO timestep.audit (who, via, act) "
            "SELECT 'many', 'python', 'start' FROM generate_series(1, %s)",
            (count,),
        )


@pytest.fixture
def beside(own_host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host that runs, and commands in its folder."""
    monkeypatch.chdir(own_host.folder)
    monkeypatch.setenv("TIMESTEP_DB_URL", own_host.database)
    own_host.start()
    with own_workflows():
        yield own_host


def test_a_host_asks_for_tokens_once_there_is_one_and_not_for_those_that_are_revoked(
    beside: Host,
) -> None:
    assert beside.get("/api/runs").status_code == 200
    secret = done(run("tokens", "create", "olga", "--role", "operator")).strip()
    shown = {"authorization": f"Bearer {secret}"}
    until(lambda: beside.get("/api/runs").status_code == 401)
    begun = beside.post(
        "/api/workflows/greet/runs", {"input": {"name": "Ada"}, "workflow_id": "greeted"}, **shown
    )
    assert begun.status_code == 202
    done(run("start", "greet", "--input", '{"name": "Eve"}', "--id", "by-command"))
    token_id = parsed(run("tokens", "list", "--json"))["items"][0]["id"]
    entries = lines(run("audit", "--json", "--act", "start"))
    assert [
        (one["who"], one["role"], one["token_id"], one["via"], one["address"], one["subjects"])
        for one in entries
    ] == [
        (acting.user(), None, None, "cli", None, ["by-command"]),
        ("olga", "operator", token_id, "http", "127.0.0.1", ["greeted"]),
    ]
    done(run("tokens", "revoke", "olga"))
    until(lambda: beside.post("/api/workflows/x/cancel", **shown).status_code == 401)
    assert beside.get("/api/runs").status_code == 401


def test_a_host_without_tokens_listens_on_loopback_only(
    own_host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_host.folder)
    monkeypatch.setenv("TIMESTEP_DB_URL", own_host.database)
    own_host.environment["TIMESTEP_HOST"] = "0.0.0.0"
    assert "timestep tokens create" in own_host.command("serve")
    secret = done(run("tokens", "create", "ann", "--role", "viewer")).strip()
    own_host.start()
    own_host.url = own_host.url.replace("0.0.0.0", "127.0.0.1")
    assert own_host.get("/api/runs").status_code == 401
    headers = {"authorization": f"Bearer {secret}"}
    assert own_host.post("/api/workflows/x/cancel", **headers).status_code == 403
