"""The command `timestep`. Begin with `group`; `commands/` has a module an area."""

from timestep.cli.group import main

__all__ = ["main"]
