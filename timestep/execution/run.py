"""One run as it goes on in this process: who it is, what is recorded of it, where it stands."""

from __future__ import annotations

import asyncio
import datetime
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from agents import Agent, Usage

from timestep.dbos_internals import step_numbers, workflow_scope
from timestep.dbos_internals.step_numbers import StepReservation
from timestep.dbos_internals.step_records import Records
from timestep.errors import ReplayError, RunTimeoutError
from timestep.execution.commits import Landing
from timestep.execution.context_changes import ContextChanges
from timestep.execution.ordering import Deliveries, Line
from timestep.execution.pending_calls import Call
from timestep.journal import begin_or_recover
from timestep.journal.checkpoints import SDK_VERSION, Checkpoint, States
from timestep.journal.recorder import Journal, Recorder
from timestep.runtime.cancellation import Cut, to_its_end
from timestep.serialization.agent_definitions import Definitions, describe
from timestep.store import dbos_step_outputs

_NAMESPACE = uuid.UUID("b7a1ce0a-6c3e-5d4a-8c58-6a1f0f3f9f52")

OF_CALLS = "call:"
"""Keys of checks that begin with this are of one tool call: no later turn counts them on."""

_STEPS = ("model_responses", "tool_calls", "guardrail_results", "step_values")

Rows = dict[str, list[dict[str, Any]]]


