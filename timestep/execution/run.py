"""Holds one run as it goes on in this process: who it is, where it stands, and its parts."""

from __future__ import annotations

import asyncio
import datetime
import json
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from agents import Agent, Model, RunState
from agents.guardrail import InputGuardrailResult

from timestep.dbos_internals.step_numbers import Keeping, StepNumbers, StepReservation
from timestep.dbos_internals.step_records import Records, SharedRecords
from timestep.dbos_internals.workflow_scope import Owner
from timestep.errors import ReplayError
from timestep.execution.commits import Commits, Rows
from timestep.execution.context_changes import ContextChanges
from timestep.execution.counters import Counters
from timestep.execution.limits import Limits
from timestep.execution.pending_calls import PendingCalls
from timestep.execution.questions import Questions
from timestep.execution.record import RunRecord
from timestep.execution.replay.agent_changes import AgentUse
from timestep.execution.replay.call_order import CallOrder
from timestep.execution.replay.ordering import GuardrailOrder, StartOrder
from timestep.execution.replay.run_order import RunEnds, RunOrder
from timestep.execution.replay.session_contents import SessionContents
from timestep.execution.streaming import Streaming
from timestep.journal import begin_or_recover
from timestep.journal.checkpoints import SDK_VERSION, Checkpoint, States
from timestep.journal.recorder import Journal, Recorder
from timestep.runtime.cancellation import over
from timestep.runtime.terminal import where_they_differ
from timestep.serialization.agent_definitions import Definitions, describe
from timestep.serialization.ids import derived
from timestep.serialization.registered_types import PROCESS, RegisteredTypes

_SETS_ASIDE = "sets_aside"
"""Is true in the metadata of a streamed run for which step numbers are set aside."""

_KEEPS = "keeps_numbers"
"""Is true in the metadata of a run of a workflow's body whose runs keep numbers."""

_AFTER_STEP = "after_step"
"""Is the `after_step` of a run, in its metadata."""

_NAMESPACE = uuid.UUID("b7a1ce0a-6c3e-5d4a-8c58-6a1f0f3f9f52")

__all__ = ["History", "Rows", "Run"]


class History(Protocol):
    """What the SDK's loop has told of a run; made in `timestep.sdk.state.run_history`."""

    @property
    def tripped(self) -> InputGuardrailResult | None:
        """The check of the input that tripped."""

    def whole_state(self, run: Run, state: Callable[[], RunState[Any]]) -> Checkpoint | None:
        """A state as JSON, to be recorded; None where it cannot be written down."""


