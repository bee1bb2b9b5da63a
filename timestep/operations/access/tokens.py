"""Makes, lists and revokes tokens of the HTTP API, and tells which may be used."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from timestep import config
from timestep.config import ROLES, Role
from timestep.database.error_translation import translated
from timestep.errors import (
    DatabaseError,
    InvalidInputError,
    NoDatabaseError,
    TokenNameTakenError,
    UnknownTokenError,
)
from timestep.journal.fail_fast_read import reading
from timestep.journal.reads.database import database
from timestep.operations.access import acting, audit
from timestep.operations.access.records import ApiToken
from timestep.operations.arguments import LONGEST, SHORTEST, check_id
from timestep.runtime.cancellation import in_thread
from timestep.runtime.terminal import quoted
from timestep.store.access import tokens as store
from timestep.store.access import wrong_tokens

PREFIX = "ts_"
"""How a token begins, so that it is recognised where it should not be."""

_NOBODYS = (acting.NOBODY, "timeout", "code")
"""Who the audit, and decisions, say it was where it was no token's bearer."""
_BYTES = 32
_FORM = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)


async def create_token(
    name: str, *, role: Role, expires: datetime.timedelta | None = None
) -> tuple[ApiToken, str]:
    """Make a token of the HTTP API.

    Args:
        name: Whose it is, up to 1,000 bytes.
        role: `viewer`, `operator` or `admin`.
        expires: After which time it is none any more, up to 1e9 seconds; None: never.

    Returns:
        The token, and its secret, which nobody is told again.

    Raises:
        InvalidInputError: An argument cannot be used.
        TokenNameTakenError: The name is another token's.
        DatabaseError: The database refused, or is away.
    """
    check_id("name", name)
    if name in _NOBODYS:
        raise InvalidInputError(
            f"name {name!r} stands in the audit for what was done without a token: choose another"
        )
    if role not in ROLES:
        raise InvalidInputError(f"role {quoted(role)} is not one of {', '.join(ROLES)}")
    seconds = None if expires is None else expires.total_seconds()
    if seconds is not None and not SHORTEST <= seconds <= LONGEST:
        raise InvalidInputError(
            f"a token expires after {SHORTEST} to {LONGEST:.0f} seconds, not {seconds:g}"
        )
    if any(name == token.name for token in config.read().api_tokens):
        raise TokenNameTakenError(f"the name {name!r} is that of one of TIMESTEP_API_TOKENS")
    secret = PREFIX + secrets.token_urlsafe(_BYTES)
    actor = acting.take()

    def work() -> ApiToken:
        found = database()
        with translated(found.url), found.transactions.begin() as connection:
            row = store.add(connection, name, role, hash_of(secret), seconds)
            if row is None:
                raise TokenNameTakenError(
                    f"there is a token {name!r} already: revoke it first (timestep tokens revoke), "
                    "or choose another name"
                )
            token = _token(row)
            details = {"name": name, "role": role, "expires_at": _text(token.expires_at)}
            audit.add(connection, actor, "create_token", [token.id], details)
            return token

    return await in_thread(work), secret


async def list_tokens() -> list[ApiToken]:
    """The tokens that were made with `create_token`, the oldest first.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    return await in_thread(lambda: [_token(row) for row in reading(store.every)])


async def revoke_token(name_or_id: str) -> ApiToken:
    """Let a token be none any more, and end its logins, within about a second.

    What streams tells nothing more from then on; one that has nothing to tell ends at its next
    heartbeat, within 15 seconds.

    One that is revoked already stays as it is.

    Args:
        name_or_id: Of the tokens with a name, the one that is not revoked.

    Raises:
        UnknownTokenError: There is no such token.
        DatabaseError: The database refused, or is away.
    """
    check_id("name", name_or_id)
    actor = acting.take()

    def work() -> ApiToken:
        found = database()
        with translated(found.url), found.transactions.begin() as connection:
            row = store.named(connection, name_or_id)
            if row is None:
                raise UnknownTokenError(
                    f"there is no token {quoted(name_or_id)} in the database: see `timestep tokens "
                    "list`; those of TIMESTEP_API_TOKENS are taken out there"
                )
            if row["revoked_at"] is None:
                row = store.revoke(connection, row["id"])
                details = {"name": row["name"], "role": row["role"]}
                audit.add(connection, actor, "revoke_token", [str(row["id"])], details)
            return _token(row)

    return await in_thread(work)


def has_form(secret: str) -> bool:
    """Whether a text may be the secret of a token that `create_token` made."""
    return _FORM.fullmatch(secret) is not None


def hash_of(secret: str) -> bytes:
    """What is kept of a secret of 256 random bits: nobody finds such a one by its hash."""
    return hashlib.sha256(secret.encode()).digest()


def are_there() -> bool:
    """Whether the database has tokens; one that is not made, or not migrated, has none.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    try:
        return reading(store.are_there)
    except NoDatabaseError:
        return False


@dataclass(frozen=True)
class Known:
    """What the database says of some secrets and addresses."""

    usable: dict[bytes, dict[str, Any]]
    """By their hashes, the tokens and logins that may be used."""
    over_limit: dict[str, float]
    """The addresses from which no more wrong tokens are taken, with the seconds until they are."""
    are_there: bool
    """Whether there are tokens at all."""


def known(hashes: Collection[bytes], addresses: Collection[str], limit: int) -> Known:
    """What the database says of some secrets, whose use is noted, and of some addresses.

    Args:
        hashes: Of the secrets.
        addresses: From which requests come.
        limit: How many wrong tokens are too many.

    Raises:
        DatabaseError: The database refused, or is away.
    """

    def read(connection: Any) -> Known:
        rows = store.usable(connection, hashes) if hashes else []
        over = wrong_tokens.over_limit(connection, addresses, limit) if addresses else {}
        are_there = store.are_there(connection)
        return Known({row["hash"]: row for row in rows}, over, are_there)

    found = reading(read)
    idle = [row["id"] for row in found.usable.values() if row["was_idle"]]
    if idle:
        # Where it takes no writes for now, who may read may still read.
        with contextlib.suppress(DatabaseError):
            reading(lambda connection: store.note_use(connection, idle))
    return found


def _token(row: dict[str, Any]) -> ApiToken:
    return ApiToken(**{**row, "id": str(row["id"])})


def _text(moment: datetime.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
