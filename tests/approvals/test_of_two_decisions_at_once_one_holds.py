"""Two people decide the same question at the same time: one decision holds, whole."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import timestep
from tests.approvals.test_calls_are_made_as_they_were_edited import EDITED, clerk, made, shown
from tests.support.dbos_app import App
from tests.support.decisions import decide, started, until_held_up, waiting
from timestep.errors import AlreadyResolvedError

WAYS: dict[str, dict[str, Any]] = {
    "edit": {"edit": {"c1": EDITED}, "by": "ann"},
    "approve": {"approve": ["c1"], "by": "bob"},
}


@pytest.mark.parametrize("first", WAYS)
def test_a_call_is_edited_or_approved(app: App, first: str) -> None:
    outcome = started(app, clerk())
    app.until(waiting)
    told: dict[str, Future[timestep.ResumeResult]] = {}
    with psycopg.connect(app.url) as holder, ThreadPoolExecutor(len(WAYS)) as people:
        holder.execute("SELECT FROM interruptions FOR UPDATE")
        for way in sorted(WAYS, key=lambda way: way != first):
            told[way] = people.submit(decide, **WAYS[way])
            until_held_up(app, len(told))
        holder.commit()
        errors = {way: one.exception(60) for way, one in told.items()}
    (won,) = [way for way, error in errors.items() if error is None]
    (lost,) = [error for error in errors.values() if error is not None]
    assert isinstance(lost, AlreadyResolvedError)
    assert f"decided already: {won} by {WAYS[won]['by']}" in str(lost)
    decide(approve=["c3"])

    edited = EDITED if won == "edit" else None
    cents = 5000 if edited is None else EDITED["cents"]
    said = f"c1: refunded {cents} for o1 | c2: a is old | c3: refunded 100 for o2"
    assert outcome.result(timeout=60) == said
    assert sorted(made) == [("o1", cents), ("o2", 100)]
    assert json.loads(shown[0]["arguments"])["cents"] == cents
    (question,) = [row for row in app.rows("interruptions") if row["call_id"] == "c1"]
    assert (question["resolution_action"], question["resolution_arguments"]) == (won, edited)
    (call,) = [row for row in app.rows("tool_calls") if row["call_id"] == "c1"]
    assert call["edited_arguments"] == edited
    kept = [row["original_data"] for row in app.rows("run_items")]
    assert any(item is not None for item in kept) == (edited is not None)
    acts = app.execute(
        "SELECT details #>> '{decisions,0,action}' FROM timestep.audit ORDER BY id"
    ).fetchall()
    assert [action for (action,) in acts] == [won, "approve"]
    assert app.replay("w") == said
