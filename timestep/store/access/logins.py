"""Keeps which browsers have shown a token, by the hashes of their cookies."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

_ADD = """
    INSERT INTO timestep.logins (hash, token_id, setting_name, proof, expires_at)
    VALUES (%(hash)s, %(token_id)s, %(setting_name)s, %(proof)s,
        clock_timestamp() + %(seconds)s::float8 * interval '1 second')"""

# What another transaction ends at this moment is ended.
_PRUNE = """
    DELETE FROM timestep.logins WHERE hash IN (
        SELECT hash FROM timestep.logins WHERE expires_at < clock_timestamp() OR hash IN (
            SELECT hash FROM timestep.logins
            WHERE token_id = %(token_id)s OR setting_name = %(setting_name)s
            ORDER BY created_at DESC OFFSET %(most)s)
        FOR UPDATE SKIP LOCKED)"""


def add(connection: sa.Connection, values: dict[str, Any], most: int) -> None:
    """Keep a login, and forget those that have expired, and the oldest of too many.

    Args:
        connection: Where the transaction goes on.
        values: `hash`, `token_id` or `setting_name` and `proof`, and `seconds` after which it
            expires.
        most: Logins of one token.
    """
    connection.exec_driver_sql(_ADD, values)
    connection.exec_driver_sql(_PRUNE, {**values, "most": most})


def end(connection: sa.Connection, hash_: bytes) -> bool:
    """Forget a login; whether it was there."""
    ended = "DELETE FROM timestep.logins WHERE hash = %(hash)s"
    return connection.exec_driver_sql(ended, {"hash": hash_}).rowcount == 1
