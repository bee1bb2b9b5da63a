"""Commits what steps write: one step, one transaction, only for the workflow's owner."""

from __future__ import annotations

import asyncio
import threading
import uuid
import weakref
from collections.abc import Collection
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from timestep import config
from timestep.database.async_pool import Answered
from timestep.dbos_internals import control_errors, step_numbers, step_records
from timestep.dbos_internals.workflow_scope import Owner
from timestep.errors import DatabaseError
from timestep.journal.kept_outcomes import KeptOutcomes
from timestep.journal.reads.database import Database, Databases
from timestep.runtime import logs, process_state
from timestep.runtime.cancellation import in_thread, over, to_its_end
from timestep.serialization.agent_definitions import Definitions
from timestep.serialization.values import column_of
from timestep.store import dbos_step_outputs, run_continuations, step_commit
from timestep.store import definitions as definitions_store
from timestep.store import run_journal as runs_store

Journal = dict[str, dict[str, dict[str, Any]]]

_log = logs.logger()


class Recorder(Database):
    """Writes to one database. Its methods may be awaited from any event loop."""

    def __init__(self, url: sa.URL, engine: sa.Engine | None = None) -> None:
        super().__init__(url, engine)
        self.kept = KeptOutcomes()
        """Outcomes that could not be recorded."""
        self.written: set[Any] = set()
        """The definitions that are there: each is written once."""
        self._joint_lock = threading.Lock()
        self._joint: weakref.WeakKeyDictionary[object, bool] = weakref.WeakKeyDictionary()
        """Whether steps are recorded together with DBOS's own record, for each of its launches."""

    def knows_if_joint(self) -> bool:
        """Whether `is_joint` was answered since DBOS's launch, so that it asks nothing more."""
        with self._joint_lock:
            return step_records.system_database() in self._joint

    def is_joint(self) -> bool:
        """Whether the statement that writes a step's rows writes DBOS's record of it, too.

        Looked up once for each launch of DBOS; a fall-back is said in the log then.
        """
        system = step_records.system_database()
        with self._joint_lock:
            found = self._joint.get(system)
            if found is None:
                reason = self._obstacle()
                if reason is not None:
                    _log.warning("DBOS records the steps itself, which costs more: %s", reason)
                found = self._joint[system] = reason is None
        return found

    def _obstacle(self) -> str | None:
        if config.read().ordinary_steps:
            return "TIMESTEP_ORDINARY_STEPS is true"
        if self.mirror is not None:
            return "its records are in SQLite, and the rows in PGlite"

        def work() -> dbos_step_outputs.Shape:
            with self.engine.connect() as connection:
                return dbos_step_outputs.shape(connection, self.schema)

        return step_records.obstacle(self.patiently(work))

    async def write_definitions(self, definitions: Definitions) -> None:
        """Write definitions that came up while a run was going on."""
        await self.change(lambda connection: definitions_store.write(connection, definitions.rows))

    async def revive(self, owner: Owner, run_id: uuid.UUID) -> None:
        """Let a run go on that was cut off; one step's rows, at least, follow."""
        given = {"id": run_id, "workflow_id": owner.workflow_id, "token": owner.token}
        await self.read(
            lambda connection: runs_store.revive(connection, self.schema, given),
            about=[owner.workflow_id],
        )

    async def commit(
        self,
        owner: Owner,
        rows: dict[str, list[dict[str, Any]]],
        output: dbos_step_outputs.Row | None = None,
        *,
        is_outcome: bool = False,
    ) -> None:
        """Write a step's rows in one transaction.

        A database that is away is waited for: the step's effect has happened, and giving up
        would lose it.

        Args:
            owner: Whose step it is.
            rows: The rows of each table.
            output: DBOS's own record of the step, where it is written with them.
            is_outcome: Whether they tell of an effect that has been.

        Raises:
            DBOSWorkflowCancelledError: The workflow is cancelled. An outcome was written all the
                same, and nothing else was.
            DBOSWorkflowConflictIDError: Another execution owns the workflow; nothing was written.
            DBOSStepNondeterminismError: DBOS has another record of the step's number.
        """
        sql = step_commit.statement(
            rows, self.schema, is_joint=output is not None, is_outcome=is_outcome
        )
        parameters: dict[str, Any] = {} if output is None else {**vars(output)}
        parameters |= {name: column_of(given) for name, given in rows.items()}
        parameters |= {"workflow_id": owner.workflow_id, "token": owner.token}
        if self.mirror is not None:
            answer = await in_thread(lambda: self._commit_copied(owner, sql, parameters))
        else:
            answer = await self._commit_now(owner, sql, parameters, output)
        status, is_mine = answer if answer is not None else (None, False)
        if is_mine not in (True, "t") or status == "CANCELLED":
            raise control_errors.lost(owner, status)

    async def _commit_now(
        self,
        owner: Owner,
        sql: str,
        parameters: dict[str, Any],
        output: dbos_step_outputs.Row | None,
    ) -> Any:
        """Commit in the caller's own task, which costs least.

        Whatever comes between is left to `_commit`, which is not cancelled, and sends it again.
        """
        try:
            return await self.sent_once(sql, parameters)
        except Answered:
            raise
        except asyncio.CancelledError:
            await over(asyncio.ensure_future(self._commit(owner, sql, parameters, output)))
            raise
        except (psycopg.Error, SQLAlchemyError):
            return await to_its_end(self._commit(owner, sql, parameters, output))

    async def _commit(
        self,
        owner: Owner,
        sql: str,
        parameters: dict[str, Any],
        output: dbos_step_outputs.Row | None,
    ) -> Any:
        try:
            return await self.sent(sql, parameters)
        except DatabaseError as error:
            if output is None or _constraint(error) != dbos_step_outputs.KEY:
                raise
            written = await asyncio.to_thread(self._completed_at, owner, output.number)
            if written != output.completed_at:
                raise control_errors.twice(owner, output.number) from error
            # It is this very record: the connection was lost after it was written.
            return ("PENDING", True)

    def _completed_at(self, owner: Owner, number: int) -> int | None:
        def work() -> int | None:
            with self.engine.connect() as connection:
                return dbos_step_outputs.completed_at(
                    connection, self.schema, owner.workflow_id, number
                )

        return self.patiently(work)

    def _commit_copied(self, owner: Owner, sql: str, parameters: dict[str, Any]) -> Any:
        def attempt() -> Any:
            with self.connected([owner.workflow_id]) as connection:
                given = step_commit.as_of_now(parameters)
                return connection.exec_driver_sql(sql, given).one_or_none()

        return self.patiently(attempt)

    async def cancelled(self, workflow_id: str, root_run_id: uuid.UUID | None) -> None:
        """End a workflow's runs as cancelled; its workflow has ended, so nobody owns it."""
        await in_thread(
            lambda: self.patiently(lambda: self._end_cancelled(workflow_id, root_run_id))
        )

    def _end_cancelled(self, workflow_id: str, root_run_id: uuid.UUID | None) -> None:
        with self.connected([workflow_id]) as connection:
            runs_store.cancelled(connection, self.schema, workflow_id, root_run_id)

    def reopen(self, workflow_id: str, caller: Owner, token: str) -> bool:
        """Let a cancelled workflow go on as its caller does, owned by `token`; whether it does."""
        parameters = {"workflow_id": workflow_id, "token": token}
        parameters |= {"caller": caller.workflow_id, "caller_token": caller.token}

        def attempt() -> bool:
            with self.system() as (connection, schema):
                return runs_store.reopened(connection, schema, parameters)

        return self.patiently(attempt)

    def holders(self, workflow_ids: Collection[str]) -> dict[str, tuple[str, str | None]]:
        """The status of workflows and the token of the execution that owns each."""
        with self.connected(workflow_ids) as connection:
            return runs_store.holders(connection, self.schema, workflow_ids)

    def draws_apart(self, workflow_id: str) -> bool | None:
        """Whether only the body's task has a workflow's own counter; None: no run is recorded."""
        return self._have_all("after_step", workflow_id, below=None)

    def keeps_numbers(self, workflow_id: str) -> bool | None:
        """Whether the runs of a workflow's body keep numbers; None: none of them is recorded."""
        return self._have_all("keeps_numbers", workflow_id, below=step_numbers.BLOCK)

    def _have_all(self, name: str, workflow_id: str, *, below: int | None) -> bool | None:
        schema = self.schema if self.mirror is None else None

        def attempt() -> bool | None:
            with self.engine.connect() as connection:
                return run_continuations.have_all(
                    connection, name, workflow_id, schema=schema, below=below
                )

        return self.patiently(attempt)

    def go_on(self, owner: Owner, run_ids: Collection[uuid.UUID]) -> None:
        """Note that runs go on whose questions are decided.

        Raises:
            DBOSWorkflowCancelledError, DBOSWorkflowConflictIDError: The execution does not own its
                workflow any more; nothing was written.
        """
        given = {"ids": list(run_ids), "workflow_id": owner.workflow_id, "token": owner.token}

        def attempt() -> tuple[str | None, str | None]:
            with self.connected([owner.workflow_id]) as connection:
                return runs_store.go_on(connection, self.schema, given)

        status, token = self.patiently(attempt)
        if (status, token) != ("PENDING", owner.token):
            raise control_errors.lost(owner, status)

    def end_cancelled(self) -> None:
        """End the runs whose workflows were cancelled while no execution of them was there."""
        with self.engine.connect() as connection:
            runs_store.all_cancelled(connection, self.schema)


def _constraint(error: DatabaseError) -> str | None:
    cause = error.__cause__
    return cause.diag.constraint_name if isinstance(cause, psycopg.Error) else None


def recorder() -> Recorder:
    """The recorder of the configured database.

    Raises:
        ConfigurationError: The settings cannot work.
    """
    return process_state.of(Databases).configured(Recorder)
