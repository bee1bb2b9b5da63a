"""Tells which versions of the Agents SDK and of DBOS Timestep was tested with.

It uses names that both keep to themselves (the tables at the top of `sdk` and of
`dbos_internals`), which any of their releases may change. `pyproject.toml` has the same bounds; a
version beyond them gets here by force, or beside another package that wants it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

TESTED = {"openai-agents": "0.24", "dbos": "3.4"}
"""The minor release of each library; every patch of it."""


def version(name: str) -> str:
    """The version of a library that is installed."""
    # Takes long to import, and commands that only read do not need it.
    from importlib import metadata

    return metadata.version(name)


def others() -> dict[str, str]:
    """Libraries that are there in another version than was tested, and a line about each."""
    found = {name: version(name) for name in TESTED}
    return {
        name: f"{name} {there} is not a version that Timestep was tested with ({TESTED[name]}): "
        f"should anything go wrong, {_remedy([name])}"
        for name, there in found.items()
        if there.split(".")[:2] != TESTED[name].split(".")
    }


def refusal(reason: str, *names: str) -> str:
    """A line that tells why Timestep cannot work with a version of a library.

    Args:
        reason: What is missing.
        names: The libraries that miss it.
    """
    found = " and ".join(f"{name} {version(name)}" for name in names)
    return f"Timestep cannot work with {found} ({reason}): {_remedy(names)}"


def _remedy(names: Iterable[str]) -> str:
    return "run `pip install " + " ".join(f"'{name}=={TESTED[name]}.*'" for name in names) + "`"


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Tell an import that fails in another version than was tested in one line with what to do.

    Raises:
        ImportError: A name is missing, and a library's version is another one.
        SystemExit: The same, where the process is the command `timestep`.
    """
    try:
        yield
    except (ImportError, AttributeError) as error:
        if not (names := others()):
            raise
        reason, _, _ = str(error).partition(" (")  # What follows is the path of a file.
        line = refusal(reason, *names)
        if _is_command():
            raise SystemExit(f"Error: {line}") from None
        raise ImportError(line) from error


def _is_command() -> bool:
    """Whether this process is `timestep`, or `python -m timestep`."""
    given = sys.orig_argv
    is_module = "-m" in given and given[given.index("-m") + 1 :][:1] == ["timestep"]
    return is_module or Path(sys.argv[0]).stem == "timestep"
