"""`python -m timestep` is the command `timestep`."""

from timestep.cli import main

main()
