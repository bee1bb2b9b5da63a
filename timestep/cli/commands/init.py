"""Makes a new application: init."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from timestep.cli import output
from timestep.cli.group import as_json, fail
from timestep.runtime.terminal import quoted

_APPLICATION = Path(__file__).parents[1] / "new_application"
_NAMED = ("dbos-config.yaml", "pyproject.toml")
"""Files in which NAME stands for the application's name, and TIMESTEP for what it needs."""
_INPUT = '{"question": "What is a turn?"}'
_RENAMED = {"gitignore": ".gitignore"}
"""A file of that name would be obeyed where the others are kept."""


def _name(ctx: click.Context, param: click.Parameter, name: str) -> str:
    """What DBOS takes for the name of an application, and pip for that of a project."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9_-]{1,62})[a-z0-9]", name):
        raise click.BadParameter(
            f"{quoted(name)} is no name of an application: 3 to 64 small letters, digits, dashes "
            "and underscores, with a letter or a digit at both ends"
        )
    return name


@click.command()
@click.argument("name", callback=_name)
@as_json
def init(name: str, as_json: bool) -> None:
    """Make a new application in a folder of its name."""
    folder = Path.cwd() / name
    try:
        folder.mkdir()
    except FileExistsError:
        fail(f"{folder} is there already: choose another name, or remove it")
    except OSError as error:
        fail(f"{folder} cannot be made: {error.strerror}")
    try:
        made = [*_written(name, folder, _installed())]
    except OSError as error:
        # It was made here, and half of an application is of no use.
        shutil.rmtree(folder)
        fail(f"{folder} cannot be written: {error.strerror}")
    if as_json:
        output.document({"folder": str(folder), "files": made})
        return
    output.say(f"made {name}: {', '.join(made)}")
    output.say(f"Serve it:     cd {name} && dbos start")
    output.say(f"Start a run:  timestep start answer --input '{_INPUT}' --wait")
    output.say("Test it:      pip install pytest && pytest")


def _written(name: str, folder: Path, timestep: str) -> Iterator[str]:
    """Write the files of an application, and give their paths in its folder."""
    for source in sorted(_APPLICATION.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        path = source.relative_to(_APPLICATION)
        path = path.with_name(_RENAMED.get(source.name, source.name))
        text = source.read_text(encoding="utf-8")
        (folder / path).parent.mkdir(exist_ok=True)
        if source.name in _NAMED:
            text = text.replace("NAME", name).replace('"TIMESTEP"', json.dumps(timestep))
        (folder / path).write_text(text, encoding="utf-8")
        yield str(path)


def _installed() -> str:
    """The requirement by which pip installs this Timestep, from where it came from."""
    from importlib import metadata  # Takes long to import.

    try:
        here = metadata.distribution("timestep")
    except metadata.PackageNotFoundError:  # It is run from its sources, as with PYTHONPATH.
        return f"timestep @ {Path(__file__).parents[3].as_uri()}"
    return requirement(here.version, here.read_text("direct_url.json"))


def requirement(version: str, origin: str | None) -> str:
    """The requirement by which pip installs Timestep again.

    Args:
        version: The version that is installed.
        origin: The text of its `direct_url.json`, which is there (PEP 610) where it was installed
            from a folder, a repository or a file; None: it is from a package index.
    """
    if origin is None:
        return f"timestep ~= {version}"
    told = json.loads(origin)
    url = told["url"]
    if vcs := told.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    if subdirectory := told.get("subdirectory"):
        url += f"#subdirectory={subdirectory}"
    return f"timestep @ {url}"
