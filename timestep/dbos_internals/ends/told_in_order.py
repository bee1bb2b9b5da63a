"""Has the ends of DBOS's own operations told to workflow code in an order that somebody keeps.

An operation is what workflow code awaits of DBOS: a step, a child workflow, its handle, a sleep, a
message, an event, a status. DBOS records when it completed. Here that is the place of its end among
those beside it, which is drawn just before it is recorded, and told no sooner than all before it.

A handle's `get_result` has the number that is the next when it is called. DBOS's own draws it when
the child has ended, and so the numbers of what goes on meanwhile would depend on timing.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextvars import ContextVar
from types import CodeType
from typing import Any, TypeVar

from dbos import DBOS, WorkflowStatus, _core, _dbos, _queue, _sys_db
from dbos import error as dbos_errors
from dbos._context import DBOSContext, current_owner_xid, get_local_dbos_context
from dbos._core import WorkflowHandleAsyncPolling, WorkflowHandleAsyncTask
from dbos._outcome import Pending
from dbos._sys_db import SystemDatabase

from timestep.dbos_internals.ends import records
from timestep.dbos_internals.ends.drawn_when_awaited import NAMES, draws
from timestep.dbos_internals.ends.operation import End, Operation, begun, current, held
from timestep.dbos_internals.ends.records import GET_RESULT, SLEEP
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess

T = TypeVar("T")


Keeper = Callable[[int, str, str | None], End]
"""Is told of an operation that begins: its number, its name, and the child that it is about."""


def keep(keeper: Keeper) -> None:
    """Let somebody keep the order from now on."""
    process_state.of(ToldInOrder).keeper = keeper


_apart: ContextVar[tuple[str, int] | None] = ContextVar("timestep_apart", default=None)


@contextlib.contextmanager
def apart(workflow_id: str, number: int) -> Iterator[None]:
    """Begin a step whose end another order tells."""
    token = _apart.set((workflow_id, number))
    try:
        yield
    finally:
        _apart.reset(token)


def _begun(
    number: int,
    name: str,
    *,
    child: str | None = None,
    context: DBOSContext | None = None,
) -> Operation | None:
    """An operation of the workflow's code that begins; None where nobody keeps its order."""
    found, keeper = get_local_dbos_context(), process_state.of(ToldInOrder).keeper
    if keeper is None or found is None or not found.is_workflow():
        return None
    if _apart.get() == (found.workflow_id, number):
        return None
    end = keeper(number, name, child)
    return Operation(found.workflow_id, number, end, context, is_sleep=name == SLEEP)


def _begun_next(name: str) -> Operation | None:
    """An operation that draws its number as soon as it is awaited."""
    found = get_local_dbos_context()
    return None if found is None else _begun(found.function_id + 1, name)


async def _told(one: Operation | None, work: Awaitable[T]) -> T:
    """What an operation gives, when it is the turn of its end."""
    if one is None:
        return await work
    token = current.set(one)
    try:
        value = await work
    except GeneratorExit:
        # It is freed unfinished, with its loop: nobody goes on here.
        raise
    except Exception:
        current.reset(token)
        await _handed_over(one)
        raise
    except BaseException:
        current.reset(token)
        one.end.leave()
        raise
    current.reset(token)
    await _handed_over(one)
    return value


async def _handed_over(one: Operation) -> None:
    try:
        await one.end.hand_over()
    finally:
        one.end.leave()


def step_told(number: int, name: str, outcome: T) -> T:
    """What DBOS gives for a step: told in its turn, if it has to be awaited."""
    if not inspect.iscoroutine(outcome):
        return outcome
    told: Any = _told(_begun(number, name), outcome)
    return told  # type: ignore[no-any-return]  # a coroutine as `outcome` is