class Run:
    """A run of an agent. Everything here belongs to one execution of its workflow."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        owner: workflow_scope.Owner,
        key: str,
        workflow_step: int | None,
        parent: Run | None,
        numbers: step_numbers.StepNumbers | None,
    ) -> None:
        self.recorder = recorder
        self.owner = owner
        self.id = uuid.uuid5(_NAMESPACE, key)
        self.workflow_step = workflow_step
        self.place: tuple[int, int] | None = None
        """Which run of its workflow it is: its task, and how many runs that began before."""
        self.continuation: dict[str, Any] | None = None
        """What it goes on with, where it does not begin at its beginning."""
        self.parent = parent
        self.root_id: uuid.UUID = parent.root_id if parent is not None else self.id
        self.numbers = numbers
        self.records: Records | None = None
        """Answers DBOS's look-ups, where its steps are recorded together with their rows."""
        self.agent: Agent[Any] | None = None
        self.definitions = Definitions()
        self.journal: Journal = {}
        self.turn = 0
        self.responses = 0
        self.turn_calls: list[Call] = []
        """The calls that the newest answer asked this run to make, in its order."""
        self.calls: dict[str, deque[Call]] = {}
        """Those of them that were not made yet, by the provider's id."""
        self.made: dict[str, Call] = {}
        self.children: dict[uuid.UUID, Run] = {}
        self.decisions: dict[uuid.UUID, dict[str, Any]] = {}
        self.waiting: Rows = {}
        self.states = States(self.id)
        self.checkpoint: Checkpoint | None = None
        """A state to be written with the next answer."""
        self.sources: dict[str, Journal] = {}
        """What is recorded of other runs whose steps DBOS copied to this one."""
        self.models: dict[int, Any] = {}
        self.ledger: Any = None
        self.context = ContextChanges()
        self.is_begun = False
        self.has_hooks = True
        """Whether code of the user's hears of each step as it ends."""
        self.stream: Any = None
        """Drives the streamed loop, where the run is streamed."""
        self.stop_stream: Callable[[], None] | None = None
        """Ends the stream for its reader, as its reader may."""
        self.timeout: float | None = None
        """Seconds that the run has until it ends, or stops for a person, or none."""
        self.approval_timeout: float | None = (
            parent.approval_timeout if parent is not None else None
        )
        """Seconds that people have to decide what it asks, or none."""
        self.cut = Cut()
        """Ends this execution of the run, before its own end."""
        self.is_cut = False
        self.input_checks: deque[StepReservation | None] = deque()
        self.interrupted_calls: frozenset[str] = frozenset()
        self.interrupted_result: Any = None
        self.kept: set[asyncio.Task[Any]] = set()
        """DBOS steps whose rows are there, or on their way; their callers may be cancelled."""
        self.landing = Landing()
        self.may_skip: Callable[[str], bool] = lambda _: False
        """Whether the SDK may not make a call, by its id: it was made before, or is rejected."""
        self.is_replaying = False
        """Whether its record holds something, and it has executed no step so far."""
        self.answer_usage: Usage | None = None
        """What the newest answer used, its failed attempts included."""
        self.is_new = False
        """Whether no earlier execution recorded anything of it."""
        self.stream_batches: list[dict[str, Any]] | None = None
        """What earlier executions recorded of its streams, once it was read."""
        self.step_id: uuid.UUID | None = None
        """The step of its parent that counts what it uses, too, if one does."""
        self.session_revision: int | None = None
        self.session_changes = 0
        self.line = Line()
        self._positions = 0
        self.deliveries = Deliveries(self.id, self.journal)
        self._failure: BaseException | None = None
        self._check_numbers: dict[str, int] = {}
        self.ended = asyncio.Event()
        """Set when this execution of it is over."""
        self._writing: set[asyncio.Future[None]] = set()
        self._calls_written: asyncio.Future[None] | None = None
        """Done when the rows of calls are there that did not come with an answer."""

    # What is recorded

    async def begin(self, agent: Agent[Any], values: dict[str, Any]) -> None:
        """Write the run's row, or read what an earlier execution recorded of it."""
        values = {
            **values,
            "id": self.id,
            "workflow_step": self.workflow_step,
            "parent_run_id": self.parent.id if self.parent else None,
            "root_run_id": self.root_id,
            "agent_id": self.definitions.agent_ids[id(agent)],
            "sdk_version": SDK_VERSION,
            "metadata": self._metadata(),
            "lane": self.place[0] if self.place is not None else None,
            "ordinal": self.place[1] if self.place is not None else None,
            "forked_from_run_id": None,
            "forked_at_turn": None,
        }
        scope = workflow_scope.scope() if self.numbers is not None else None
        asks = scope is not None and scope.records is None
        try:
            journal = await begin_or_recover.begin(
                self.recorder, self.owner, self.definitions, values, with_outputs=asks
            )
        except asyncio.CancelledError:
            # Its row may be there by now, and has to end.
            self.is_begun = True
            raise
        recorded = journal.pop("operation_outputs", None)
        if scope is not None:
            if recorded is not None and scope.records is None:
                scope.records = Records(self.owner, recorded)
            self.records = scope.records
        self._continue(journal.pop("continuations", {}))
        if self.continuation is None or self.is_of_the_past:
            self._check_same(journal["runs"][str(self.id)], values)
        self.is_begun = True
        self.is_new = "input" not in journal["runs"][str(self.id)]
        self.journal.update(journal)
        self.is_replaying = not journal.keys().isdisjoint(_STEPS)
        self.session_revision = journal["runs"][str(self.id)]["session_revision"]
        self.states.resume(journal.get("run_states", {}))

    def _continue(self, rows: dict[str, dict[str, Any]]) -> None:
        """Be the run that stands in the place of this one, if one does."""
        for row in rows.values():
            self.continuation = row
            self.id = self.root_id = uuid.UUID(row["run_id"])
            self.states = States(self.id)
            self.deliveries = Deliveries(self.id, self.journal)

    @property
    def is_of_the_past(self) -> bool:
        """Whether it ended before what its workflow goes on from: nothing is added to it."""
        return self.continuation is not None and self.continuation["kind"] == "ended"

    def refusal(self, name: str) -> ReplayError:
        """What a run of the past answers to what its record does not hold."""
        return ReplayError(
            f"{name} is not in the record of run {self.id}, which ended before the point that "
            f"workflow {self.owner.workflow_id!r} goes on from: the code takes other steps in it"
        )

    def progress(self) -> dict[str, Any]:
        """How far its numbers have come."""
        return {
            "positions": self._positions,
            "responses": self.responses,
            "session_changes": self.session_changes,
            "checks": {
                key: count
                for key, count in self._check_numbers.items()
                if not key.startswith(OF_CALLS)
            },
        }

    def go_on_from(self, progress: dict[str, Any], turn: int) -> None:
        """Go on with a turn of which the record holds a part: its numbers are told apart by it.

        Args:
            progress: How far they had come when the turn began.
            turn: The turn, counted from 1.
        """
        self._positions = progress["positions"]
        self.responses = progress["responses"]
        self.session_changes = progress["session_changes"]
        self._check_numbers = dict(progress["checks"])
        self.deliveries.skip_before(turn)

    def _metadata(self) -> dict[str, Any]:
        """Where what the run uses is counted, too: in the step that it is inside of."""
        return {"counted_in_step": str(self.step_id)} if self.step_id is not None else {}

    def _check_same(self, row: dict[str, Any], values: dict[str, Any]) -> None:
        """Refuse the record of another run: parallel tasks may have started in another order."""
        if "input" in row and row["input"] != values["input"]:
            raise ReplayError(
                f"run {self.id} was recorded with the input {row['input']!r} and is replayed with "
                f"{values['input']!r}: start runs that go on at the same time in a fixed order, or "
                "each in a workflow of its own"
            )

    def resume(self) -> None:
        """Go on after an interruption, with numbers that follow those drawn before it."""
        self.interrupted_calls = frozenset()
        self.ended = asyncio.Event()
        self.cut = Cut()
        self.draw_again()

    def draw_again(self) -> None:
        """Draw numbers for the calls of a turn that is gone on with."""
        # Every call of the turn, also those that were made: which of them were when the run
        # stopped may depend on timing, and what is drawn here must not.
        self.calls = {}
        for call in self.turn_calls:
            call.checks = {key: self.draw() for key in call.numbered_checks}
            call.number = self.draw()
            self.calls.setdefault(call.row["call_id"], deque()).append(call)

    def recorded(self, table: str, id_: uuid.UUID) -> dict[str, Any] | None:
        """The row that an earlier execution of this step wrote."""
        rows = self.journal.get(table)
        return rows.get(str(id_)) if rows else None

    def family(self) -> Iterator[Run]:
        """The runs inside it that were started in this execution, at any depth."""
        for child in self.children.values():
            yield child
            yield from child.family()

    @property
    def own_row(self) -> dict[str, Any] | None:
        return self.recorded("runs", self.id)

    @property
    def is_over(self) -> bool:
        """Whether the record says that the run has ended."""
        row = self.own_row
        return row is not None and row["completed_at"] is not None

    async def commit(
        self, rows: Rows, output: dbos_step_outputs.Row | None = None, *, is_end: bool = False
    ) -> None:
        """Write a step's rows, together with the items and the checkpoint that wait.

        Args:
            rows: The rows of each table.
            output: DBOS's record of the step, where it is written with them.
            is_end: Whether they are the run's end, and not a step's.
        """
        if self.landing.is_ahead:
            # What they tell of has been: a caller who is cancelled meanwhile lets it be written.
            await to_its_end(self._commit_once_landed(rows, output, is_end=is_end))
        else:
            await self._commit(rows, output, is_end=is_end)

    async def _commit_once_landed(
        self, rows: Rows, output: dbos_step_outputs.Row | None, *, is_end: bool
    ) -> None:
        await self.landing.over()
        await self._commit(rows, output, is_end=is_end)

    async def _commit(
        self, rows: Rows, output: dbos_step_outputs.Row | None, *, is_end: bool
    ) -> None:
        if self.control_error is not None and not is_end:
            raise self.control_error
        if self.is_of_the_past:
            raise self.refusal("its end" if is_end else "a step")
        if self.is_cut_off and not is_end:
            # A tool may answer its cancellation, and end well too late.
            raise asyncio.CancelledError
        has_calls = "tool_calls" in self.waiting
        for name, waiting in self.waiting.items():
            given = rows.setdefault(name, [])
            known = {row["id"] for row in given}
            given.extend(row for row in waiting if row["id"] not in known)
        self.waiting = {}
        if self.checkpoint is not None and "model_responses" in rows:
            state, self.checkpoint = self.checkpoint, None
            rows["run_states"] = [self.states.checkpoint_row(state)]
        rows = {name: given for name, given in rows.items() if given}
        await self._write(rows, output, has_calls=has_calls)

    async def keep(self, output: dbos_step_outputs.Row) -> None:
        """Write DBOS's record of a step whose rows are there."""
        await self._write({}, output)

    async def _write(
        self, rows: Rows, output: dbos_step_outputs.Row | None, *, has_calls: bool = False
    ) -> None:
        calls, written = self._calls_written, asyncio.get_running_loop().create_future()
        if has_calls:
            # Calls of this turn end at once, and the others' rows refer to what this one writes.
            self._calls_written = written
        self._writing.add(written)
        try:
            if calls is not None and not calls.done():
                await to_its_end(self._write_after(calls, rows, output))
            else:
                await self.recorder.commit(self.owner, rows, output)
        finally:
            self._writing.discard(written)
            written.set_result(None)

    async def _write_after(
        self, other: asyncio.Future[None], rows: Rows, output: dbos_step_outputs.Row | None
    ) -> None:
        await asyncio.wait([other])
        await self.recorder.commit(self.owner, rows, output)

    @property
    def is_cut_off(self) -> bool:
        """Whether it was cut off, or a run around it."""
        is_cut = self.is_cut or self.cut.cause is not None
        return is_cut or (self.parent is not None and self.parent.is_cut_off)

    async def cut_off(self) -> None:
        """Let nothing that goes on behind the run's back be recorded from now on."""
        self.is_cut = True
        if writing := [done for run in (self, *self.family()) for done in run._writing]:
            await asyncio.wait(writing)

    def has_checkpoint(self, turn: int) -> bool:
        if "run_states" not in self.journal:
            return False
        return self.recorded("run_states", self.states.checkpoint_id(turn)) is not None

    # Numbers and places

    def draw(self) -> StepReservation | None:
        """The next step number; None inside a step, where DBOS numbers nothing."""
        return self.numbers.draw() if self.numbers is not None else None

    def next_position(self) -> int:
        self._positions += 1
        return self._positions

    def check_key(self, key: str) -> int:
        """How many checks of this key came before: the same guardrail may run twice."""
        count = self._check_numbers.get(key, 0)
        self._check_numbers[key] = count + 1
        return count

    def start_timer(self) -> None:
        """Count the run's timeout, from the run's beginning or the decisions it waited for."""
        if self.timeout is None or self.is_over:
            return
        row = self.own_row or {}
        moments = [row["resolved_at"] for row in self.decisions.values() if "resolved_at" in row]
        if not self.decisions and "started_at" in row:
            moments.append(datetime.datetime.fromisoformat(row["started_at"]))
        elapsed = time.time() - max(moments).timestamp() if moments else 0.0
        error = RunTimeoutError(f"run {self.id} did not end within {self.timeout:g} s")
        self.cut.after(self.timeout - elapsed, error)

    @property
    def control_error(self) -> BaseException | None:
        """What ends the run, and the SDK must not answer."""
        return self.landing.failure if self._failure is None else self._failure

    def fail(self, error: BaseException) -> None:
        """Let an error end the run that the SDK must not answer."""
        self._failure = error

    async def settle(self) -> None:
        """Let steps end that nobody waits for any more: the run's end comes after them."""
        await self.landing.over()
        if waiting := {*self.kept, *self._writing}:
            await asyncio.wait(waiting)

    def close(self) -> None:
        """End the waits for its end; one that has ended goes as soon as nobody has it.

        Else it would be in circles, with all its items, and only a whole collection of
        garbage, which looks at everything there is, would free it.
        """
        self.ended.set()
        if self.interrupted_calls:
            return
        self.models.clear()
        self.stream = self.stop_stream = None
        if self.parent is None:
            # Not sooner: those inside an ended run may go on, and its parent may have to end them.
            for run in (self, *self.family()):
                run.children = {}

    # Definitions

    async def agent_id(self, agent: Agent[Any]) -> uuid.UUID:
        """The row of an agent, written now if the run met it only now."""
        if id(agent) not in self.definitions.agent_ids:
            found = describe([agent])
            await self.recorder.write_definitions(found)
            self.definitions.agents.extend(found.agents)
            self.definitions.agent_ids.update(found.agent_ids)
            self.definitions.tool_ids.update(found.tool_ids)
            self.definitions.guardrail_ids.update(found.guardrail_ids)
            self.definitions.tool_guardrail_ids.update(found.tool_guardrail_ids)
        return self.definitions.agent_ids[id(agent)]
