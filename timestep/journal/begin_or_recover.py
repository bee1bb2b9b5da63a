"""Writes the row of a run that begins, or reads everything that is recorded of the run."""

from __future__ import annotations

import json
import os
import platform
import uuid
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy.exc import IntegrityError

from timestep.database.servers import pglite
from timestep.database.urls import shown
from timestep.dbos_internals import control_errors, presence, step_numbers
from timestep.dbos_internals.workflow_scope import Owner
from timestep.errors import DatabaseError, NotDurableError
from timestep.journal.recorder import Journal, Recorder
from timestep.runtime.cancellation import in_thread, to_its_end
from timestep.serialization.agent_definitions import Definitions
from timestep.store import dbos_step_outputs, run_continuations, run_journal
from timestep.store import definitions as definitions_store
from timestep.store.reads import dbos_forks
from timestep.store.run_journal import Begun


async def begin(
    recorder: Recorder,
    owner: Owner,
    definitions: Definitions,
    values: dict[str, Any],
    *,
    with_outputs: bool = False,
) -> Journal:
    """Insert a run's row and the definitions it needs.

    Args:
        recorder: Where it is recorded.
        owner: Whose run it is.
        definitions: What it needs.
        values: Its columns.
        with_outputs: Whether DBOS's look-ups are to be answered from what is returned.

    Returns:
        Everything that is recorded of the run; of a new one, its row. With DBOS's records of
        the workflow's steps, if they were asked for and steps are recorded jointly.

    Raises:
        NotDurableError: DBOS keeps its workflows in another database.
        DatabaseError: The schema is missing, or a right.
    """
    if recorder.mirror is not None and not pglite.holds(recorder.url):
        raise NotDurableError(
            f"another process is the holder of {shown(recorder.url)}, and only that one may run "
            "agents: stop it, or set TIMESTEP_PGLITE_PATH to another directory"
        )
    await _record_kept(recorder, owner)
    beginning = _Beginning(recorder, owner, definitions, values, with_outputs)
    if beginning.is_repeated:
        # Nothing but the run is new: it is sent from here, as steps are.
        begun = await to_its_end(beginning.sent())
        if begun is not None and begun.row is not None and not begun.has_outputs:
            return beginning.found(begun)
    else:
        begun = None
    return await in_thread(lambda: beginning.found(begun or beginning.written()))


async def _record_kept(recorder: Recorder, owner: Owner) -> None:
    """Record what an execution before this one did, in this process, and could not record."""
    for outcome in recorder.kept.of(owner.workflow_id):
        try:
            await recorder.commit(owner, outcome.rows, is_outcome=True)
        except DatabaseError as error:
            outcome.refusal = error
        else:
            recorder.kept.drop(owner.workflow_id, outcome)


