"""Keeps the tokens of the HTTP API by their hashes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

_COLUMNS = "id, name, role, created_at, expires_at, last_used_at, revoked_at"

_ADD = f"""
    INSERT INTO timestep.api_tokens (name, role, hash, expires_at)
    SELECT %(name)s, %(role)s, %(hash)s,
        clock_timestamp() + %(seconds)s::float8 * interval '1 second'
    ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING RETURNING {_COLUMNS}"""

_ALL = f"SELECT {_COLUMNS} FROM timestep.api_tokens ORDER BY created_at, id"

# By a name, the one that is not revoked is meant, or else the one that was revoked last.
_NAMED = f"""
    SELECT {_COLUMNS} FROM timestep.api_tokens WHERE name = %(name)s OR id::text = %(name)s
    ORDER BY id::text = %(name)s DESC, revoked_at DESC NULLS FIRST LIMIT 1 FOR UPDATE"""

_REVOKE = f"""
    UPDATE timestep.api_tokens SET revoked_at = clock_timestamp() WHERE id = %(id)s
    RETURNING {_COLUMNS}"""

_IS_USABLE = """{0}.revoked_at IS NULL
    AND ({0}.expires_at IS NULL OR {0}.expires_at > clock_timestamp())"""

_USABLE = f"""
    SELECT t.hash, t.id, t.name, t.role, NULL::bytea AS proof,
        extract(epoch FROM t.expires_at - clock_timestamp())::float8 AS seconds,
        coalesce(t.last_used_at < clock_timestamp() - interval '1 minute', true) AS was_idle
    FROM timestep.api_tokens t WHERE t.hash = ANY(%(hashes)s) AND {_IS_USABLE.format("t")}
    UNION ALL
    SELECT l.hash, t.id, t.name, t.role, l.proof,
        extract(epoch FROM least(l.expires_at, t.expires_at) - clock_timestamp())::float8,
        t.id IS NOT NULL
            AND coalesce(t.last_used_at < clock_timestamp() - interval '1 minute', true)
    FROM timestep.logins l
    LEFT JOIN timestep.api_tokens t ON t.id = l.token_id AND {_IS_USABLE.format("t")}
    WHERE l.hash = ANY(%(hashes)s) AND l.expires_at > clock_timestamp()
    AND (t.id IS NOT NULL OR l.proof IS NOT NULL)"""

# Another process may have written it meanwhile.
_USED = """
    UPDATE timestep.api_tokens SET last_used_at = clock_timestamp() WHERE id = ANY(%(ids)s)
    AND coalesce(last_used_at < clock_timestamp() - interval '1 minute', true)"""


def add(
    connection: sa.Connection, name: str, role: str, hash_: bytes, seconds: float | None
) -> dict[str, Any] | None:
    """Keep a new token; None: a token that is not revoked has its name.

    Args:
        connection: To the database.
        name: Whose it is.
        role: What it allows.
        hash_: Its SHA-256.
        seconds: After which it expires; None: it does not.
    """
    values = {"name": name, "role": role, "hash": hash_, "seconds": seconds}
    found = connection.exec_driver_sql(_ADD, values).mappings().one_or_none()
    return None if found is None else dict(found)


def every(connection: sa.Connection) -> list[dict[str, Any]]:
    """All tokens, the oldest first."""
    return [dict(row) for row in connection.exec_driver_sql(_ALL).mappings()]


def named(connection: sa.Connection, name: str) -> dict[str, Any] | None:
    """The token of a name or an id, which nobody else changes until the transaction ends."""
    found = connection.exec_driver_sql(_NAMED, {"name": name}).mappings().one_or_none()
    return None if found is None else dict(found)


def revoke(connection: sa.Connection, id_: Any) -> dict[str, Any]:
    """Let a token be none any more; its row, as it is then."""
    return dict(connection.exec_driver_sql(_REVOKE, {"id": id_}).mappings().one())


def are_there(connection: sa.Connection) -> bool:
    """Whether there are tokens, usable or not; in a database of an earlier version there are none.

    One that is revoked or has expired counts: the last token's end lets nobody in.
    """
    table = connection.exec_driver_sql("SELECT to_regclass('timestep.api_tokens')").scalar()
    if table is None:
        return False
    asked = "SELECT EXISTS (SELECT FROM timestep.api_tokens)"
    return bool(connection.exec_driver_sql(asked).scalar_one())


def usable(connection: sa.Connection, hashes: Collection[bytes]) -> list[dict[str, Any]]:
    """The tokens, and the logins, with these hashes that may be used now.

    Each has its `hash`; the token's `id`, `name` and `role`, or, of a login with one of
    `TIMESTEP_API_TOKENS`, the `proof`; the `seconds` until it expires, or None; and whether
    `was_idle`: its use has to be noted.
    """
    found = connection.exec_driver_sql(_USABLE, {"hashes": list(hashes)})
    return [{**row, "hash": bytes(row["hash"])} for row in found.mappings()]


def note_use(connection: sa.Connection, ids: Collection[Any]) -> None:
    """Write that tokens were used now, unless that was written within the last minute."""
    connection.exec_driver_sql(_USED, {"ids": list(ids)})
