"""Derives ids from what they stand for, and makes keys and names of what others call things.

Names of agents, tools, guardrails and servers, ids of calls and keys of sessions come from outside:
they may be as long as an answer, or hold what PostgreSQL has no text for. One function makes each
fit for a column, an index and DBOS, always the same: nothing is found again by another text.
"""

from __future__ import annotations

import hashlib
import uuid

LONGEST_NAME = 1000
"""Bytes of a name or key in UTF-8: an index holds 2,704 of all that it orders by."""
LONGEST_STEP_NAME = 2600
"""Bytes of a step's name in UTF-8: an index of DBOS's orders by it and a time."""

_DIGITS = 32


def derived(parent: uuid.UUID, key: str) -> uuid.UUID:
    """The id of a row, from its owner's id and its own key: the same in every execution."""
    return uuid.uuid5(parent, key if _is_utf8(key) else ascii(key))


def storable_name(name: str, longest: int | None = LONGEST_NAME) -> str:
    """The name as columns, indexes and DBOS hold it: itself, or its beginning and a hash of it.

    What is stored is itself its storable name.

    Args:
        name: What somebody else calls a thing.
        longest: Bytes in UTF-8; None: as many as it has.
    """
    if "\x00" not in name and _is_utf8(name):
        length = len(name.encode())
        if longest is None or length <= longest:
            return name
    whole = name.encode("utf-8", "surrogatepass")
    mark = f"…{hashlib.sha256(whole).hexdigest()[:_DIGITS]}"
    plain = name.replace("\x00", "\ufffd").encode("utf-8", "replace")
    room = len(plain) if longest is None else longest - len(mark.encode())
    return plain[:room].decode("utf-8", "ignore") + mark


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
