"""Counts the wrong tokens that come from each address, in as many rows as are given and no more."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

_COUNT = """
    INSERT INTO timestep.wrong_tokens AS w (address, attempts, until)
    VALUES (%(address)s, 1, clock_timestamp() + %(span)s::float8 * interval '1 second')
    ON CONFLICT (address) DO UPDATE SET
        attempts = CASE WHEN w.until < clock_timestamp() THEN 1 ELSE w.attempts + 1 END,
        until = CASE WHEN w.until < clock_timestamp() THEN excluded.until ELSE w.until END
    RETURNING attempts, extract(epoch FROM until - clock_timestamp())::float8"""

# What another transaction changes at this moment is not old.
_PRUNE = """
    DELETE FROM timestep.wrong_tokens WHERE address IN (
        SELECT address FROM timestep.wrong_tokens WHERE until < clock_timestamp()
        OR until < (SELECT until FROM timestep.wrong_tokens ORDER BY until DESC
            OFFSET %(rows)s LIMIT 1)
        FOR UPDATE SKIP LOCKED)"""

_LEFT = """
    SELECT address, extract(epoch FROM until - clock_timestamp())::float8
    FROM timestep.wrong_tokens
    WHERE address = ANY(%(addresses)s) AND attempts >= %(limit)s AND until > clock_timestamp()"""


def count(connection: sa.Connection, address: str, *, span: float, rows: int) -> tuple[int, float]:
    """Count one more.

    Args:
        connection: Where the transaction goes on.
        address: Where it came from.
        span: The seconds after the first one in which they are counted together.
        rows: How many addresses are kept; those whose span ends first are forgotten.

    Returns:
        How many came from there in this span, and the seconds until it is over.
    """
    values = {"address": address, "span": span}
    attempts, seconds = connection.exec_driver_sql(_COUNT, values).one()
    if attempts == 1:
        connection.exec_driver_sql(_PRUNE, {"rows": rows})
    return attempts, seconds


def over_limit(
    connection: sa.Connection, addresses: Collection[str], limit: int
) -> dict[str, float]:
    """Those of the addresses from which `limit` came in their span, with the seconds until its
    end."""
    values = {"addresses": list(addresses), "limit": limit}
    return {row[0]: row[1] for row in connection.exec_driver_sql(_LEFT, values)}
