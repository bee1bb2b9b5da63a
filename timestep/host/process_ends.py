"""Puts a workflow aside whose recovery ends the process again and again.

What kills its process (a tool that crashes the interpreter, or takes all memory) does so at each
recovery, and ends everything beside it. A host that was stopped deletes the row of its claim;
where the row is still there, it ended otherwise, and what it was executing is suspected:

- An end counts against a workflow that was gone on with, of which nothing was recorded since the
  end before, and whose execution had begun less than `_SOON` seconds ago. What takes longer lets
  others get on each time, and may be a long wait that deserves no suspicion.
- After one such end the suspects are gone on with in groups: one, a little later two, then four,
  so that the next end tells more, and many innocent ones are not kept waiting for long.
- After two, the only one that it can have been is put aside: nobody goes on with it until a person
  says so. The others are suspected no more. Where it can have been several, the groups begin so
  far apart that the next end tells them apart.

Nobody can tell a process that killed itself from one that was killed from outside: what is put
aside is told, and one command goes on with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from timestep.database.error_translation import translated
from timestep.dbos_internals.executions import INTERNAL_QUEUE_NAME
from timestep.journal.recorder import recorder
from timestep.runtime import logs, terminal
from timestep.store.fleet import process_ends as store
from timestep.store.fleet.process_ends import UnderWay

_SOON = 300.0
"""Seconds."""
_BETWEEN_GROUPS = 15.0
"""Seconds between the beginnings of two groups, after the first end."""
_LIMIT = 2
"""Ends after which a workflow is put aside."""

_log = logs.logger()


@dataclass(frozen=True)
class Suspicion:
    """What follows of the end of a process."""

    ends: dict[str, int] = field(default_factory=dict)
    """How many ends count against each workflow that was under way."""
    aside: str | None = None
    """The workflow that is put aside."""
    delays: dict[str, float] = field(default_factory=dict)
    """After how many seconds others are gone on with that are held back."""


def judged(found: list[UnderWay]) -> Suspicion:
    """What is to become of the workflows that were under way when a process ended."""
    ends = {one.workflow_id: one.ends + 1 if one.seconds < _SOON else 0 for one in found}
    suspects = [one for one in found if ends[one.workflow_id]]
    likely = [one.workflow_id for one in suspects if ends[one.workflow_id] >= _LIMIT]
    if len(likely) == 1:
        return Suspicion(ends, likely[0])
    pause = _SOON if likely else _BETWEEN_GROUPS
    delays: dict[str, float] = {}
    for place, one in enumerate(sorted(suspects, key=_order)):
        group = (place + 1).bit_length() - 1
        if group:
            delays[one.workflow_id] = group * pause
    return Suspicion(ends, None, delays)


def _order(one: UnderWay) -> tuple[float, float, str]:
    """The likeliest first: what began last, and of that what recorded something last."""
    return max(one.seconds, 0.0) // _BETWEEN_GROUPS, -one.recorded_at, one.workflow_id


def look_back(application: str, executor_id: str, ended: dict[str, Any]) -> int:
    """Judge what was under way when this executor's process before this one ended.

    DBOS is not launched here yet: it recovers what is not held back.

    Args:
        application: DBOS's name for the application.
        executor_id: This host's.
        ended: The row of the claim that the process before left behind.

    Returns:
        How many workflows are held back that are gone on with a little later.

    Raises:
        DatabaseError: The database refused, or is away.
    """
    journal = recorder()
    whose = {"application": application, "executor_id": executor_id}
    times = {"began": ended["claimed_at"], "ended": ended["seen_at"]}
    queue = {"executor_id": executor_id, "internal_queue": INTERNAL_QUEUE_NAME}
    with translated(journal.url), journal.system() as (connection, schema):
        found = store.under_way(connection, schema, whose | times)
        suspicion = judged(found)
        for one in found:
            store.keep(connection, one, suspicion.ends[one.workflow_id])
        if suspicion.aside is not None:
            store.put_aside(connection, schema, queue | {"workflow_id": suspicion.aside})
            store.clear(connection, schema, application)
        for id_, seconds in suspicion.delays.items():
            held = {"workflow_id": id_, "milliseconds": round(seconds * 1000)}
            store.hold(connection, schema, queue | held)
    _tell(suspicion)
    return len(suspicion.delays)


def _tell(suspicion: Suspicion) -> None:
    if (id_ := suspicion.aside) is not None:
        _log.warning(
            "workflow %r is put aside: the host ended %d times in a row, each time soon after it "
            "went on with it: try it once more with `%s`, or end it with `%s`",
            id_,
            suspicion.ends[id_],
            terminal.command("resume", id_, "--again"),
            terminal.command("cancel", id_),
        )
    if suspicion.delays:
        _log.warning(
            "the host before this one ended soon after it went on with %d workflows: they begin "
            "one after the other, all within %.0f s, so that one that ends its host is found",
            len(suspicion.delays) + 1,
            max(suspicion.delays.values()),
        )
