"""Chooses which interruptions a resume call names, and what it decides about each."""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from timestep.approvals import edited_arguments
from timestep.errors import (
    AlreadyResolvedError,
    ChangedQuestionError,
    InvalidInputError,
    UnknownInterruptionError,
)
from timestep.runtime.terminal import quoted
from timestep.serialization.documents.forms import Json
from timestep.serialization.documents.json_text import displayed, plain_text, storable
from timestep.serialization.ids import storable_name

Row = dict[str, Any]

UNSET: Any = object()

_SHORTEST_HASH = 16
"""Hexadecimal digits of a hash that stand for the whole of it."""


@dataclass(frozen=True)
class Choice:
    """What is decided about a question."""

    row: Row
    """The question's."""
    action: str
    value: Any = UNSET
    """The result that is supplied, or the arguments of a call that is edited."""
    name: str = "all"
    """As what the caller named it."""


def contradicts(choice: Choice, *, always: bool) -> bool:
    """Whether what was decided is not what is asked for now."""
    row = choice.row
    if row["resolution_action"] != choice.action:
        return True
    if choice.action == "supply":
        return bool(row["resolution_output"] != choice.value)
    if choice.action == "edit":
        arguments = edited_arguments.as_object(row, choice.value)
        return not _is_same_json(displayed(row["resolution_arguments"]), arguments)
    return always and not row["resolution_always"]


def _is_same_json(one: Json, other: Json) -> bool:
    """Whether two documents say the same; true is no number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same_json(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same_json, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def choose(
    workflow_id: str,
    rows: list[Row],
    approve: Sequence[str] | str,
    reject: Sequence[str] | str,
    supply: Mapping[str, Any],
    edit: Mapping[str, Any],
) -> list[Choice]:
    """The interruptions that a call names, with its answer to each."""
    if not rows:
        raise UnknownInterruptionError(
            f"there is no workflow {workflow_id!r} that asked for an approval: see "
            "`timestep approvals`"
        )
    chosen: dict[uuid.UUID, Choice] = {}
    for action, names in (("approve", approve), ("reject", reject)):
        for row, name in _named(workflow_id, rows, names):
            _add(chosen, Choice(row, action, name=name))
    for action, values in (("supply", supply), ("edit", edit)):
        for given, value in values.items():
            if action == "edit" and given == "all":
                raise InvalidInputError(
                    "'edit' has arguments for one call each, whose tool's JSON schema they are "
                    "checked with: name each by an id, and not by 'all'"
                )
            for row, name in _named(workflow_id, rows, [given]):
                _add(chosen, Choice(row, action, value, name))
    return list(chosen.values())


def _add(chosen: dict[uuid.UUID, Choice], choice: Choice) -> None:
    row = choice.row
    earlier = chosen.get(row["id"])
    if earlier is None:
        chosen[row["id"]] = choice
    elif (choice.action, choice.value) != (earlier.action, earlier.value):
        raise AlreadyResolvedError(
            f"interruption {row['id']} ({row['tool_name']}) is given two decisions: "
            f"{earlier.action} and {choice.action}"
        )


def with_checked_edits(chosen: Sequence[Choice]) -> list[Choice]:
    """The choices, with the arguments of edited calls as JSON.

    Raises:
        InvalidInputError: A call cannot be edited.
        InvalidArgumentsError: Arguments do not fit their tool's JSON schema.
    """
    edited = {
        choice.name: (choice.row, choice.value)
        for choice in chosen
        if choice.action == "edit" and choice.row["resolved_at"] is None
    }
    plain = edited_arguments.checked(edited)
    return [
        dataclasses.replace(choice, value=plain[choice.name]) if choice.name in plain else choice
        for choice in chosen
    ]


def check_expected(
    workflow_id: str, rows: list[Row], chosen: Sequence[Choice], expect: Mapping[str, str]
) -> dict[uuid.UUID, str]:
    """Refuse to decide what is not what was shown.

    Args:
        workflow_id: The workflow.
        rows: All that it has asked.
        chosen: What is decided.
        expect: The hash of each question as it was shown, by its id or its call's.

    Returns:
        What was shown: the hashes of questions by their ids.

    Raises:
        ChangedQuestionError: A question has another hash, or is named by "all" alone.
        InvalidInputError: A hash is none, or is that of a question that is not decided.
    """
    decided = {choice.row["id"]: choice for choice in chosen}
    shown: dict[uuid.UUID, str] = {}
    for name, told in expect.items():
        if not isinstance(told, str) or len(told) < _SHORTEST_HASH:
            raise InvalidInputError(
                f"{quoted(told)} is no hash of a question, or less than {_SHORTEST_HASH} digits "
                "of it: give what `timestep approvals --json` lists"
            )
        for row, _ in _named(workflow_id, rows, [name]):
            if row["id"] not in decided:
                raise InvalidInputError(
                    f"{quoted(name)} is expected to be a certain question, and is not decided: "
                    "give it to 'approve', 'edit', 'reject' or 'supply', too"
                )
            shown[row["id"]] = told.lower()
    changes = []
    for id_, choice in decided.items() if expect else ():
        hash_ = shown.get(id_)
        # Who names it has seen it.
        is_seen = choice.name != "all" if hash_ is None else choice.row["hash"].startswith(hash_)
        if not is_seen:
            changes.append(_change(rows, choice.row, hash_))
    if changes:
        raise ChangedQuestionError(
            "what is asked is not what was shown, and nothing was decided: "
            + "; ".join(map(_told_change, changes)),
            changes=changes,
        )
    return {id_: decided[id_].row["hash"] for id_ in shown}


_SHOWN = ("id", "hash", "tool_name", "arguments", "agent_name")


def _change(rows: list[Row], row: Row, told: str | None) -> dict[str, Any]:
    was = next((one for one in rows if told is not None and one["hash"].startswith(told)), None)
    return {**_shown(row), "expected": told, "was": None if was is None else _shown(was)}


def _shown(row: Row) -> dict[str, Any]:
    found = {name: row[name] for name in _SHOWN}
    return {**found, "id": str(row["id"]), "arguments": displayed(row["arguments"])}


def _told_change(change: dict[str, Any]) -> str:
    now, was = _call(change), change["was"]
    about = f"interruption {change['id']} is {now}"
    if change["expected"] is None:
        return f"{about}, which was not shown"
    return about + (
        f", and was {_call(was)}"
        if was is not None
        else f", with another hash: {change['hash'][:16]}"
    )


def _call(told: dict[str, Any]) -> str:
    arguments = json.dumps(told["arguments"], ensure_ascii=False, default=str)
    if len(arguments) > _LONGEST:
        arguments = f"{arguments[:_LONGEST]} …"
    return f"{told['tool_name']}({arguments}) of {told['agent_name']}"


_LONGEST = 300
"""Characters of a call's arguments in a message."""


