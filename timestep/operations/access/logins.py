"""Logs browsers in and out, and counts wrong tokens."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Any

from timestep.config import Token
from timestep.database.error_translation import translated
from timestep.journal.fail_fast_read import check_database
from timestep.journal.reads.database import database
from timestep.operations.access import acting, audit
from timestep.operations.access.acting import Actor
from timestep.operations.access.tokens import hash_of
from timestep.store.access import audit as audit_store
from timestep.store.access import logins as store
from timestep.store.access import wrong_tokens

LASTS = 12 * 3600
"""Seconds of a login."""

WRONG = 10
"""Wrong tokens that an address may send in a span."""
SPAN = 300.0
"""Seconds."""

_MOST = 20
"""Logins of one token; the oldest end."""

_PREFIX = "tss_"
_BYTES = 32
_FORM = re.compile(rf"{_PREFIX}[A-Za-z0-9_-]{{43}}", re.ASCII)
_ADDRESSES = 10_000
"""From so many wrong tokens are counted; more than that is nobody's typing."""
_ENTRIES, _HOUR = 1000, 3600.0
"""Entries of the audit about wrong tokens that an hour has at most."""


def log_in(shown: str | Token, replaced: str | None) -> str:
    """Keep that a browser has shown a token; the cookie that it shows from now on.

    Args:
        shown: The id of a token in the database, or one of `TIMESTEP_API_TOKENS`.
        replaced: The cookie that it showed before, which is none any more.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    cookie = _PREFIX + secrets.token_urlsafe(_BYTES)
    values = {
        "hash": hash_of(cookie),
        "token_id": shown if isinstance(shown, str) else None,
        "setting_name": None if isinstance(shown, str) else shown.name,
        "proof": None if isinstance(shown, str) else proof_of(cookie, shown),
        "seconds": LASTS,
    }
    actor = acting.take()

    def work(connection: Any) -> None:
        if replaced is not None:
            store.end(connection, hash_of(replaced))
        store.add(connection, values, _MOST)
        audit.add(connection, actor, "log_in", [shown] if isinstance(shown, str) else [])

    _change(work)
    return cookie


def log_out(cookie: str) -> None:
    """Let a cookie be none any more.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    actor = acting.take()

    def work(connection: Any) -> None:
        if store.end(connection, hash_of(cookie)):
            subjects = [] if actor.token_id is None else [actor.token_id]
            audit.add(connection, actor, "log_out", subjects)

    _change(work)


def proof_of(cookie: str, token: Token) -> bytes:
    """That who made the cookie had seen a token, for who has both, and nobody else."""
    secret = as_bytes(token.secret.get_secret_value())
    return hmac.digest(cookie.encode(), secret, hashlib.sha256)


def has_form(cookie: str) -> bool:
    """Whether a text may be a cookie that `log_in` made."""
    return _FORM.fullmatch(cookie) is not None


def as_bytes(secret: str) -> bytes:
    """The bytes that a variable of the environment, or a header, had."""
    return secret.encode("utf-8", "surrogateescape")


def note_wrong(place: str, address: str | None, how: str) -> tuple[int, float]:
    """Count a wrong token: the first, and the one that is the last for a while, are entered.

    Args:
        place: What is counted together.
        address: Where it came from.
        how: In what it was sent: `bearer` or `form`.

    Returns:
        How many came from there in this span, and the seconds until it is over.

    Raises:
        DatabaseError: The database refused, or is away.
    """

    def work(connection: Any) -> tuple[int, float]:
        attempts, seconds = wrong_tokens.count(connection, place, span=SPAN, rows=_ADDRESSES)
        if attempts in (1, WRONG):
            _enter(connection, address, {"how": how, "attempts": attempts})
        return attempts, seconds

    return audit.written(work)


def _enter(connection: Any, address: str | None, details: dict[str, Any]) -> None:
    recent = audit_store.recent(connection, "wrong_token", span=_HOUR, most=_ENTRIES)
    if recent < _ENTRIES:
        if recent == _ENTRIES - 1:
            details = {**details, "further": "not entered before an hour is over"}
        actor = Actor(acting.NOBODY, "http", address=address)
        audit.add(connection, actor, "wrong_token", [], details)


def _change(work: Callable[[Any], None]) -> None:
    # Nothing of it may be done twice: a pooled connection that was lost is to show before.
    check_database()
    found = database()
    with translated(found.url), found.transactions.begin() as connection:
        work(connection)
