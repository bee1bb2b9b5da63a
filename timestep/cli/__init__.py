"""The command `timestep`. Begin with `group`; `commands/` has a module an area."""

from timestep.cli.commands import approvals, runs, server, watch
from timestep.cli.group import main

for _command in (
    server.serve,
    server.migrate_,
    server.stop,
    server.doctor_,
    runs.start,
    runs.runs,
    runs.show,
    watch.watch,
    runs.cancel,
    runs.fork,
    approvals.approvals_,
    approvals.resume,
):
    main.add_command(_command)

__all__ = ["main"]
