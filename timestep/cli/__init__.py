"""The command `timestep`. Begin with `group`; `commands/` has a module an area.

`new_application/` is what `timestep init` copies.
"""

from timestep.cli.group import main

__all__ = ["main"]
