"""Makes a host the only one with its executor id, for as long as it holds the claim."""

from __future__ import annotations

import time

import sqlalchemy as sa

from timestep.database.error_translation import translated
from timestep.database.urls import shown
from timestep.errors import ConfigurationError
from timestep.store.fleet import hosts

_POLL = 0.1
_HANDOVER = 15.0
"""Seconds that a host waits for the one before it to end."""


class ExecutorClaim:
    """A host's claim to its executor id: another host would recover what this one runs.

    Args:
        engine: The engine of the hosts' database.
        application: DBOS's name for the application.
        executor_id: The host's executor id.

    Raises:
        ConfigurationError: Another host holds the claim, and does not end.
        DatabaseError: The database is away.
    """

    def __init__(self, engine: sa.Engine, application: str, executor_id: str) -> None:
        self._application = application
        self._executor_id = executor_id
        with translated(engine.url):
            self._connection = engine.connect()
            # Not back to the pool: it is held, and closed, by the process.
            self._connection.detach()
            deadline = time.monotonic() + _HANDOVER
            while not hosts.claim(self._connection, application, executor_id):
                if time.monotonic() > deadline:
                    self._connection.close()
                    raise ConfigurationError(
                        f"another host of {application!r} runs on {shown(engine.url)} as the "
                        f"executor {executor_id!r}, and would take over what this one runs: stop "
                        "it, or set DBOS__VMID to a name of this one's own"
                    )
                time.sleep(_POLL)

    def tell_version(self, version: str) -> None:
        """Let other processes see which version of the application the host executes."""
        hosts.tell_version(self._connection, self._application, self._executor_id, version)

    def release(self) -> None:
        """Let another host have the executor id."""
        self._connection.close()
