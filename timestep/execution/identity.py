"""Gives each run its id and its step numbers, which do not depend on timing."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from agents import ModelResponse

from timestep.dbos_internals import bodies, workflow_scope
from timestep.dbos_internals.ends import told_in_order
from timestep.dbos_internals.step_numbers import Keeping, StepNumbers
from timestep.dbos_internals.step_records import SharedRecords
from timestep.dbos_internals.workflow_scope import Owner
from timestep.errors import ReplayError
from timestep.execution.current import StepScope, current_step
from timestep.execution.replay.operation_order import OperationEnd
from timestep.execution.replay.run_order import RunOrder
from timestep.execution.run import Run
from timestep.journal.recorder import Recorder, recorder


@dataclass
class Lane:
    """Where a task draws the numbers of its runs from; tasks beside it draw elsewhere."""

    task: weakref.ref[asyncio.Task[Any]] | None
    """None: each that comes, one after the other. Weakly: the task's context has the lane."""
    owner: Owner
    numbers: StepNumbers
    number: int
    """Which of the workflow's tasks that run agents it is."""
    runs: int = 0
    """How many runs it began."""

    def is_of(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether the lane is a task's."""
        return self.task is None or (task is not None and self.task() is task)


@dataclass
class WorkflowRuns:
    """What the runs of one execution of a workflow share."""

    runs: list[Run] = field(default_factory=list)
    """Those that go on or wait for people, but for those that a run is around."""
    lanes: int = 0
    """How many tasks draw numbers for runs."""
    body_lane: Lane | None = None
    """Where the body's task draws them."""
    thread_lane: Lane | None = None
    """Where the workflow's own thread draws them, if its code is not async."""
    is_of_earlier_version: bool = False
    """Whether the first task to run agents has the workflow's own counter, whichever it is."""
    dbos_records: SharedRecords = field(default_factory=SharedRecords)
    told: object = None
    """What was told of the newest of them that failed; not its error, which holds all it ran."""
    order: RunOrder = field(default_factory=lambda: RunOrder(is_repeated=True))
    """The order in which they end."""
    order_in_steps: RunOrder = field(default_factory=lambda: RunOrder(is_repeated=False))
    """That of those which DBOS's own steps begin."""
    _begun: dict[object, int] = field(default_factory=dict)

    def next_of(self, key: object) -> int:
        """How many runs, or other things, were begun under a key before."""
        count = self._begun.get(key, 0)
        self._begun[key] = count + 1
        return count


def workflow_runs() -> WorkflowRuns:
    """The runs of the execution that the caller runs in."""
    return workflow_scope.kept(WorkflowRuns)


_lanes: ContextVar[Lane | None] = ContextVar("timestep_lane", default=None)


@dataclass(frozen=True)
class Stopped:
    """A state to go on with, as far as it tells whose it is."""

    waiting: frozenset[str]
    """The provider's ids of the calls that wait for a decision."""
    newest_answer: ModelResponse | None


def keep_order() -> None:
    """Have the ends of DBOS's own operations told in the order of those of the runs."""
    told_in_order.keep(_end_of_operation)


def _end_of_operation(number: int, name: str, child: str | None) -> OperationEnd:
    order = workflow_runs().order
    if bodies.is_new():
        order.operations.nothing_is_recorded()
    order.operations.newest_number = workflow_scope.newest_number()
    workflow_id = workflow_scope.scope().owner.workflow_id
    return OperationEnd(order, workflow_id, number, name, child)


def open_run(found: Recorder, task: str, continued: Stopped | None = None) -> Run:
    """A run of the workflow, or the step, that the caller is inside of.

    Its id comes from where it starts: the step number drawn here; or, inside a step, which
    may start several side by side in any order, from what it is to do.

    Args:
        found: Where it is recorded.
        task: What it is to do: the same for a run and its replay.
        continued: A state to go on with: the run that stopped with it goes on.

    Raises:
        ReplayError: Several runs stopped with such a state.
    """
    shared = workflow_runs()
    if continued is not None and (run := _continued(continued)) is not None:
        return run
    if workflow_scope.in_step():
        return _open_in_step(found, task, shared)
    return _open_in_workflow(found, task, shared)


def _open_in_step(found: Recorder, task: str, shared: WorkflowRuns) -> Run:
    owner, enclosing = workflow_scope.scope().owner, current_step()
    if enclosing is not None and enclosing.run.owner == owner:
        key, parent = _nested_key(enclosing, task), enclosing.run
    else:
        step = ":".join(map(str, workflow_scope.step_key()))
        key, parent = f"{step}:{task}:{shared.next_of((step, task))}", None
    nested = Run(
        recorder=found,
        owner=owner,
        key=key,
        workflow_step=None,
        parent=parent,
        numbers=None,
        shared=None,
        order=shared.order_in_steps if parent is None else parent.order_inside,
    )
    if parent is not None:
        parent.children[nested.id] = nested
    else:
        shared.runs.append(nested)
    return nested


def _open_in_workflow(found: Recorder, task: str, shared: WorkflowRuns) -> Run:
    owner, lane = workflow_scope.scope().owner, _lane(shared)
    shared.order.operations.newest_number = workflow_scope.newest_number()
    newest = lane.numbers.newest()
    number = lane.numbers.draw().step_id
    call = current_step()
    if call is not None and call.owner != owner:
        call = None
    place = after_step = None
    if call is None:
        place = (lane.number, lane.runs)
        if newest is not None and not shared.is_of_earlier_version:
            after_step = newest[0]
        lane.runs += 1
    run = Run(
        recorder=found,
        owner=owner,
        key=f"{owner.workflow_id}:{number}" if call is None else _nested_key(call, task),
        workflow_step=number,
        parent=None if call is None else call.run,
        numbers=lane.numbers,
        shared=shared.dbos_records,
        order=shared.order,
        place=place,
        after_step=after_step,
        keeping=lane.numbers.keeping,
    )
    shared.runs.append(run)
    if run.parent is not None:
        run.parent.children[run.id] = run
    return run


def _nested_key(step: StepScope, task: str) -> str:
    """What tells a run inside a step from the others: what it is to do, and how often before."""
    count = step.nested[task] = step.nested.get(task, -1) + 1
    return f"{step.id}:{task}:{count}"


def _lane(shared: WorkflowRuns) -> Lane:
    """The lane of the caller's task.

    That of the workflow's body draws from the workflow's own counter, as the body's own steps do.
    Every other one has numbers of its own, whether the body runs agents or not, and when: that
    depends on timing.
    """
    task = bodies.current_task()
    lane = _lanes.get()
    if lane is None or lane.owner != workflow_scope.scope().owner or not lane.is_of(task):
        lane = _lane_of(shared, task)
        _lanes.set(lane)
    return lane


def _lane_of(shared: WorkflowRuns, task: asyncio.Task[Any] | None) -> Lane:
    """The lane of a task that has, or knows, none."""
    is_body = bodies.is_own()
    if not shared.lanes and not is_body:
        # Where the body comes first, earlier versions did the same.
        shared.is_of_earlier_version = _is_of_earlier_version()
    if is_body and not shared.is_of_earlier_version:
        if shared.body_lane is None:
            shared.body_lane = _new_lane(shared, task, 0)
        return shared.body_lane
    comes_later = shared.is_of_earlier_version or shared.body_lane is not None
    return _new_lane(shared, task, shared.lanes if comes_later else shared.lanes + 1)


def _new_lane(shared: WorkflowRuns, task: asyncio.Task[Any] | None, number: int) -> Lane:
    shared.lanes += 1
    drawn_by = None if task is None else weakref.ref(task)
    owner = workflow_scope.scope().owner
    keeping = None
    if number == 0 and not shared.is_of_earlier_version:
        keeping = Keeping(lambda: _keep_numbers(owner), True if bodies.is_new() else None)
    return Lane(drawn_by, owner, StepNumbers(block=number, keeping=keeping), number)


def _keep_numbers(owner: Owner) -> bool:
    """Whether the runs of a workflow's body keep numbers. Blocks."""
    return recorder().keeps_numbers(owner.workflow_id) is not False


def _is_of_earlier_version() -> bool:
    """Whether the workflow's first task that ran agents, not its body's, has its own counter.

    So it is in what earlier versions recorded. It has to be known before anything is drawn: where
    the workflow may have been executed before, this blocks.
    """
    if bodies.is_new():
        return False
    return recorder().draws_apart(workflow_scope.scope().owner.workflow_id) is False


@contextlib.contextmanager
def one_lane() -> Iterator[None]:
    """Let the tasks that go on in here, one after the other, draw from one lane."""
    shared = workflow_runs()
    if workflow_scope.in_step():
        yield
        return
    if shared.thread_lane is None:
        shared.thread_lane = _lane_of(shared, None)
    token = _lanes.set(shared.thread_lane)
    try:
        yield
    finally:
        _lanes.reset(token)


def _continued(state: Stopped) -> Run | None:
    """The run that stopped with this state: by its last answer, or by the calls it waits for."""
    wanted = state.waiting
    same = [run for run in known_runs() if wanted and run.questions.call_ids == wanted]
    for run in same:
        result = run.questions.result
        told = result.raw_responses if result else []
        if told and told[-1] is state.newest_answer:
            return run
    if len(same) > 1:
        raise ReplayError(
            f"{len(same)} runs of this workflow wait for calls with the ids {sorted(wanted)}: go "
            "on with the state that result.to_state() gave, not with a copy of it"
        )
    return same[0] if same else None


def forget(run: Run) -> None:
    """Let a run that has ended go, with its agents and all it ran, unless it waits for people.

    One that is inside another goes with that one.
    """
    runs = workflow_runs().runs
    if run in runs and not run.questions.call_ids:
        runs.remove(run)


def known_runs() -> list[Run]:
    """The runs that the caller may have started."""
    enclosing = current_step()
    children = [] if enclosing is None else enclosing.run.children.values()
    return [*workflow_runs().runs, *children]
