"""Suggests what may stand in a filter of the list of runs."""

from __future__ import annotations

import asyncio
from typing import Literal

from timestep.database.error_translation import translated
from timestep.journal.fail_fast_read import reading
from timestep.journal.reads.database import database
from timestep.operations.arguments import check_filter
from timestep.runtime.terminal import printable
from timestep.store.reads.overview import suggestions as store

Suggested = Literal["agent", "entrypoint", "session_id", "workflow_id", "version"]

_MOST = 20


async def suggestions(what: Suggested, text: str = "") -> list[str]:
    """What may stand in a filter, and has a text in it; at most 20.

    Sessions, workflows and entrypoints are looked for among the 2,000 newest. What cannot be shown
    as it is, such as a name with a line's end, is not among them.

    Args:
        what: The filter.
        text: What is there already, in small letters or capitals.

    Raises:
        InvalidQueryError: The text cannot be looked for.
        DatabaseError: The database refused, or is away.
    """
    check_filter(what, text or None)

    def work() -> list[str]:
        if what != "version":
            return reading(lambda connection: store.names(connection, what, text, _MOST))
        with translated(database().url), database().system() as (connection, schema):
            found = store.versions(connection, schema, _MOST)
        return [name for name in found if text.lower() in name.lower()]

    return [name for name in await asyncio.to_thread(work) if printable(name) == name]
