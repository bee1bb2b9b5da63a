"""Chooses which interruptions a resume call names, and what it decides about each."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from timestep.errors import AlreadyResolvedError, UnknownInterruptionError
from timestep.serialization.documents.json_text import plain_text
from timestep.serialization.ids import storable_name

UNSET: Any = object()

Choice = tuple[dict[str, Any], str, Any]
"""The row of a question, what is decided about it, and the result that is supplied, as its column
has it."""


def contradicts(row: dict[str, Any], action: str, output: Any, always: bool) -> bool:
    """Whether what was decided is not what is asked for now."""
    if row["resolution_action"] != action:
        return True
    if action == "supply":
        return bool(row["resolution_output"] != output)
    return always and not row["resolution_always"]


def choose(
    workflow_id: str,
    rows: list[dict[str, Any]],
    approve: Sequence[str] | str,
    reject: Sequence[str] | str,
    supply: dict[str, Any],
) -> list[Choice]:
    """The interruptions that a call names, with its answer to each."""
    if not rows:
        raise UnknownInterruptionError(
            f"there is no workflow {workflow_id!r} that asked for an approval: see "
            "`timestep approvals`"
        )
    chosen: dict[uuid.UUID, Choice] = {}
    for action, names in (("approve", approve), ("reject", reject)):
        for row in _named(workflow_id, rows, names):
            _add(chosen, row, action, UNSET)
    for name, output in supply.items():
        for row in _named(workflow_id, rows, [name]):
            _add(chosen, row, "supply", output)
    return list(chosen.values())


def _add(
    chosen: dict[uuid.UUID, Choice],
    row: dict[str, Any],
    action: str,
    output: Any,
) -> None:
    earlier = chosen.get(row["id"])
    if earlier is not None and (action, output) != earlier[1:]:
        raise AlreadyResolvedError(
            f"interruption {row['id']} ({row['tool_name']}) is given two decisions: "
            f"{earlier[1]} and {action}"
        )
    chosen[row["id"]] = (row, action, output)


def _named(
    workflow_id: str, rows: list[dict[str, Any]], names: Sequence[str] | str
) -> list[dict[str, Any]]:
    if "all" in ([names] if isinstance(names, str) else names):
        # Where nothing waits, the call is made again, or contradicts what was decided.
        return [row for row in rows if row["resolved_at"] is None] or rows
    if isinstance(names, str):
        names = [names]
    found = []
    for name in names:
        called = (name, storable_name(name, None))
        same = [row for row in rows if name == str(row["id"]) or row["call_id"] in called]
        # A call is asked about anew where its outcome is in doubt: the newest question counts.
        undecided = [row for row in same if row["resolved_at"] is None]
        if not same or len(undecided) > 1:
            what = "is not one of" if not same else "is more than one of"
            raise UnknownInterruptionError(
                f"{name!r} {what} the interruptions of workflow {workflow_id!r}: give an id that "
                "`timestep approvals` lists"
            )
        found.append((undecided or same)[-1])
    return found


def decision(
    row: dict[str, Any],
    action: str,
    message: str | None,
    *,
    always: bool = False,
    by: str | None = None,
    output: Any = UNSET,
) -> dict[str, Any]:
    """What `store.resolve` writes of a decision about the question of a row.

    Args:
        row: The question.
        action: `approve`, `reject` or `supply`.
        message: What the model is told.
        always: Whether later calls are decided likewise.
        by: Who decided.
        output: The supplied result, as `supplied.documents` makes it.
    """
    return {
        "id": row["id"],
        "action": action,
        "message": plain_text(message),
        "always": always and action != "supply",
        "by": plain_text(by),
        "has_output": output is not UNSET,
        "output": None if output is UNSET else output,
    }
