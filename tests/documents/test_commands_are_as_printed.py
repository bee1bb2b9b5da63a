"""Lines for a shell in the documents: programs take what they are given there."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from tests.support.documented_examples import ROOT, all_examples
from timestep import config
from timestep.cli import main
from timestep.web.app import create_app

_ASSIGNMENT = re.compile(r"([A-Z_a-z]+)=.*")
_ENDS = re.compile(r"[&|;]+")
_ANSWER = re.compile(r"\$\([^()]*\)")


@dataclass(frozen=True)
class Command:
    """What one program is given."""

    page: str
    program: str
    words: list[str]


def shell_examples() -> list[tuple[str, str]]:
    """Each block for a shell, after the page that it is on."""
    return [(one.page, one.text) for one in all_examples() if one.language == "sh"]


def commands() -> Iterator[Command]:
    """Each command of each block, without what is redirected and what follows `#`.

    A block that has commands within the quotes of another has a test of its own.
    """
    for page, block in shell_examples():
        if '"$(' in block:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(_ANSWER.sub("ANSWER", line), posix=True, punctuation_chars="&|;<>")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if not _ENDS.fullmatch(word):
                    words.append(word)
                    continue
                while words and _ASSIGNMENT.fullmatch(words[0]):
                    words = words[1:]
                if ">" in words:
                    words = words[: words.index(">")]
                if words:
                    program = re.sub(r"^\$\w+/bin/", "", words[0])
                    yield Command(page, program, words[1:])
                words = []


def _takes(command: click.Command, words: list[str]) -> None:
    """Read words as a command does; what is wrong in them is an error of that."""
    context = click.Context(command)
    while isinstance(command, click.Group) and not words[0].startswith("-"):
        _, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, parent=context)
    # `--help` ends it.
    with contextlib.suppress(click.exceptions.Exit):
        command.make_context(command.name, words, parent=context.parent)


def timestep_takes(words: list[str], _: pytest.Config) -> None:
    """Its command takes them, and an input is an object of JSON."""
    _takes(main, list(words))
    if "--input" in words:
        assert isinstance(json.loads(words[words.index("--input") + 1]), dict)


def dbos_takes(words: list[str], _: pytest.Config) -> None:
    """Its command takes them."""
    from dbos.cli.cli import app

    _takes(app, list(words))


def pytest_takes(words: list[str], known: pytest.Config) -> None:
    """The options are known, and the files and markers are there."""
    values = iter(words)
    for word in values:
        if (found := re.match(r"--[a-z-]+|-[a-z]", word)) is None:
            assert (ROOT / word).exists(), word
            continue
        known.getoption(found.group())
        if word == "-m":
            marker = next(values)
            assert any(line.startswith(f"{marker}:") for line in known.getini("markers"))
        elif word == "-k":
            next(values)


def python_takes(words: list[str], _: pytest.Config) -> None:
    """A module of this checkout is there, and has the options; code is Python."""
    flag, module, *rest = words
    assert flag in ("-m", "-c")
    if flag == "-c":
        compile(module, "documented", "exec")
    elif module.startswith("tests."):
        found = importlib.util.find_spec(module)
        assert found is not None, module
        assert found.origin is not None
        source = Path(found.origin).read_text()
        for option in rest:
            assert not option.startswith("-") or f'"{option}"' in source, option


def pip_takes(words: list[str], _: pytest.Config) -> None:
    """The extras are the project's, and the files are there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert words[0] == "install"
    for word in words[1:]:
        for extra in re.findall(r"^\.\[(\w+)\]$", word):
            assert extra in extras
        assert not word.endswith(".lock") or (ROOT / word).exists()


def curl_takes(words: list[str], _: pytest.Config) -> None:
    """The call is the API's, and has the parameters."""
    (address,) = (word for word in words if word.startswith("$HOST/"))
    path, query = address.removeprefix("$HOST").split("?")
    call = create_app(config.read(), {}).openapi()["paths"][path]["get"]
    names = {one["name"] for one in call["parameters"] if one["in"] == "query"}
    assert set(re.findall(r"(\w+)=", query)) <= names


TAKES: dict[str, Callable[[list[str], pytest.Config], None]] = {
    "timestep": timestep_takes,
    "dbos": dbos_takes,
    "pytest": pytest_takes,
    "python": python_takes,
    "python3": python_takes,
    "pip": pip_takes,
    "curl": curl_takes,
}

OTHERS = {
    **dict.fromkeys(
        ["export", "cd", ".", "mkdir", "touch", "sh", "sleep", "kill", "grep", "tar", "unzip"],
        "the system's",
    ),
    **dict.fromkeys(["ruff", "mypy", "lint-imports"], "`.ci/run` has the same lines"),
    ".ci/run": "it runs these tests",
    "pre-commit": "not among what the tests install",
    "psql": "not among what the tests install",
}
"""Programs whose lines nothing looks at, and why not."""


def test_blocks_are_for_a_shell() -> None:
    for page, block in shell_examples():
        done = subprocess.run(
            ["bash", "-n"], input=block, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), page


def test_programs_take_what_they_are_given(pytestconfig: pytest.Config) -> None:
    found = list(commands())
    assert {one.program for one in found} == TAKES.keys() | OTHERS.keys()
    for command in found:
        if command.program not in OTHERS:
            try:
                TAKES[command.program](command.words, pytestconfig)
            except Exception as error:
                error.add_note(f"{command.page}: {command.program} {shlex.join(command.words)}")
                raise


def test_variables_are_settings() -> None:
    settings = (ROOT / "docs" / "settings.md").read_text()
    for page, block in shell_examples():
        for name in re.findall(r"\b(TIMESTEP_[A-Z_]+)=", block):
            assert f"`{name}`" in settings, f"{page}: {name}"
