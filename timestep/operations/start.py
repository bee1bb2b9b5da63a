"""Starts workflows, in this process or from one that executes none."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from dbos import (
    DBOS,
    EnqueueOptions,
    SetEnqueueOptions,
    SetWorkflowAttributes,
    SetWorkflowID,
    SetWorkflowTimeout,
)
from dbos import error as dbos_errors

from timestep.database.error_translation import translated
from timestep.dbos_internals import presence, process, serializer, workflow_scope
from timestep.errors import (
    AlreadyStartedError,
    InvalidInputError,
    PickledRecordError,
    TimestepError,
    UnrecordableError,
)
from timestep.journal import dbos_client, executor_claim
from timestep.journal.reads.workflow_records import is_run, workflow_record
from timestep.journal.recorder import recorder
from timestep.operations import queue_limits
from timestep.operations.access import acting, audit
from timestep.operations.arguments import check_id, check_seconds, of_a_run
from timestep.operations.entrypoints import Entrypoint, lookup
from timestep.operations.tags import check_tags, shown
from timestep.runtime.terminal import quoted

_HIGHEST = 2**31 - 1


_TOLD: dict[str, str] = {
    "attributes": "tags",
    "priority": "priority",
    "deduplication_id": "deduplication_id",
    "delay_seconds": "delay",
    "workflow_timeout": "timeout",
}
"""Options that an entry of the audit tells, by DBOS's names: as what."""


async def start_run(
    entrypoint: str | Callable[..., Any] | Entrypoint,
    input: dict[str, Any],  # noqa: A002
    *,
    workflow_id: str | None = None,
    queue: str | None = None,
    priority: int | None = None,
    deduplication_id: str | None = None,
    delay: float | None = None,
    timeout: float | None = None,  # noqa: ASYNC109  # DBOS's, of the workflow
    tags: Mapping[str, str] | None = None,
) -> str:
    """Start a workflow; the same `workflow_id` again answers the same one.

    Where DBOS is launched, the workflow runs in this process at once; elsewhere, or with
    `queue`, `priority`, `deduplication_id` or `delay`, it is enqueued for one that listens. It is
    entered into the audit, unless a workflow's code calls this.

    Args:
        entrypoint: The name of an entrypoint in `workflows/`, or a workflow function.
        input: Its arguments by name, made of JSON's types.
        workflow_id: The id of the workflow, up to 1,000 bytes; None: a new one.
        queue: A queue of DBOS; None: the hosts' own, where one is needed.
        priority: 1 to 2147483647; a lower number runs first.
        deduplication_id: While a workflow with this id is in the queue, no other is let in.
        delay: Seconds until it may run, 0.001 to 1e9.
        timeout: Seconds from its beginning after which DBOS cancels it, 0.001 to 1e9.
        tags: What its runs are found by, such as `{"team": "billing"}`: up to 50, with names of up
            to 100 characters, and values of up to 1,000. DBOS calls them its attributes.

    Returns:
        The workflow's id.

    Raises:
        UnknownEntrypointError: There is no such entrypoint.
        InvalidInputError: The input, or an option, does not fit; InvalidTagsError: the tags.
        AlreadyStartedError: The workflow id belongs to another start, or to a workflow without
            these tags, or the deduplication id is taken.
        QueueFullError: As many workflows wait in the queue as `TIMESTEP_QUEUE_LIMIT` allows;
            those that a workflow starts are not refused.
        ExecutorLostError: This host is no executor, or may be none, any more.
        DatabaseError: The database refused, or is away.
    """
    executor_claim.require()
    found = lookup(entrypoint)
    arguments = found.validate(input)
    given = {
        "workflow_id": workflow_id,
        "queue": queue,
        "deduplication_id": deduplication_id,
        "priority": priority,
        "delay": delay,
        "timeout": timeout,
        "tags": tags,
    }
    for name, value in given.items():
        if value is not None:
            check_option(name, value)
    is_here = presence.is_launched()
    needs_queue = not is_here or (priority, deduplication_id, delay) != (None, None, None)
    own_queue = presence.application_name() if queue is None and needs_queue else None
    queue = queue or own_queue
    options: EnqueueOptions = {"workflow_name": found.workflow_name, "queue_name": queue or ""}
    if priority is not None:
        options["priority"] = priority
    if deduplication_id is not None:
        options["deduplication_id"] = deduplication_id
    if delay is not None:
        options["delay_seconds"] = delay
    if timeout is not None:
        options["workflow_timeout"] = timeout
    if tags:
        options["attributes"] = dict(tags)
    try:
        serializer.check_portable(found.function, arguments)
    except UnrecordableError as error:
        raise InvalidInputError(f"the input of {found.name!r}: {error.message}") from error
    # Without DBOS, the hosts' own queue need not be there before the first host is.
    if queue is not None and (is_here or queue != own_queue):
        await asyncio.to_thread(check_queue, queue)
    if DBOS.workflow_id is not None:
        # What a workflow starts is nobody's act, and DBOS derives the id from the step.
        if workflow_id is not None:
            options["workflow_id"] = workflow_id
        return await _begin(found, arguments, options, workflow_id, queue)
    options["workflow_id"] = workflow_id or str(uuid.uuid4())
    actor = acting.take()
    async with contextlib.AsyncExitStack() as stack:
        if queue is not None:
            await stack.enter_async_context(queue_limits.room_in(queue, workflow_id))
        entry = await asyncio.to_thread(_enter, found, options, actor, is_new=workflow_id is None)
        try:
            return await _begin(found, arguments, options, workflow_id, queue)
        except TimestepError as error:
            if entry is not None:
                await asyncio.to_thread(audit.refuse, entry, error)
            raise


