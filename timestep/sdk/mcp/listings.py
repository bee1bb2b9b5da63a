"""Keeps what MCP servers list while a state is read outside of any run.

A state that waits for the calls of a server's tools is read with the server's list. Who reads
it once more, in a recovery, needs that list and no server.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from timestep.sdk.mcp import shared_connections


class Listing:
    """The lists of one reading, in the order in which it asks for them.

    Args:
        told: What an earlier reading was told; None: this is the first.
    """

    def __init__(self, told: list[Any] | None) -> None:
        self.user = uuid.uuid4()
        """Whom connections to servers are kept for."""
        self.told: list[Any] = [] if told is None else told
        self._is_again = told is not None
        self._count = 0

    def next(self) -> Any:
        """The list that an earlier reading was told here; None: a server is to be asked."""
        if not self._is_again:
            return None
        self._count += 1
        return self.told[self._count - 1]


_current: ContextVar[Listing | None] = ContextVar("timestep_listing", default=None)


def current_listing() -> Listing | None:
    """The reading that the caller is part of."""
    return _current.get()


@contextlib.contextmanager
def listed(told: list[Any] | None) -> Iterator[Listing]:
    """Note what servers list in here, or tell what they did."""
    listing = Listing(told)
    token = _current.set(listing)
    try:
        yield listing
    finally:
        _current.reset(token)
        shared_connections.leave(listing.user)
