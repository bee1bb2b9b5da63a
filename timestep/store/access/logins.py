"""Keeps which browsers have shown a token, by the hashes of their cookies."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

_ADD = """
    INSERT INTO timestep.logins (hash, token_id, proof, expires_at)
    VALUES (%(hash)s, %(token_id)s, %(proof)s,
        clock_timestamp() + %(seconds)s::float8 * interval '1 second')"""


def add(connection: sa.Connection, values: dict[str, Any]) -> None:
    """Keep a login, and forget those that have expired.

    Args:
        connection: Where the transaction goes on.
        values: `hash`, `token_id` or `proof`, and `seconds` after which it expires.
    """
    connection.exec_driver_sql("DELETE FROM timestep.logins WHERE expires_at < clock_timestamp()")
    connection.exec_driver_sql(_ADD, values)


def end(connection: sa.Connection, hash_: bytes) -> bool:
    """Forget a login; whether it was there."""
    ended = "DELETE FROM timestep.logins WHERE hash = %(hash)s"
    return connection.exec_driver_sql(ended, {"hash": hash_}).rowcount == 1