class Run:
    """A run of an agent. Everything here belongs to one execution of its workflow.

    Args:
        recorder: Where the run is recorded.
        owner: The execution of the workflow that the run is part of.
        key: What the run's id is made of: the same in every execution.
        workflow_step: DBOS's step number with which the run began; None inside a step.
        parent: The run that this one is inside of.
        numbers: Draws DBOS's step numbers; None inside a step, where DBOS numbers nothing.
        shared: DBOS's records, which the workflow's runs read once; None inside a step.
        order: The order in which it ends among the runs beside it.
        place: Which run of its workflow it is: its task, and how many runs that began before.
        after_step: The newest number of the workflow's own counter when it began, where that is
            the body's task's alone; what earlier versions recorded has none.
        keeping: Whether the runs of its workflow's body keep numbers; None where it is none.
    """

    def __init__(
        self,
        *,
        recorder: Recorder,
        owner: Owner,
        key: str,
        workflow_step: int | None,
        parent: Run | None,
        numbers: StepNumbers | None,
        shared: SharedRecords | None,
        order: RunOrder,
        place: tuple[int, int] | None = None,
        after_step: int | None = None,
        keeping: Keeping | None = None,
    ) -> None:
        self.recorder = recorder
        self.owner = owner
        self.id = derived(_NAMESPACE, key)
        self.parent = parent
        self.root_id: uuid.UUID = parent.root_id if parent is not None else self.id
        self.children: dict[uuid.UUID, Run] = {}
        self._workflow_step = workflow_step
        self._place = place
        self._after_step = after_step
        self._keeping = keeping
        self._shared = shared
        self._counted_in: uuid.UUID | None = None

        self.agent: Agent[Any] | None = None
        """The agent whose turn it is."""
        self.turn = 0
        self.definitions = Definitions()
        self.types: RegisteredTypes = RegisteredTypes(PROCESS if parent is None else parent.types)
        """The classes that its agents, tools and context declare, and those of its parent."""
        self.has_hooks = True
        """Whether code of the user's hears of each step as it ends."""
        self.models: dict[int, Model] = {}
        """The durable models of the run, by the identity of the model that each asks."""
        self.input_checks: deque[StepReservation | None] = deque()
        """The step numbers of the checks of the run's input, which were drawn at its start."""

        self.record = RunRecord(self.id, owner, recorder)
        self.dbos_records: Records | None = None
        """Answers DBOS's look-ups, where its steps are recorded together with their rows."""
        self.counters = Counters(numbers)
        self.calls = PendingCalls(self.counters)
        self.questions: Questions = Questions(
            parent.questions.timeout if parent is not None else None
        )
        self.limits: Limits = Limits(parent.limits if parent is not None else None)
        self.commits = Commits(recorder, owner, self.record, self.limits)
        self.states = States(self.id)
        self.context = ContextChanges()
        self.agent_use = AgentUse()
        self.streaming = Streaming()
        self.starts = StartOrder()
        self.guardrails = GuardrailOrder(self.record)
        self.ends = RunEnds(order, self.id, owner.workflow_id)
        self.call_ends = CallOrder(self.record)
        self.order_inside = RunOrder(is_repeated=False)
        """The order in which the runs end that are inside its steps."""
        self.session: object = None
        """The session that its loop asks, whatever is in the place of a method of it."""
        self.session_contents: dict[int, SessionContents] = {}
        """What its record says of sessions that may be in memory, by their identity."""
        self._history: History | None = None

    # How it begins

    def take_options(
        self,
        *,
        timeout: float | None,
        approval_timeout: float | None,
        has_hooks: bool,
        session: object,
    ) -> None:
        """Take the options of the runner that have to do with how the run goes on.

        Args:
            timeout: Seconds until it must have ended, or none.
            approval_timeout: Seconds that people have to decide; none leaves it as it is.
            has_hooks: Whether code of the user's hears of each step as it ends.
            session: What its loop asks for what was said before.
        """
        self.session = session
        self.limits.timeout = timeout
        self.has_hooks = has_hooks
        if approval_timeout is not None:
            self.questions.timeout = approval_timeout

    def set_numbers_aside(self) -> None:
        """Draw from numbers of its own: what is begun while the run goes on draws others."""
        if self._workflow_step is not None:
            self.counters.set_aside(self._workflow_step)

    def keep_numbers(self) -> None:
        """Draw from numbers that are drawn after the run where nothing is drawn beside it."""
        self.counters.keep()

    def begin_with(self, history: History, counted_in: uuid.UUID | None) -> None:
        """Say what a new run begins with.

        Args:
            history: Keeps what the SDK's loop tells of it.
            counted_in: The step of its parent that counts what it uses, too, if one does.
        """
        self._history = history
        self._counted_in = counted_in

    @property
    def history(self) -> History:
        """What the SDK's loop has told of the run so far."""
        assert self._history is not None  # Set before the loop begins.
        return self._history

    async def begin(
        self, agent: Agent[Any], definitions: Definitions, values: dict[str, Any]
    ) -> None:
        """Write the run's row, or read what an earlier execution recorded of it.

        Args:
            agent: The agent that begins.
            definitions: What the agent, and those it can hand off to, are made of.
            values: The columns that the run's options give: its input, session and turns.

        Raises:
            ReplayError: The record is that of another run, or a fork's that DBOS could not make.
            NotDurableError, DatabaseError: As `begin_or_recover.begin` raises them.
        """
        self.agent = agent
        self.definitions = definitions
        self.agent_use.begin(definitions.agents)
        values = {
            **values,
            "id": self.id,
            "workflow_step": self._workflow_step,
            "parent_run_id": self.parent.id if self.parent else None,
            "root_run_id": self.root_id,
            "agent_id": definitions.agent_ids[id(agent)],
            "sdk_version": SDK_VERSION,
            "metadata": self._metadata(),
            "lane": self._place[0] if self._place is not None else None,
            "ordinal": self._place[1] if self._place is not None else None,
            "forked_from_run_id": None,
            "forked_at_turn": None,
            "begun_after": self.ends.begun_after,
            "asks_beside": not self.ends.order.is_read,
        }
        shared = self._shared
        asks = shared is not None and shared.records is None
        beginning = asyncio.ensure_future(
            begin_or_recover.begin(
                self.recorder, self.owner, definitions, values, with_outputs=asks
            )
        )
        try:
            await asyncio.shield(beginning)
        except asyncio.CancelledError:
            await over(beginning)
            if beginning.cancelled() or beginning.exception() is not None:
                # Its row may be there by now, and has to end.
                self.record.is_begun = True
            else:
                # What is recorded of the run's end holds for this one, too.
                self._read(beginning.result(), values)
            raise
        self._read(beginning.result(), values)

    def _read(self, journal: Journal, values: dict[str, Any]) -> None:
        """Take what the journal holds of the run, and of those beside it."""
        shared = self._shared
        recorded = journal.pop("operation_outputs", None)
        if shared is not None:
            if recorded is not None and shared.records is None:
                shared.records = Records(self.owner, recorded)
            self.dbos_records = shared.records
        if (beside := journal.pop("beside", None)) is not None:
            self.ends.order.read(beside)
        self._continue(journal.pop("continuations", {}))
        if self.record.continuation is None or self.record.is_of_the_past:
            self._check_same(journal["runs"][str(self.id)], values)
        self.record.read(journal)
        own = journal["runs"][str(self.id)]
        if self._keeping is not None and self._keeping.is_known is None:
            self._keeping.is_known = self.record.is_new or _KEEPS in own["metadata"]
        if not self.record.is_new and _SETS_ASIDE not in own["metadata"]:
            self.counters.give_back()
        self.ends.read(self.id, own, may_go_on=self.record.may_go_on)
        self.states.resume(journal.get("run_states", {}))
        refusal = self.recorder.kept.refusal(self.owner.workflow_id, str(self.id))
        if refusal is not None:
            raise refusal
        if beside is not None and (torn_from := beside.get("torn_from")) is not None:
            raise ReplayError(
                f"workflow {self.owner.workflow_id!r} is a fork that DBOS made of {torn_from!r}, "
                "whose tasks ran agents side by side: DBOS copies steps by their numbers, and of "
                "other tasks it copied none of those that came before. They would be made again, "
                "and need not end alike; fork with timestep.fork_run, or from step 1"
            )

    def _continue(self, rows: dict[str, dict[str, Any]]) -> None:
        """Be the run that stands in the place of this one, if one does."""
        for row in rows.values():
            self.record.continue_as(row)
            self.id = self.root_id = self.record.run_id
            self.states = States(self.id)

    def _metadata(self) -> dict[str, Any]:
        """Where what the run uses is counted, too, and where it draws its numbers."""
        found: dict[str, Any] = {}
        if self._counted_in is not None:
            found["counted_in_step"] = str(self._counted_in)
        if self.counters.are_set_aside:
            found[_SETS_ASIDE] = True
        if self._keeping is not None and self._keeping.is_known is not False:
            found[_KEEPS] = True
        if self._after_step is not None:
            found[_AFTER_STEP] = self._after_step
        return found

    def _check_same(self, row: dict[str, Any], values: dict[str, Any]) -> None:
        """Refuse the record of another run: parallel tasks may have started in another order."""
        if "input" in row and row["input"] != values["input"]:
            recorded, given = map(json.dumps, (row["input"], values["input"]))
            was, is_now = where_they_differ(recorded, given)
            raise ReplayError(
                f"run {self.id} was recorded with the input {was} and is replayed with {is_now}: "
                "its workflow's code has done something else, or in another "
                "order. Ends of runs come in the order that is recorded; start runs that go on at "
                "the same time in a fixed order, or each in a workflow of its own, and let nothing "
                "that is not recorded, such as the time, decide what begins"
            )

    # Where it stands

    def go_on_at(self, turn: int) -> None:
        """Go on after so many turns, as a state says."""
        self.turn = turn

    def begin_turn(self, agent: Agent[Any]) -> None:
        """Begin the next turn, which is an agent's."""
        self.agent = agent
        self.turn += 1

    def go_on_in_turn(self, agent: Agent[Any]) -> None:
        """Go on in the turn that an interruption ended, which is an agent's."""
        self.agent = agent

    def resume(self) -> None:
        """Go on after an interruption, with numbers that follow those drawn before it."""
        self.questions.go_on()
        self.agent_use.begin(self.definitions.agents)
        self.ends.go_on()
        self.limits.begin_again()
        self.counters.keep()
        self.calls.draw_again()

    def start_timer(self) -> None:
        """Count the run's timeout, from the run's beginning or the decisions it waited for."""
        if self.limits.timeout is None or self.record.is_over:
            return
        row = self.record.own_row or {}
        moments = self.questions.decided_at()
        if not self.questions.are_decided and "started_at" in row:
            moments.append(datetime.datetime.fromisoformat(row["started_at"]))
        self.limits.start_timer(self.id, time.time() - max(moments).timestamp() if moments else 0.0)

    def family(self) -> Iterator[Run]:
        """The runs inside it that were started in this execution, at any depth."""
        for child in self.children.values():
            yield child
            yield from child.family()

    async def agent_id(self, agent: Agent[Any]) -> uuid.UUID:
        """The id of an agent's row, which is written now if the run met the agent only now."""
        if id(agent) not in self.definitions.agent_ids:
            found = describe([agent], target_of=self.definitions.target_of)
            await self.recorder.write_definitions(found)
            self.definitions.agents.extend(found.agents)
            self.agent_use.meet()
            self.definitions.agent_ids.update(found.agent_ids)
            self.definitions.tool_ids.update(found.tool_ids)
            self.definitions.guardrail_ids.update(found.guardrail_ids)
            self.definitions.tool_guardrail_ids.update(found.tool_guardrail_ids)
        return self.definitions.agent_ids[id(agent)]

    # How it ends

    async def cut_off(self) -> None:
        """Let nothing that goes on behind the run's back be recorded from now on."""
        self.limits.close()
        if writing := {done for run in (self, *self.family()) for done in run.commits.under_way()}:
            await asyncio.wait(writing)

    def close(self) -> None:
        """End the waits for its end; one that has ended goes as soon as nobody has it.

        Else it would be in circles, with all its items, and only a whole collection of
        garbage, which looks at everything there is, would free it.
        """
        self.limits.ended.set()
        self.agent_use.end()
        if self.questions.call_ids:
            return
        self.models.clear()
        self.streaming.close()
        if self.parent is None:
            # Not sooner: those inside an ended run may go on, and its parent may have to end them.
            for run in (self, *self.family()):
                run.children = {}
