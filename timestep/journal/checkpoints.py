"""Turns a run's states into rows, whole or as the change of the one before, and back."""

from __future__ import annotations

import importlib.metadata
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from timestep.serialization.ids import derived
from timestep.serialization.json_delta import difference, inverse, patched
from timestep.serialization.values import decode, encode, is_encoded, restored, storable

SDK_VERSION = importlib.metadata.version("openai-agents")

Row = dict[str, Any]


@dataclass
class Checkpoint:
    """A state to be written with the next step."""

    state: dict[str, Any]
    """The whole of it, or with no more than the ends of lists that the one before began."""
    turn: int
    schema_version: str
    progress: dict[str, Any] | None = None
    """How far the run's numbers had come."""
    written: Callable[[], None] | None = None
    """Called when the state becomes the newest checkpoint, from which the next one differs."""
    is_plain: bool = False
    """Whether JSONB can hold each part of `state` as it is."""


class States:
    """The states of one run. A checkpoint is written as a change of the one before."""

    def __init__(self, run_id: uuid.UUID) -> None:
        self._run_id = run_id
        self._base: tuple[uuid.UUID, dict[str, Any]] | None = None
        self._is_plain = False
        """Whether JSONB can hold each part of all its checkpoints as it is, as far as is known."""
        self._backwards: list[tuple[int, dict[str, Any]]] = []
        """Each checkpoint's turn, and what makes the one before of it."""

    def resume(self, rows: dict[str, Row]) -> None:
        """Go on from the newest of the checkpoints that are recorded."""
        checkpoints = [row for row in rows.values() if row["state_type"] == "checkpoint"]
        for row in sorted(checkpoints, key=lambda row: row["turn"]):
            self._follow(uuid.UUID(row["id"]), row["turn"], restored(row["state_data"]))

    def _follow(self, state_id: uuid.UUID, turn: int, stored: dict[str, Any]) -> None:
        """Add a checkpoint, whole if it is the first, else as the change of the one before."""
        if self._base is None:
            self._base = (state_id, stored)
            self._backwards.append((turn, {}))
        else:
            before = self._base[1]
            self._base = (state_id, patched(before, stored))
            self._backwards.append((turn, inverse(before, stored)))

    def checkpoint_id(self, turn: int) -> uuid.UUID:
        return derived(self._run_id, f"checkpoint:{turn}")

    def checkpoint_row(self, checkpoint: Checkpoint) -> Row:
        """The row of the next checkpoint."""
        state_id = self.checkpoint_id(checkpoint.turn)
        if self._base is None:
            stored = checkpoint.state
            row = self._row("checkpoint", checkpoint, state_id, self._held(stored, checkpoint))
        else:
            previous_id, before = self._base
            stored = difference(before, checkpoint.state)
            row = self._row("checkpoint", checkpoint, state_id, self._held(stored, checkpoint))
            row.update(encoding="delta", previous_id=str(previous_id))
        self._follow(state_id, checkpoint.turn, stored)
        if checkpoint.written is not None:
            checkpoint.written()
        return row

    def _held(self, stored: dict[str, Any], checkpoint: Checkpoint) -> Any:
        # A change names what it unsets, which only an earlier state holds.
        self._is_plain = checkpoint.is_plain and (self._is_plain or self._base is None)
        return stored if self._is_plain else storable(stored)

    def final_rows(self, checkpoint: Checkpoint) -> dict[str, list[Row]]:
        """The rows of a run's last state, from which its checkpoints can be made again."""
        state_id = derived(self._run_id, "final")
        if self._base is None:
            whole = storable(checkpoint.state)
            return {"run_states": [self._row("final", checkpoint, state_id, whole)]}
        before = self._base[1]
        forwards = difference(before, checkpoint.state)
        whole = self._held(patched(before, forwards), checkpoint)
        row = self._row("final", checkpoint, state_id, whole)
        turns = []
        change = inverse(before, forwards)
        for turn, backwards in reversed(self._backwards):
            turns.append([turn, change])
            change = backwards
        row["turns"] = turns if self._is_plain else storable(turns)
        return {"run_states": [row], "superseded_states": [{"run_id": str(self._run_id)}]}

    def interrupted_row(self, checkpoint: Checkpoint, state_id: uuid.UUID) -> Row:
        """The row of a state that waits for people; the whole of it is given."""
        return self._row("interrupted", checkpoint, state_id, storable(checkpoint.state))

    def _row(
        self, state_type: str, checkpoint: Checkpoint, state_id: uuid.UUID, stored: Any
    ) -> Row:
        """A row, as of a whole state."""
        return {
            "id": str(state_id),
            "run_id": str(self._run_id),
            "state_type": state_type,
            "schema_version": checkpoint.schema_version,
            "sdk": "python",
            "sdk_version": SDK_VERSION,
            "turn": checkpoint.turn,
            "encoding": "whole",
            "previous_id": None,
            "state_data": stored,
            "is_active": True,
            "progress": checkpoint.progress,
            "turns": None,
        }


def folded(rows: dict[str, dict[str, Any]], state_id: str) -> dict[str, Any]:
    """The whole state that a row of `run_states` stands for."""
    changes: list[dict[str, Any]] = []
    row = rows[state_id]
    while row["encoding"] == "delta":
        changes.append(restored(row["state_data"]))
        row = rows[row["previous_id"]]
    state: dict[str, Any] = restored(row["state_data"])
    for change in reversed(changes):
        state = patched(state, change)
    return state


class CheckpointHistory:
    """The checkpoints of a run, as its rows of `run_states` hold them.

    While it goes on each has a row. Of a run that has its last state they are made again of
    that, one after the other, from the newest back.
    """

    def __init__(self, rows: list[Row]) -> None:
        self.rows = {row["turn"]: row for row in rows if row["state_type"] == "checkpoint"}
        self._ids = {row["id"]: row for row in rows}
        self._last = next((row for row in rows if row["turns"] is not None), None)
        backwards = [] if self._last is None else restored(self._last["turns"])
        self._backwards: list[tuple[int, dict[str, Any]]] = backwards
        self.turns = sorted({*self.rows, *(turn for turn, _ in self._backwards)})

    def state(self, turn: int) -> dict[str, Any]:
        """The state before one of the turns."""
        if self._last is None:
            return folded(self._ids, self.rows[turn]["id"])
        state: dict[str, Any] = restored(self._last["state_data"])
        for found, change in self._backwards:
            state = patched(state, change)
            if found == turn:
                break
        return state


def context_document(context: Any) -> dict[str, Any]:
    """A run's context, which is no mapping, as an object of JSON."""
    document = encode(context)
    return document if isinstance(document, dict) else {"value": document}


def is_context_document(document: Any) -> bool:
    """Whether `context_document` may have made this, and not a serializer of the user's own."""
    return is_encoded(document) or (isinstance(document, dict) and document.keys() == {"value"})


def context_of(document: Mapping[str, Any]) -> Any:
    """The context that `context_document` was given.

    Raises:
        UnreadableValueError: Its class, or that of something in it, is not known here.
    """
    return decode(document if is_encoded(document) else document["value"])
