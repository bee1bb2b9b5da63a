"""Prints tokens, and who did what, as tables for people."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from timestep.cli import output
from timestep.serialization.json_output import dumps

if TYPE_CHECKING:
    from timestep.operations.access.records import ApiToken, AuditEntry


def tokens(found: Sequence[ApiToken]) -> None:
    """A table of tokens of the HTTP API, without what they are."""
    if not found:
        output.say("No tokens: those of TIMESTEP_API_TOKENS are not listed.")
        return
    columns = ("name", "role", "created", "last used", "ends")
    output.table(
        columns,
        [
            (one.name, one.role, _when(one.created_at), _when(one.last_used_at), _end(one))
            for one in found
        ],
    )


def _end(token: ApiToken) -> str:
    if token.revoked_at is not None:
        return f"revoked {_when(token.revoked_at)}"
    is_over = token.expires_at is not None and token.expires_at <= datetime.datetime.now(
        datetime.UTC
    )
    return f"expired {_when(token.expires_at)}" if is_over else _when(token.expires_at)


def audit(found: Sequence[AuditEntry]) -> None:
    """A table of who did what, the newest first."""
    if not found:
        output.say("No entries.")
        return
    columns = ("when", "who", "from", "act", "about", "details")
    output.table(columns, map(_entry, found))


def _entry(one: AuditEntry) -> tuple[str, ...]:
    who = one.who if one.role is None else f"{one.who} ({one.role})"
    place = one.via if one.address is None else f"{one.via} {one.address}"
    details = dumps(one.details) if one.details else ""
    if one.refused is not None:
        details = f"{details} refused: {one.refused}".strip()
    return _when(one.at), who, place, one.act, " ".join(one.subjects), details


def _when(moment: datetime.datetime | None) -> str:
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