@dataclass(frozen=True)
class _Beginning:
    recorder: Recorder
    owner: Owner
    definitions: Definitions
    values: dict[str, Any]
    with_outputs: bool

    @property
    def _needed(self) -> set[Any]:
        return {id_ for table in self.definitions.rows.values() for id_ in table}

    @property
    def _parameters(self) -> dict[str, Any]:
        return {
            **self.values,
            "workflow_id": self.owner.workflow_id,
            "token": self.owner.token,
            "input": json.dumps(self.values["input"]),
            "metadata": json.dumps(self.values["metadata"]),
        }

    @property
    def is_repeated(self) -> bool:
        """Whether this process has begun runs like it, and knows how steps are recorded."""
        recorder = self.recorder
        is_known = not self.with_outputs or recorder.knows_if_joint()
        return recorder.mirror is None and is_known and self._needed <= recorder.written

    async def sent(self) -> Begun | None:
        """Send the run's beginning from the event loop; None where its definitions are gone."""
        sql = run_journal.begin_statement(self.recorder.schema)
        try:
            return run_journal.begun(await self.recorder.sent(sql, self._parameters))
        except DatabaseError as error:
            if not isinstance(error.__cause__, psycopg.IntegrityError):
                raise
            # Someone deleted definitions that this process had written.
            self.recorder.written.clear()
            return None

    def written(self) -> Begun:
        """Write the run's beginning together with its definitions."""
        try:
            return self._write()
        except DatabaseError as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            self.recorder.written.clear()
            return self._write()

    def _write(self) -> Begun:
        recorder, needed = self.recorder, self._needed

        def attempt() -> Begun:
            is_new = not needed <= recorder.written
            with recorder.connected([self.owner.workflow_id], whole=is_new) as connection:
                if is_new:
                    definitions_store.write(connection, self.definitions.rows)
                return run_journal.begin(connection, recorder.schema, self._parameters)

        begun = recorder.patiently(attempt)
        recorder.written |= needed
        return begun

    def found(self, begun: Begun) -> Journal:
        """What is recorded of the run."""
        recorder, owner = self.recorder, self.owner
        if begun.status is None:
            raise NotDurableError(_elsewhere(owner, recorder))
        if not begun.is_mine:
            raise control_errors.lost(owner, begun.status)
        if begun.continuation is not None:
            found = self._continue(begun.continuation)
        elif begun.row is not None:
            found = {"runs": {str(self.values["id"]): {**begun.row, "completed_at": None}}}
        else:
            found = self._recorded()
        if self.with_outputs and recorder.is_joint():
            found["operation_outputs"] = self._outputs() if begun.has_outputs else {}
        if begun.beside is not None:
            beside = dict(begun.beside)
            if recorder.mirror is None:
                beside["has_steps"] = begun.has_outputs
            is_of_workflow = self.values["workflow_step"] is not None
            if begun.has_outputs and is_of_workflow and recorder.mirror is None:
                beside["torn_from"] = self._torn_from()
            found["beside"] = beside
        return found

    def _recorded(self) -> Journal:
        """What is recorded of a run that is there; its row says whether it may go on once more."""
        recorder, workflow_id, run_id = self.recorder, self.owner.workflow_id, self.values["id"]

        def work() -> Journal:
            with recorder.connected([workflow_id]) as connection:
                found = run_journal.journal(connection, run_id)
                row = found["runs"][str(run_id)]
                if row["status"] == "running":
                    run_continuations.note_recovery(connection, self._recovery(found, row))
                if row["cancel_reason"] == "code":
                    if recorder.mirror is not None:
                        recorder.mirror.copy_steps(connection, workflow_id)
                    given = {**self._parameters, "block": step_numbers.BLOCK}
                    row["may_go_on"] = run_journal.is_last(connection, recorder.schema, given)
                return found

        return recorder.patiently(work)

    def _recovery(self, found: Journal, row: dict[str, Any]) -> dict[str, Any]:
        """Who goes on with a run that an execution has left, and what is not made again."""
        calls = found.get("tool_calls", {}).values()
        checks = [found.get(f"{kind}guardrail_results", {}) for kind in ("", "tool_")]
        return {
            "run_id": self.values["id"],
            "token": self.owner.token,
            "executor_id": presence.own_executor()[0],
            "node": platform.node(),
            "process_id": os.getpid(),
            "turn": row["current_turn"],
            "answers": len(found.get("model_responses", {})),
            "calls": sum(call["completed_at"] is not None for call in calls),
            "checks": sum(map(len, checks)),
        }

    def _outputs(self) -> dict[str, dict[str, Any]]:
        recorder = self.recorder

        def work() -> dict[str, dict[str, Any]]:
            with recorder.engine.connect() as connection:
                return dbos_step_outputs.recorded(
                    connection, recorder.schema, self.owner.workflow_id
                )

        return recorder.patiently(work)

    def _torn_from(self) -> str | None:
        """The workflow of which this one is a fork that DBOS made, and cannot be."""
        recorder, workflow_id = self.recorder, self.owner.workflow_id

        def work() -> str | None:
            with recorder.engine.connect() as connection:
                block = step_numbers.BLOCK
                return dbos_forks.torn_from(connection, recorder.schema, workflow_id, block=block)

        return recorder.patiently(work)

    def _continue(self, row: dict[str, Any]) -> Journal:
        """Begin as the run that stands in the place of the caller's."""
        recorder = self.recorder
        run_id, number = uuid.UUID(row["run_id"]), self.values["workflow_step"]
        if row["workflow_step"] != number:
            recorder.patiently(lambda: self._stand_at(row))
        if row["kind"] == "ended":
            found = recorder.patiently(lambda: self._read(run_id))
        else:
            own = {"id": run_id, "root_run_id": run_id, "lane": None, "ordinal": None}
            values = {**self.values, **own, "asks_beside": False}
            if row["kind"] == "forked":
                values["forked_from_run_id"] = uuid.UUID(row["source_run_id"])
                values["forked_at_turn"] = row["turn"]
            if row["input"] is not None and "replace" in row["input"]:
                values["input"] = row["input"]["replace"]
            beginning = _Beginning(recorder, self.owner, self.definitions, values, False)
            found = beginning.found(beginning.written())
        return {**found, "continuations": {str(run_id): row}}

    def _stand_at(self, row: dict[str, Any]) -> None:
        with self.recorder.transactions.begin() as connection:
            run_continuations.stand_at(connection, row, self.values["workflow_step"])

    def _read(self, run_id: uuid.UUID) -> Journal:
        with self.recorder.engine.connect() as connection:
            return run_journal.journal(connection, run_id)


def _elsewhere(owner: Owner, found: Recorder) -> str:
    where = f"workflow {owner.workflow_id!r} is not in {shown(found.url)}"
    if found.mirror is not None:
        path = found.mirror.engine.url.render_as_string()
        return f"{where}'s SQLite file: set DBOS's system_database_url to {path!r}"
    return (
        f"{where}, where Timestep keeps its rows: DBOS and Timestep must share one database, so "
        "set DBOS's system_database_url and TIMESTEP_DB_URL to the same one"
    )
