"""What a run's states are stored as: JSONB can hold each row, and the states come back exactly."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from timestep.journal.checkpoints import Checkpoint, CheckpointHistory, States
from timestep.serialization.values import is_plain

_keys = st.sampled_from(["a", "b", "nul\x00", "lone\ud800"])
_values = st.one_of(
    st.integers(0, 2),
    st.sampled_from(["", "text", "nul\x00", "lone\ud800"]),
    st.lists(st.sampled_from(["x", "nul\x00"]), max_size=3),
)
_contexts = st.lists(st.dictionaries(_keys, _values, max_size=3), min_size=1, max_size=5)


def checkpoint(context: dict[str, Any], turn: int) -> Checkpoint:
    state = {"$schemaVersion": "1", "context": context}
    return Checkpoint(
        state=json.loads(json.dumps(state)),
        turn=turn,
        schema_version="1",
        is_plain=is_plain(json.dumps(state)),
    )


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value + "."
    elif isinstance(value, dict):
        yield from texts([*value.keys(), *value.values()])
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)


@given(_contexts)
def test_jsonb_can_hold_each_row_and_every_state_comes_back(contexts: list[dict[str, Any]]) -> None:
    states = States(uuid.uuid4())
    given = [checkpoint(context, turn) for turn, context in enumerate(contexts, 1)]
    rows = [json.loads(json.dumps(states.checkpoint_row(each))) for each in given[:-1]]
    rows += json.loads(json.dumps(states.final_rows(given[-1])["run_states"]))
    assert all("\x00" not in text and text.encode() for text in texts(rows))
    for kept in (CheckpointHistory(rows[:-1]), CheckpointHistory(rows[-1:])):
        assert kept.turns == [each.turn for each in given[:-1]]
        assert [kept.state(turn) for turn in kept.turns] == [each.state for each in given[:-1]]
