"""Says who acts: whoever sent a request, whoever calls a command, or code.

The HTTP API and the command line say so before they call an operation; an operation takes it, so
that what it begins, such as a workflow, does not act in that name.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from timestep.config import Role

Via = Literal["http", "cli", "python"]

NOBODY = "nobody"
"""Who acts over HTTP where no token is asked."""


@dataclass(frozen=True)
class Actor:
    """Who acts, and from where."""

    name: str
    """Of a token, of the operating system's user, or what code says."""
    via: Via
    role: Role | None = None
    """The token's."""
    token_id: str | None = None
    """The token's, if it is in the database."""
    address: str | None = None
    """Where the request came from."""
    is_page: bool = False
    """Whether a page of the host sent it, and not a program."""

    def entry(self) -> dict[str, str | bool | None]:
        """What an entry of the audit says of who acts."""
        return {
            "who": self.name,
            "role": self.role,
            "token_id": self.token_id,
            "via": self.via,
            "address": self.address,
            "page": self.is_page,
        }


def way(via: Via, *, is_page: bool, is_nobody: bool) -> str:
    """How somebody acted, in words; who it was says something else, unless nobody is known."""
    if via != "http":
        return {"cli": "at the command line", "python": "from Python"}[via]
    where, known_by = ("on the page", "a login") if is_page else ("over HTTP", "a token")
    return f"{where}, without {known_by}" if is_nobody else where


_acting: ContextVar[Actor | None] = ContextVar("timestep_acting", default=None)


@contextlib.contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Let what is called meanwhile be this one's act."""
    before = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(before)


def take(by: str | None = None) -> Actor:
    """Who acts; what the caller begins from now on is code's.

    Args:
        by: Who Python code says that it acts for.
    """
    found = _acting.get()
    if found is None:
        return Actor(by if by is not None else user(), "python")
    _acting.set(None)
    return found


def user() -> str:
    """The operating system's user, whatever variables of the environment say; else its number."""
    try:
        import pwd
    except ImportError:  # Not on Windows, where there are only the variables.
        import getpass

        return getpass.getuser()
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # One without a name, as in some containers.
        return str(os.getuid())
