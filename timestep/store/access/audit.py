"""Writes who did what, and reads it. Rows are added, never changed but for `refused`."""

from __future__ import annotations

import json
import platform
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from timestep.serialization.documents.json_text import TooDeep
from timestep.serialization.ids import storable_name

_ADD = """
    INSERT INTO timestep.audit (who, role, token_id, via, address, machine, act, subjects, details)
    VALUES (%(who)s, %(role)s, %(token_id)s, %(via)s, %(address)s, %(machine)s, %(act)s,
        %(subjects)s, %(details)s::text::jsonb)
    RETURNING id"""

_RECENT = """
    SELECT count(*) FILTER (WHERE at > clock_timestamp() - %(span)s::float8 * interval '1 second')
    FROM (SELECT at FROM timestep.audit WHERE act = %(act)s
        ORDER BY id DESC LIMIT %(most)s) AS newest"""

_CANCELLED = """
    SELECT DISTINCT ON (w.id) w.id, a.who, a.via, a.details FROM unnest(%(ids)s::text[]) w(id)
    JOIN timestep.audit a ON a.subjects @> ARRAY[w.id] AND a.act = 'cancel' AND a.refused IS NULL
    ORDER BY w.id, a.id DESC"""

_CONDITIONS = {
    "who": "who = %(who)s",
    "act": "act = %(act)s",
    "subject": "subjects @> ARRAY[%(subject)s::text]",
    "since": "at >= %(since)s",
    "before": "id < %(before)s",
}


def add(connection: sa.Connection, entry: dict[str, Any]) -> int:
    """Write an entry; its id.

    Args:
        connection: Where the transaction goes on.
        entry: `who`, `via`, `act` and `subjects`, and maybe `role`, `token_id`, `address`, `page`
            (whether it was done on a page of the host) and `details`.
    """
    on_page = {"page": True} if entry.get("page") else {}
    values = {
        **_UNKNOWN,
        **entry,
        "who": storable_name(entry["who"]),
        "machine": platform.node() or None,
        "subjects": [storable_name(one) for one in entry["subjects"]],
        "details": json.dumps({**(entry.get("details") or {}), **on_page}),
    }
    return int(connection.exec_driver_sql(_ADD, values).scalar_one())


def add_decided(
    connection: sa.Connection,
    actor: Mapping[str, Any],
    workflow_id: str | None,
    written: Sequence[dict[str, Any]],
) -> None:
    """Write who decided what a workflow asked; nothing where it was all decided before.

    Args:
        connection: Where the decisions are written.
        actor: `who`, `via`, and maybe `role`, `token_id`, `address` and `page`.
        workflow_id: The workflow.
        written: What `interruptions.resolve` wrote.
    """
    if not written:
        return
    questions = [str(one["id"]) for one in written]
    told = [
        {
            "id": question,
            "tool": one["tool_name"],
            "action": one["action"],
            **({"always": True} if one["always"] else {}),
            # The hash of the question as it was shown to who decided.
            **({"seen": one["seen"]} if one["seen"] else {}),
            **({"link": True} if one["until"] else {}),
            **_versions(one),
        }
        for question, one in zip(questions, written, strict=True)
    ]
    subjects = [*([] if workflow_id is None else [workflow_id]), *questions]
    entry = {**actor, "act": "decide", "subjects": subjects, "details": {"decisions": told}}
    add(connection, entry)


def _versions(written: Mapping[str, Any]) -> dict[str, Any]:
    """Both versions of what a call that was edited is given."""
    if written["action"] != "edit":
        return {}
    asked = written["asked"]
    before = str(asked) if isinstance(asked, TooDeep) else asked
    return {"arguments": before, "edited_arguments": written["arguments"]}


_UNKNOWN = {"role": None, "token_id": None, "address": None}


def refuse(connection: sa.Connection, id_: int, error: str) -> None:
    """Note in an entry that nothing came of the act, and the error's name."""
    connection.exec_driver_sql(
        "UPDATE timestep.audit SET refused = %(error)s WHERE id = %(id)s AND refused IS NULL",
        {"id": id_, "error": error},
    )


def recent(connection: sa.Connection, act: str, *, span: float, most: int) -> int:
    """How many entries of an act the last `span` seconds have, up to `most`."""
    values = {"act": act, "span": span, "most": most}
    return int(connection.exec_driver_sql(_RECENT, values).scalar_one())


def cancelled_by(
    connection: sa.Connection, workflow_ids: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Of each of the workflows that somebody cancelled, by their ids: `who`, `via`, `details`."""
    names = {storable_name(one): one for one in workflow_ids}
    found = connection.exec_driver_sql(_CANCELLED, {"ids": list(names)})
    return {names[row["id"]]: dict(row) for row in found.mappings()}


def select(connection: sa.Connection, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries, the newest first.

    Args:
        connection: To the database.
        values: `who`, `act`, `subject` and `since`, each None for any; `before`: an entry's id,
            or None; and `limit`.
    """
    asked = [one for name, one in _CONDITIONS.items() if values[name] is not None]
    where = " AND ".join(asked) or "true"
    found = connection.exec_driver_sql(
        f"""SELECT id, at, who, role, token_id::text, via, address, machine, act, subjects,
            details, refused
        FROM timestep.audit WHERE {where} ORDER BY id DESC LIMIT %(limit)s""",
        values,
    )
    return [dict(row) for row in found.mappings()]