class ToldInOrder(PerProcess):
    """A process has DBOS ask for the place of each end, and tell it in its turn."""

    def __init__(self) -> None:
        self.keeper: Keeper | None = None
        for (owner, name), ours in _OURS.items():
            setattr(owner, name, ours)

    def close(self) -> None:
        for (owner, name), own in _OWN.items():
            setattr(owner, name, own)


_record_txn = SystemDatabase._record_operation_result_txn
_record_get_result = SystemDatabase.record_get_result
_call_coroutine = SystemDatabase.call_coroutine_as_step
_task_result = WorkflowHandleAsyncTask.get_result
_polled_result = WorkflowHandleAsyncPolling.get_result
_pending_then = Pending.then
_init_child = SystemDatabase.init_child_workflow
_start_async = _core.start_workflow_async
_step_async = _core.run_step_async


def _code_within(code: CodeType, *names: str) -> CodeType:
    for name in names:
        code = next(
            one for one in code.co_consts if isinstance(one, CodeType) and one.co_name == name
        )
    return code


_RESULT_OF_CHILD = _code_within(_core.workflow_wrapper.__code__, "wrapper", "record_get_result")
"""What records the result of a child that is awaited without a handle."""


def _next_told(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    original = vars(DBOS)[name].__func__

    @functools.wraps(original)
    async def told(cls: Any, *args: Any, **options: Any) -> Any:
        work = original(cls, *args, **options)
        if not draws(name, args, options):
            return await work
        return await _told(_begun_next(NAMES[name]), work)

    return told


async def _run_step(
    dbos: Any, context: Any, function: Any, options: Any, args: Any, given: Any
) -> Any:
    work = _step_async(dbos, context, function, options, args, given)
    if inspect.iscoroutinefunction(function) or context is None or not context.is_workflow():
        # The former is told where DBOS invokes it.
        return await work
    name = options.get("name") or function.__qualname__
    one = _begun(context.function_id, name)
    return await _told(one, begun(one, work))


async def _start(dbos: Any, context: DBOSContext, function: Any, *args: Any, **options: Any) -> Any:
    work = _start_async(dbos, context, function, *args, **options)
    if not context.has_parent():
        return await work
    one = _begun(context.parent_workflow_fid, "start of a workflow")
    return await _told(one, begun(one, work))


async def _call_as_step(
    system: SystemDatabase,
    function: Callable[[], Awaitable[T]],
    name: str,
    context: DBOSContext | None,
) -> T:
    work = _call_coroutine(system, function, name, context)
    if context is None or not context.is_workflow():
        return await work
    one = _begun(context.function_id, name)
    return await _told(one, begun(one, work))


def _result_of(original: Any) -> Any:
    @functools.wraps(original)
    async def get_result(handle: Any, **options: Any) -> Any:
        work = original(handle, **options)
        context = get_local_dbos_context()
        if context is None or not context.is_workflow():
            return await work
        own = context.snapshot_step_ctx(reserve_sleep_id=False)
        one = _begun(own.function_id, GET_RESULT, child=handle.workflow_id, context=own)
        return await _told(one, begun(one, work))

    return get_result


async def _status(handle: Any) -> WorkflowStatus:
    """The status of a handle's workflow; DBOS's own draws the number of that in a thread."""
    found = await DBOS.get_workflow_status_async(handle.workflow_id, shard_key=handle.shard_key)
    if found is None:
        raise dbos_errors.DBOSNonExistentWorkflowError("target", handle.workflow_id)
    return found


def _then(outcome: Pending[Any], stage: Any, *, dbos: DBOS | None = None) -> Pending[Any]:
    made = _pending_then(outcome, stage, dbos=dbos)
    if getattr(stage, "__code__", None) is not _RESULT_OF_CHILD:
        return made
    own = inspect.getclosurevars(stage).nonlocals["resctx"]
    one = None if own is None else _begun(own.function_id, GET_RESULT, context=own)
    return made if one is None else Pending(lambda: _told(one, begun(one, made())))


_starting: ContextVar[int | None] = ContextVar("timestep_starting", default=None)
"""The place of the start of another workflow."""


def _init_child_at_its_place(system: SystemDatabase, *args: Any, **options: Any) -> Any:
    one = current.get()
    parent = (options["parent_workflow_id"], options["parent_function_id"])
    if one is None or (one.workflow_id, one.number) != parent:
        return _init_child(system, *args, **options)
    # Before DBOS takes a connection, as there may be no second one.
    token = _starting.set(one.end.stamp(None, lambda: records.newest(system, one.workflow_id)))
    try:
        return _init_child(system, *args, **options)
    finally:
        _starting.reset(token)


class _Clock:
    """DBOS's module `time`, where it records that a workflow started another one.

    It takes the time from there, and nothing else tells it one.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def time(self) -> float:
        """Seconds since 1970: those of the place, of what starts another workflow."""
        place = _starting.get()
        # The middle of the millisecond: DBOS cuts it off.
        return time.time() if place is None else (place + 0.5) / 1000


def _record_at_its_place(
    system: SystemDatabase, result: Any, completed_at_epoch_ms: int, conn: Any, **options: Any
) -> None:
    one = current.get()
    if one is not None and (one.workflow_id, one.number) == (
        result["workflow_uuid"],
        result["function_id"],
    ):
        completed_at_epoch_ms = one.end.stamp(
            completed_at_epoch_ms if one.is_sleep else None,
            lambda: records.newest_over(conn, system, one.workflow_id),
        )
    _record_txn(system, result, completed_at_epoch_ms, conn, **options)


def _record_result(
    system: SystemDatabase,
    child: str,
    output: str | None,
    error: str | None,
    serialization: str | None,
    context: DBOSContext | None = None,
    *,
    started_at_epoch_ms: int,
) -> None:
    one = current.get()
    own = None if one is None else one.context
    if one is None or own is None or context not in (None, own):
        _record_get_result(
            system,
            child,
            output,
            error,
            serialization,
            context,
            started_at_epoch_ms=started_at_epoch_ms,
        )
        return
    try:
        system.record_operation_result(
            {
                "workflow_uuid": own.workflow_id,
                "function_id": own.function_id,
                "function_name": GET_RESULT,
                "output": output,
                "error": error,
                "serialization": serialization,
                "started_at_epoch_ms": started_at_epoch_ms,
                "child_workflow_id": child,
            },
            owner_xid=current_owner_xid(own.workflow_id, own),
            owner_key=own.shard_key,
        )
    except dbos_errors.DBOSStepNondeterminismError:
        # An earlier execution recorded it.
        one.end.take_back()


_OURS: dict[tuple[Any, str], Any] = {
    (SystemDatabase, "_record_operation_result_txn"): _record_at_its_place,
    (SystemDatabase, "record_get_result"): _record_result,
    (SystemDatabase, "call_coroutine_as_step"): _call_as_step,
    (SystemDatabase, "init_child_workflow"): _init_child_at_its_place,
    (_sys_db, "time"): _Clock(),
    (SystemDatabase, "recv_async"): held(SystemDatabase.recv_async),
    (SystemDatabase, "get_event_async"): held(SystemDatabase.get_event_async),
    (WorkflowHandleAsyncTask, "get_result"): _result_of(_task_result),
    (WorkflowHandleAsyncPolling, "get_result"): _result_of(_polled_result),
    (WorkflowHandleAsyncTask, "get_status"): _status,
    (WorkflowHandleAsyncPolling, "get_status"): _status,
    (Pending, "then"): _then,
    (_dbos, "start_workflow_async"): _start,
    (_queue, "start_workflow_async"): _start,
    (_dbos, "run_step_async"): _run_step,
    **{(DBOS, name): classmethod(_next_told(name)) for name in NAMES},
}
"""What is in the place of DBOS's own."""
_OWN = {(owner, name): vars(owner)[name] for owner, name in _OURS}
