"""What is claimed from a queue is executed, whatever became of the answer to its commit."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event, Lock
from typing import Any

import psycopg
import pytest
from dbos import DBOS, SetWorkflowID, _dbos

import timestep
from tests.support.dbos_app import BODIES, App, run_it
from timestep.dbos_internals.claims import Claims
from timestep.runtime import process_state
from timestep.store import run_journal


class Claim:
    """A claim of the workflow `w`, which is sent and answered by nothing.

    It is DBOS's own, but for the moment at which it ends.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self.is_made, self.is_looked_for = Event(), Event()
        self._turn = Lock()

    def make(self, *_: Any, owner_xid: str, **__: Any) -> Any:
        # Each queue has a worker of its own, and one that finds nothing would undo another's claim.
        with self._turn:
            return self._make(owner_xid)

    def _make(self, owner_xid: str) -> Any:
        if self.is_made.is_set():
            return [], None
        found = self.connection.execute(
            "UPDATE dbos.workflow_status SET status = 'PENDING', owner_xid = %s, "
            "executor_id = 'local' WHERE workflow_uuid = 'w' AND status = 'ENQUEUED'",
            (owner_xid,),
        )
        if found.rowcount == 0:
            self.connection.rollback()
            return [], None
        self.is_made.set()
        raise ConnectionError("the answer is lost")


@pytest.fixture
def claim(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Claim]:
    """The claim, which an application makes that has no host."""
    system = _dbos._get_dbos_instance()._sys_db
    look = run_journal.claimed_by
    with psycopg.connect(app.url) as connection:
        claim = Claim(connection)

        def looked(*args: Any) -> Any:
            found = look(*args)
            claim.is_looked_for.set()
            return found

        monkeypatch.setattr(run_journal, "claimed_by", looked)
        monkeypatch.setattr(system, "start_queued_workflows", claim.make)
        timestep.install()
        yield claim


def enqueued(app: App, claim: Claim) -> Any:
    """The workflow, once it is claimed and was looked for in vain."""

    async def body() -> str:
        return "done"

    BODIES["w"] = body
    DBOS.register_queue("lost", polling_interval_sec=0.05)
    with SetWorkflowID("w"):
        handle = DBOS.enqueue_workflow("lost", run_it, "w")
    assert claim.is_looked_for.wait(60)
    assert process_state.of(Claims).are_any
    assert app.execute("SELECT status FROM dbos.workflow_status").fetchall() == [("ENQUEUED",)]
    return handle


def test_a_claim_that_lands_after_it_was_looked_for_is_executed(app: App, claim: Claim) -> None:
    handle = enqueued(app, claim)
    claim.connection.commit()
    assert handle.get_result(polling_interval_sec=0.02) == "done"
    app.until(lambda: not process_state.of(Claims).are_any)


def test_one_that_was_undone_is_looked_for_no_more(app: App, claim: Claim) -> None:
    enqueued(app, claim)
    claim.connection.rollback()
    app.until(lambda: not process_state.of(Claims).are_any)
    assert app.execute("SELECT status FROM dbos.workflow_status").fetchall() == [("ENQUEUED",)]