def _named(workflow_id: str, rows: list[Row], names: Sequence[str] | str) -> list[tuple[Row, str]]:
    """The questions that are named, and by what."""
    if "all" in ([names] if isinstance(names, str) else names):
        # Where nothing waits, the call is made again, or contradicts what was decided.
        return [(row, "all") for row in rows if row["resolved_at"] is None] or [
            (row, "all") for row in rows
        ]
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
        found.append(((undecided or same)[-1], name))
    return found


def decision(
    row: Row,
    action: str,
    message: str | None,
    *,
    always: bool = False,
    by: str | None = None,
    value: Any = UNSET,
    seen: str | None = None,
    until: datetime.datetime | None = None,
) -> dict[str, Any]:
    """What `store.resolve` writes of a decision about the question of a row.

    Args:
        row: The question.
        action: `approve`, `reject`, `supply` or `edit`.
        message: What the model is told.
        always: Whether later calls are decided likewise.
        by: Who decided.
        value: The supplied result, as `supplied.documents` makes it, or the edited arguments.
        seen: The hash of the question as it was shown to who decided.
        until: The time of the one-time link that decides; after it nothing is decided.
    """
    is_supplied = action == "supply"
    return {
        "id": row["id"],
        "action": action,
        "message": plain_text(message),
        "always": always and not is_supplied,
        "by": plain_text(by),
        "has_output": is_supplied,
        "output": value if is_supplied else None,
        "arguments": storable(value) if action == "edit" else None,
        "seen": seen,
        "until": until,
    }
