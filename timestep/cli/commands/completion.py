"""Prints what lets a shell complete commands: completion."""

from __future__ import annotations

import click

from timestep.cli import output
from timestep.cli.group import main

_NAME = "timestep"


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the lines that let a shell complete commands.

    For bash and zsh put `eval "$(timestep completion bash)"`, or zsh, into ~/.bashrc or ~/.zshrc;
    for fish `timestep completion fish | source` into ~/.config/fish/config.fish.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    output.say_lines(found(main, {}, _NAME, f"_{_NAME.upper()}_COMPLETE").source())
