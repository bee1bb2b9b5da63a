"""Defines what the audit and the list of tokens are made of."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, Literal, get_args

from timestep.config import Role
from timestep.operations.access.acting import Via
from timestep.operations.described import Described

Act = Literal[
    "start",
    "decide",
    "cancel",
    "fork",
    "from_checkpoint",
    "again",
    "create_token",
    "revoke_token",
    "log_in",
    "log_out",
    "wrong_token",
]
ACTS: tuple[Act, ...] = get_args(Act)


@dataclass(frozen=True)
class AuditEntry(Described):
    """What somebody did."""

    id: int
    at: datetime.datetime
    who: str
    """A token's name, or that of the operating system's user; `nobody` where no token is asked;
    what `by` says of a decision that Python code sends; `timeout`, and `code` that decided on a
    run's state."""
    role: str | None
    """The token's."""
    token_id: str | None
    """The token's, if it is in the database."""
    via: Via
    address: str | None
    """Where the request came from."""
    machine: str | None
    """The name of the machine on which it was done."""
    act: Act
    subjects: list[str]
    """The ids of what it is about: of the workflow, of its questions, of the token."""
    details: dict[str, Any]
    refused: str | None
    """The error that it ended with, where it is certain that nothing came of it."""


@dataclass(frozen=True)
class ApiToken(Described):
    """A token of the HTTP API, without its secret, which is kept nowhere."""

    id: str
    name: str
    """Whose it is: who decides with it, and acts."""
    role: Role
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    """None: it does not expire."""
    last_used_at: datetime.datetime | None
    """To the minute."""
    revoked_at: datetime.datetime | None
