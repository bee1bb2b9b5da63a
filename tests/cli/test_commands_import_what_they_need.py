"""Help, completion and commands that only read answer without DBOS, the SDK or pydantic.

These take seconds to import. How long the commands take is measured by
`python -m tests.benchmarks.command_line`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import get_completion_class
from click.testing import CliRunner

import timestep
from tests.support.dbos_app import App, run_it
from tests.support.interrupting_agents import deleter
from timestep.cli import main

HEAVY = ("agents", "dbos", "fastapi", "httpx", "mcp", "openai", "pydantic", "pydantic_core")
SERVERS = ("filelock", "psutil")
"""What only those need who use a database that Timestep starts."""

# What is forked has everything imported.
COMMANDS = """
import contextlib, io, json, sys
from timestep.cli import main

heavy, *lines = json.loads(sys.argv[1])
for words in lines:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(out):
        try:
            status = main(words, prog_name="timestep")
        except SystemExit as error:
            status = error.code
    found = sorted(set(heavy) & sys.modules.keys())
    print(json.dumps([words, status, found, out.buffer.getvalue().decode()]))
"""


def answers(
    heavy: tuple[str, ...], *lines: tuple[str, ...], **environment: str
) -> list[tuple[str, list[str]]]:
    """What each command wrote, one after the other in a new process, and the heavy modules it had.

    All of them have to end well.
    """
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps([heavy, *lines])],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(words, status) for words, status, _, _ in found] == [([*line], 0) for line in lines]
    return [(out, heavy) for _, _, heavy, out in found]


def test_help_and_completion_import_no_driver(tmp_path: Path) -> None:
    lines = [("--help",), ("--version",), ("runs", "--help"), ("resume", "--help")]
    told = answers((*HEAVY, *SERVERS, "rich", "sqlalchemy", "psycopg"), *lines)
    assert [heavy for _, heavy in told] == [[]] * len(lines)
    assert all(f"  {name}" in told[0][0] for name in main.commands)
    assert "--from-checkpoint" in told[3][0]
    for typed, completed in (("timestep ru", "runs"), ("timestep resume --appr", "--approve")):
        told = answers(
            (*HEAVY, *SERVERS, "rich", "sqlalchemy", "psycopg"),
            (),
            _TIMESTEP_COMPLETE="bash_complete",
            COMP_WORDS=typed,
            COMP_CWORD=str(len(typed.split()) - 1),
        )
        assert told == [(f"plain,{completed}\n", [])]


def test_reading_and_deciding_import_neither_dbos_nor_the_sdk(app: App) -> None:
    async def body() -> Any:
        result = await timestep.run_agent(deleter(), "tidy up", on_interruption="return")
        return len(result.interruptions)

    assert app.run(body, "tidy") == "2"
    asked = {str(row["id"]) for row in app.rows("interruptions")}
    first, second = asked
    run_id = str(app.rows("runs")[0]["id"])
    app.execute("UPDATE dbos.workflow_status SET status = 'PENDING', completed_at = NULL")
    told = answers(
        (*HEAVY, *SERVERS),
        ("runs",),
        ("runs", "--json"),
        ("show", "tidy"),
        ("show", run_id, "--json", "--traceback"),
        ("approvals",),
        ("approvals", "--json"),
        ("sessions",),
        ("agents", "--json"),
        ("graph", run_it.__qualname__),
        ("usage", "--since", "7d"),
        ("usage", "--by", "entrypoint", "--json"),
        ("resume", "tidy", "--approve", first),
        ("resume", "tidy", "--reject", second, "--message", "no", "--json"),
        ("cancel", "tidy"),
        TIMESTEP_DB_URL=app.url,
    )
    assert [heavy for _, heavy in told] == [[]] * 14
    out = [text for text, _ in told]
    assert "tidy" in out[0]
    assert json.loads(out[1])["items"][0]["id"] == run_id
    assert "Waits for a decision: delete" in out[2]
    assert {one["id"] for one in json.loads(out[3])["run"]["interruptions"]} == asked
    assert first in out[4]
    assert {one["id"] for one in json.loads(out[5])["items"]} == asked
    assert "Deleter" in out[9]
    (used,) = json.loads(out[10])["items"]
    assert (used["name"], used["requests"]) == (run_it.__qualname__, 1)
    assert out[11] == "decided 1, 1 still to decide\n"
    assert json.loads(out[12])["resolved"] == [second]
    assert out[13] == "cancelled tidy\n"
    (row,) = app.rows("runs")
    assert (row["status"], row["cancel_reason"]) == ("cancelled", "cancelled")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_told_how_to_complete(shell: str) -> None:
    found = get_completion_class(shell)
    assert found is not None
    result = CliRunner().invoke(main, ["completion", shell])
    lines = found(main, {}, "timestep", "_TIMESTEP_COMPLETE").source()
    assert result.stdout == f"{lines}\n"


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    context = click.Context(main)
    for name, listed in main.commands.items():
        _, command, _ = main.resolve_command(context, [name])
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(100) == listed.get_short_help_str(100)


def test_every_option_says_what_it_is_for() -> None:
    context = click.Context(main)
    for name in main.commands:
        _, command, _ = main.resolve_command(context, [name])
        assert command is not None
        for one in [
            command,
            *(command.commands.values() if isinstance(command, click.Group) else ()),
        ]:
            for option in one.params:
                assert not isinstance(option, click.Option) or option.help, (name, option.name)