def _enter(
    found: Entrypoint, options: EnqueueOptions, actor: acting.Actor, *, is_new: bool
) -> int | None:
    """Enter a start into the audit; None: the workflow is there already.

    Raises:
        InvalidInputError: The workflow's id is a run's.
    """
    workflow_id = options["workflow_id"]
    if not is_new:
        if workflow_record(workflow_id) is not None:
            return None
        if is_run(workflow_id):
            raise of_a_run("workflow_id", workflow_id)
    queue = options["queue_name"]
    details: dict[str, Any] = {"entrypoint": found.name, **({"queue": queue} if queue else {})}
    for name, told in _TOLD.items():
        if name in options:
            details[told] = options[name]  # type: ignore[literal-required]
    return audit.begin(actor, "start", [workflow_id], details)


async def _begin(
    found: Entrypoint,
    arguments: dict[str, Any],
    options: EnqueueOptions,
    workflow_id: str | None,
    queue: str | None,
) -> str:
    """Have DBOS start a workflow; `workflow_id` is what the caller gave."""
    # A replay of the code that started it comes here again, whatever became of its tags.
    tags = options.get("attributes", {}) if DBOS.workflow_id is None else {}
    try:
        with translated(recorder().url):
            if not presence.is_launched():
                started = await _enqueue(found, arguments, options)
            else:
                started = await process.on_workflow_loop(
                    lambda: _start(found, arguments, options, queue)
                )
    except UnrecordableError as error:
        raise InvalidInputError(f"the input of {found.name!r}: {error.message}") from error
    except dbos_errors.DBOSConflictingWorkflowError as error:
        what = await asyncio.to_thread(_difference, found, arguments, workflow_id or "", tags)
        raise _conflict(workflow_id, what or "differently") from error
    except dbos_errors.DBOSQueueDeduplicatedError as error:
        raise AlreadyStartedError(
            f"the deduplication id {options['deduplication_id']!r} is taken in the queue "
            f"{options['queue_name']!r}: wait until its workflow has left the queue"
        ) from error
    if workflow_id is not None:
        what = await asyncio.to_thread(_difference, found, arguments, workflow_id, tags)
        if what is not None:
            raise _conflict(workflow_id, what)
    return started


