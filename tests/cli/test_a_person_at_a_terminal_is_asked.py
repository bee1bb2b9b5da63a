"""On a terminal `approvals` and `resume` ask what to decide; elsewhere they never do."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import timestep
from tests.support.dbos_app import App
from tests.support.interrupting_agents import deleter
from timestep.cli import asking, main

Ask = Callable[..., Result]


@pytest.fixture
def waiting(app: App, monkeypatch: pytest.MonkeyPatch) -> App:
    """A workflow, `tidy`, whose run waits for two decisions; nobody goes on with it."""
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)

    async def body() -> Any:
        result = await timestep.run_agent(deleter(), "tidy up", on_interruption="return")
        return len(result.interruptions)

    app.run(body, "tidy")
    app.execute("UPDATE dbos.workflow_status SET status = 'PENDING', completed_at = NULL")
    return app


def ask(*arguments: str, answers: str) -> Result:
    return CliRunner().invoke(main, arguments, input=answers)


def decisions(app: App) -> list[tuple[Any, Any]]:
    found = [
        (row["resolution_action"], row["resolution_message"]) for row in app.rows("interruptions")
    ]
    return sorted(found, key=lambda one: one[0] or "")


def test_each_question_is_asked_and_each_answer_counts(
    waiting: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "is_somebody_there", lambda: True)
    result = ask("approvals", answers="s\nq\n")
    assert result.exit_code == 0, result.output
    assert "1 of 2" in result.stdout
    assert "Deleter wants to call delete" in result.stdout
    assert '"name": "b"' in result.stdout
    assert "Decide:" not in result.stdout
    assert decisions(waiting) == [(None, None)] * 2

    # What is no answer is asked again, and Ctrl-D ends it.
    result = ask("approvals", answers="what\nREJECT\nnot \x1b[31m that\n")
    assert result.exit_code == 1
    assert "'what' is none of these" in result.stderr
    assert "rejected, 1 still to decide" in result.stdout
    assert decisions(waiting) == [(None, None), ("reject", "not \x1b[31m that")]

    result = ask("resume", "tidy", answers="a\n")
    assert result.exit_code == 0, result.output
    assert "1 of" not in result.stdout
    assert "approved" in result.stdout
    assert [action for action, _ in decisions(waiting)] == ["approve", "reject"]
    assert {row["resolved_by"] for row in waiting.rows("interruptions")} != {None}

    assert ask("resume", "tidy", answers="").stdout == "Nothing waits for a decision.\n"


def test_what_another_decided_meanwhile_is_told_and_the_next_is_asked(
    waiting: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "is_somebody_there", lambda: True)
    answered = asking._answered

    def slowly(**options: bool) -> str:
        timestep.resume_workflow_sync("tidy", reject="all")
        return answered(**options)

    monkeypatch.setattr(asking, "_answered", slowly)
    result = ask("approvals", answers="a\ns\n")
    assert result.exit_code == 0, result.output
    assert "was decided already: reject" in result.stderr
    assert "2 of 2" in result.stdout


def test_a_call_is_edited_in_the_persons_editor(
    waiting: App, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(asking, "is_somebody_there", lambda: True)
    drafts = tmp_path / "drafts"
    saved = tmp_path / "saved"
    editor = tmp_path / "editor.sh"
    # Keeps what it was given, and saves the next line of what a person writes, if there is one.
    editor.write_text(
        f"""#!/bin/sh
        cat "$1" >> {drafts}; echo >> {drafts}
        line=$(head -n 1 {saved}); sed -i 1d {saved}
        [ -z "$line" ] || echo "$line" > "$1"
        """
    )
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    saved.write_text('\nno JSON\n{"name": 3}\n{"name": "b"}\n{"name": "\u202eß"}\n')
    result = ask("resume", "tidy", answers="e\ne\ne\ne\ne\ns\n")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("[a]pprove, [e]dit, [r]eject, s[u]pply, [s]kip or [q]uit?") == 6
    told = result.stderr
    assert told.count("these are the model's arguments: nothing is edited") == 2
    assert told.count("what was written is not JSON: ") == 1
    assert "delete: name: 3 is not of type 'string'" in told
    assert "approved as edited, 1 still to decide" in result.stdout
    # Each attempt goes on with what the one before wrote.
    assert drafts.read_text() == (
        2 * '{\n  "name": "b"\n}\n\n' + 'no JSON\n\n{"name": 3}\n\n{"name": "b"}\n\n'
    )
    edited, left = sorted(waiting.rows("interruptions"), key=lambda row: row["call_id"])
    assert (edited["resolution_action"], left["resolution_action"]) == ("edit", None)
    assert edited["resolution_arguments"] == {"name": "\u202eß"}

    # What would not be seen is written as JSON escapes it, and comes back the same.
    assert asking._draft({"\u202eß\x1b": "\U000e0001\n"}) == (
        '{\n  "\\u202eß\\u001b": "\\udb40\\udc01\\n"\n}'
    )

    monkeypatch.setenv("VISUAL", str(tmp_path / "none"))
    result = ask("approvals", answers="e\nq\n")
    assert result.exit_code == 0
    assert "name an editor in EDITOR, or use `resume --edit`" in result.stderr


def test_only_what_can_be_edited_is_edited(waiting: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "is_somebody_there", lambda: True)
    waiting.execute("UPDATE tool_calls SET tool_type = 'shell'")
    result = ask("resume", "tidy", answers="e\ne\nq\n")
    assert result.exit_code == 0, result.output
    assert decisions(waiting) == [(None, None)] * 2


def test_a_script_is_never_asked(waiting: App, monkeypatch: pytest.MonkeyPatch) -> None:
    result = ask("approvals", answers="a\na\n")
    assert result.exit_code == 0
    assert "Decide:  timestep resume tidy --approve" in result.stdout
    result = ask("resume", "tidy", answers="a\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nothing is decided: give --approve" in result.stderr
    monkeypatch.setattr(asking, "is_somebody_there", lambda: True)
    assert ask("approvals", "--json", answers="a\n").stdout.startswith('{"items": [')
    assert ask("resume", "tidy", "--json", answers="a\n").exit_code == 2
    assert decisions(waiting) == [(None, None)] * 2


def test_a_terminal_is_one_where_both_ends_are() -> None:
    """Through a pseudo-terminal, as a shell gives it to a command."""
    code = "from timestep.cli import asking; print(asking.is_somebody_there())"
    ours, theirs = pty.openpty()
    try:
        for stdin, stdout, expected in (
            (theirs, theirs, "True"),
            (subprocess.DEVNULL, theirs, "False"),
        ):
            command = [sys.executable, "-c", code]
            subprocess.run(command, stdin=stdin, stdout=stdout, check=True, env={**os.environ})
            assert os.read(ours, 100).decode().strip() == expected
        done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"
    finally:
        os.close(ours)
        os.close(theirs)
