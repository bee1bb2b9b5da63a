"""Reads what led to questions: the session before, what was said to their runs, what these did."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from timestep.operations.overview.questions import Document, Given, Said
from timestep.store.reads.overview import led_to as store

_ById = dict[uuid.UUID, list[store.Row]]


@dataclass(frozen=True)
class LedTo:
    """Rows of what led to questions, by the ids of runs."""

    _items: _ById
    _around: _ById
    """The runs around a run, the outermost first, and the run."""
    _inputs: _ById
    _sessions: _ById

    def items(self, run_id: uuid.UUID) -> list[Said]:
        """The last items of a run before its first question."""
        return _said(self._items.get(run_id, ()))

    def given(self, run_id: uuid.UUID) -> list[Given]:
        """What the runs around a run were given, the outermost first; and the run itself."""
        return [
            Given(
                run_id=str(one["run_id"]),
                agent_name=one["agent_name"],
                items=_said(self._inputs.get(one["run_id"], ())),
                count=one["items"],
            )
            for one in self._around.get(run_id, ())
        ]

    def session(self, run_id: uuid.UUID) -> tuple[str | None, list[Said]]:
        """The session of a run, or of one around it, and the last of it before that run began."""
        for one in self._around.get(run_id, ()):
            if one["session_id"] is not None:
                return one["session_id"], _said(self._sessions.get(one["run_id"], ()))
        return None, []


def read(connection: Any, asked: Sequence[store.Row]) -> LedTo:
    """What led to questions.

    Args:
        connection: To the database.
        asked: The questions' rows: `id` and `run_id` of each.
    """
    around = store.runs(connection, {row["run_id"] for row in asked})
    ids = {row["run_id"] for row in around}
    with_session = {row["run_id"] for row in around if row["session_id"] is not None}
    return LedTo(
        _by(store.items(connection, [row["id"] for row in asked]), "run_id"),
        _by(around, "asked"),
        _by(store.inputs(connection, ids), "run_id"),
        _by(store.sessions(connection, with_session), "run_id"),
    )


def _by(rows: Sequence[store.Row], name: str) -> _ById:
    found: _ById = {}
    for row in rows:
        found.setdefault(row[name], []).append(row)
    return found


def _said(rows: Sequence[store.Row]) -> list[Said]:
    return [
        Said(
            item_type=row.get("item_type"),
            agent_name=row.get("agent_name"),
            item=Document(row["item"], len(row["item"])),
            is_cut=row["is_cut"],
            fate=row.get("fate"),
            tool_name=row.get("tool_name"),
        )
        for row in rows
    ]