def check_option(name: str, value: object) -> None:
    """Refuse what cannot be an option of a start, whatever the input and the other options are.

    Args:
        name: As `start_run` calls it, such as `priority`.
        value: What was given.

    Raises:
        InvalidInputError: It cannot; InvalidTagsError: of tags.
    """
    if name == "tags":
        check_tags(value)
    elif name == "priority":
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not (is_number and 1 <= value <= _HIGHEST):  # type: ignore[operator]
            raise InvalidInputError(f"priority {quoted(value)} is not between 1 and {_HIGHEST}")
    elif name in ("delay", "timeout"):
        check_seconds(name, value)
    else:
        check_id(name, value)


def check_queue(queue: str) -> None:
    """Refuse a queue that nobody would ever take a workflow from.

    Raises:
        InvalidInputError: There is no such queue.
        DatabaseError: The database refused, or is away.
    """
    with translated(recorder().url):
        is_there = dbos_client.client().retrieve_queue(queue) is not None
    if not is_there:
        raise InvalidInputError(
            f"there is no queue {queue!r}: make it once, with DBOSClient(…).register_queue"
            f"({queue!r}), or with DBOS.register_queue({queue!r}) where DBOS is launched"
        )


async def _enqueue(found: Entrypoint, arguments: dict[str, Any], options: EnqueueOptions) -> str:
    serialization = process.serialization_of(found.function)
    if serialization is not None:
        options["serialization_type"] = serialization

    def enqueue() -> str:
        handle: Any = dbos_client.client().enqueue(options, **arguments)
        return str(handle.get_workflow_id())

    return await asyncio.to_thread(enqueue)


async def _start(
    found: Entrypoint, arguments: dict[str, Any], options: EnqueueOptions, queue: str | None
) -> str:
    with contextlib.ExitStack() as stack:
        if "workflow_id" in options:
            stack.enter_context(SetWorkflowID(options["workflow_id"]))
        if "workflow_timeout" in options:
            stack.enter_context(SetWorkflowTimeout(options["workflow_timeout"]))
        if "attributes" in options:
            stack.enter_context(SetWorkflowAttributes(options["attributes"]))
        handle: Any
        if queue is not None:
            stack.enter_context(
                SetEnqueueOptions(
                    priority=options.get("priority"),
                    deduplication_id=options.get("deduplication_id"),
                    delay_seconds=options.get("delay_seconds"),
                )
            )
            handle = await DBOS.enqueue_workflow_async(queue, found.function, **arguments)
        elif inspect.iscoroutinefunction(inspect.unwrap(found.function)):
            handle = await DBOS.start_workflow_async(found.function, **arguments)
            workflow_scope.leave_unattended(handle)
        else:
            handle = await asyncio.to_thread(
                lambda: DBOS.start_workflow(found.function, **arguments)
            )
    return str(handle.get_workflow_id())


def _conflict(workflow_id: str | None, what: str) -> AlreadyStartedError:
    return AlreadyStartedError(
        f"the workflow {workflow_id!r} was started already, {what}: give another workflow_id"
    )


def _difference(
    found: Entrypoint, arguments: dict[str, Any], workflow_id: str, tags: Mapping[str, str]
) -> str | None:
    """How the workflow with the id, which is there by now, is another start; None: it is this."""
    record = workflow_record(workflow_id)
    if record is None:
        return None
    if record.name != found.workflow_name:
        return f"as {record.name!r}, not {found.workflow_name!r}"
    try:
        given = serializer.arguments_of(record)
    except (PickledRecordError, UnrecordableError) as error:
        raise AlreadyStartedError(
            f"the workflow {workflow_id!r} was started already, and whether with the same input "
            f"cannot be told: give another workflow_id ({error})"
        ) from error
    # Gone where DBOS has cleaned up: nothing is left to compare with.
    names = [] if given is None else found.differing(arguments, *given)
    if names:
        return f"with another input ({', '.join(map(repr, names))})"
    known = shown(record.attributes)
    lacking = [name for name, value in tags.items() if known.get(name) != value]
    return f"without these tags ({', '.join(map(quoted, lacking))})" if lacking else None
