"""What is printed or logged makes a terminal do nothing; a command to copy means what it says."""

from __future__ import annotations

import ast
import json
import logging
import re
import subprocess
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import timestep
from tests.support.hostile_text import ATTACK, HIDDEN, TEXTS, obeyed
from timestep.runtime import logs, terminal
from timestep.runtime.terminal import printable, printable_lines, shell_word
from timestep.serialization.json_output import dumps


@given(TEXTS)
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    assert obeyed(printable(text)) == []
    assert "\n" not in printable(text)
    assert obeyed(printable_lines(text)) == []
    assert obeyed(shell_word(text)) == []
    document = dumps({text: text})
    assert obeyed(document) == []
    assert json.loads(document) == {text: text}


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters=HIDDEN)))
def test_what_is_harmless_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == printable_lines(text) == text


def test_what_is_not_is_shown_escaped() -> None:
    assert printable("a\x1b[1m\x9b\u202e\U000e0041\ud800\n") == (
        r"a\x1b[1m\x9b\u202e\U000e0041\ud800\n"
    )
    assert printable("bob\u3164 bob\ufe0f \u26a0\ufe0f") == "bob\\u3164 bob\\ufe0f \u26a0\ufe0f"
    assert printable("Zoë 日本 \xa0 ok") == "Zoë 日本 \xa0 ok"
    assert printable_lines("a\r\n\tb\rc") == "a\n    b\\rc"


WORDS = [ATTACK, "it's \\ \x1b", "-x", "--help", "a b", "$(touch x)", "x\ny", "é\u202e1", "!!", "'"]


def test_a_shell_gives_a_printed_word_to_the_command_as_it_was() -> None:
    line = " ".join(map(shell_word, WORDS))
    done = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True, timeout=60
    )
    assert done.stdout.decode().split("\0")[:-1] == WORDS


def test_a_printed_command_is_about_its_workflow() -> None:
    seen: list[tuple[str, tuple[str, ...]]] = []

    @click.command()
    @click.argument("workflow_id")
    @click.option("--approve", multiple=True)
    def resume(workflow_id: str, approve: tuple[str, ...]) -> None:
        seen.append((workflow_id, approve))

    for word in WORDS:
        line = terminal.command("resume", word, "--approve", "1")
        asked = f"timestep() {{ printf '%s\\0' \"$@\"; }}; {line}"
        done = subprocess.run(["bash", "-c", asked], capture_output=True, check=True, timeout=60)
        _, *words = done.stdout.decode().split("\0")[:-1]
        resume.main(words, standalone_mode=False)
    assert seen == [(word, ("1",)) for word in WORDS]
    assert terminal.command("resume", "tides", "--approve", "all") == (
        "timestep resume tides --approve all"
    )


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "timestep")
    return caplog


def test_what_is_logged_is_one_line_and_harmless(written: pytest.LogCaptureFixture) -> None:
    log = logs.logger()
    log.warning("workflow %s waits for %d: %s", f"x\n{ATTACK}", 3, ValueError(ATTACK))
    (line,) = written.messages
    assert obeyed(line) == []
    assert "\n" not in line
    assert line.startswith(r"workflow x\n\x1b]52;")
    written.clear()

    log.warning("plain %s", "é")
    (record,) = written.records
    assert (record.msg, record.args) == ("plain %s", ("é",))
    written.clear()

    try:
        raise ValueError(f"first\nERROR forged {ATTACK}")
    except ValueError:
        log.exception("it failed")
    assert obeyed(written.text) == []
    first, *rest = written.text.splitlines()
    assert "it failed" in first
    assert "ERROR forged" in written.text
    assert all(line.startswith("  ") for line in rest)


def test_what_libraries_log_in_a_process_of_ours_is_harmless(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logs.make_others_fit()
    # Below a logger that has filters: those see none of its records.
    other = logging.getLogger("openai.agents.deeper")
    other.error(f"a tool said {ATTACK}")
    assert obeyed(caplog.messages[0]) == []
    # Logging itself tells of a library's mistake.
    assert other.filter(other.makeRecord("x", logging.ERROR, "", 1, "%d %d", (1,), None))


def test_a_host_writes_a_line_with_time_and_level_for_each_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    monkeypatch.setattr(logs.logger(), "level", logging.NOTSET)
    logs.begin("info")
    try:
        logs.logger().debug("is not told")
        logs.logger().info("workflow %s\n%s", "w", ATTACK)
        logging.getLogger("openai.agents").info("is not told")
        logging.getLogger("openai.agents").warning("told")
    finally:
        logs.end()
    assert logging.root.handlers == []
    first, second = capsys.readouterr().err.splitlines()
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.match(rf"{time} INFO timestep: workflow w\\n\\x1b", first)
    assert re.fullmatch(rf"{time} WARNING openai.agents: told", second)


def test_an_application_that_writes_its_log_goes_on_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = logging.NullHandler()
    monkeypatch.setattr(logging.root, "handlers", [own])
    logs.begin("debug")
    assert logging.root.handlers == [own]
    assert logs.logger().isEnabledFor(logging.DEBUG)
    logs.end()
    assert logging.root.handlers == [own]
    assert not logs.logger().isEnabledFor(logging.DEBUG)


def test_every_module_logs_through_the_logger_that_is_fit() -> None:
    package = Path(timestep.__file__).parent
    for path in package.rglob("*.py"):
        if path == package / "runtime" / "logs.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger"):
                assert ast.unparse(node.args[0]) not in ("'timestep'", "__name__"), path


def test_commands_print_through_one_module() -> None:
    package = Path(timestep.__file__).parent
    for path in (package / "cli").rglob("*.py"):
        if path != package / "cli" / "output.py":
            text = path.read_text()
            assert "click.echo" not in text and "Console(" not in text, path  # noqa: PT018
