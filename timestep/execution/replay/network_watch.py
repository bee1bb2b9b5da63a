"""Refuses what a watched workflow's code sends over the network, whichever library sends it.

The database's driver has sockets of its own, which are not Python's.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from timestep.dbos_internals import workflow_scope
from timestep.errors import ReplayError
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess

_SENDING = ("connect", "connect_ex", "send", "sendall", "sendto", "sendmsg")
_NETWORK = (socket.AF_INET, socket.AF_INET6)
"""An event loop wakes itself through a socket of another family."""


class _Watch(PerProcess):
    """Keeps to which addresses watched workflows would have sent something."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.addresses: dict[str, list[str]] = {}
        self._replaced: dict[str, Any] = {}

    def begin(self) -> None:
        for name in filter(partial(hasattr, socket.socket), _SENDING):
            self._replaced[name] = vars(socket.socket).get(name)
            setattr(socket.socket, name, _refusing(name))

    def end(self) -> None:
        while self._replaced:
            name, own = self._replaced.popitem()
            if own is None:
                # Inherited.
                delattr(socket.socket, name)
            else:
                setattr(socket.socket, name, own)


@contextlib.contextmanager
def refused(workflow_id: str) -> Iterator[list[str]]:
    """Let code of a workflow that sends something fail; the addresses go into the list."""
    watch = process_state.of(_Watch)
    with watch.lock:
        if not watch.addresses:
            watch.begin()
        found = watch.addresses[workflow_id] = []
    try:
        yield found
    finally:
        with watch.lock:
            del watch.addresses[workflow_id]
            if not watch.addresses:
                watch.end()


def _refusing(name: str) -> Any:
    original = getattr(socket.socket, name)

    def send(self: socket.socket, *args: Any) -> Any:
        if self.family in _NETWORK and workflow_scope.in_workflow():
            workflow_id = workflow_scope.dbos_context().workflow_id
            addresses = process_state.of(_Watch).addresses.get(workflow_id)
            if addresses is not None:
                address = str(args[0] if name.startswith("connect") else self.getpeername())
                addresses.append(address)
                raise ReplayError(
                    f"a replay of workflow {workflow_id!r} was about to send something to "
                    f"{address}: what a workflow asks of others has to be in a step, which is "
                    "recorded (@DBOS.step(), a tool, a model)"
                )
        return original(self, *args)

    return send
