"""Turns `sys.exit()` and other BaseExceptions of workflow code into failures that DBOS records.

`sys.exit()`, which argparse calls, too, would end the event loop of every workflow, and record
nothing: the next process would go on with the workflow, and meet it again. In the main thread an
exit is let through: it may be somebody's who stops the process, and the next one goes on. The same
holds for a `CancelledError` of the body's own, when nobody has cancelled its task.

asyncio lets an exit out of every task, also out of one that a body, a tool or a hook awaits. Who
awaits it gets the exit, too; DBOS's loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from dbos import _core
from dbos._event_loop import BackgroundEventLoop

from timestep.dbos_internals import control_errors, workflow_scope
from timestep.dbos_internals.ends import told_in_order
from timestep.errors import CancelledItselfError, NotAnExceptionError, ProcessExitError
from timestep.runtime import logs, process_state
from timestep.runtime.cancellation import EXITS, came_by_itself, cancels
from timestep.runtime.process_state import PerProcess
from timestep.serialization.exceptions import shown

_body = _core._dropping_datasource_checkpoints
_step = _core.invoke_step
_run_loop = BackgroundEventLoop._run_event_loop

_log = logs.logger()


class Exits(PerProcess):
    """A process lets DBOS call bodies and steps that cannot end it, nor the loop they run on."""

    def __init__(self) -> None:
        _core._dropping_datasource_checkpoints = _contained_body  # type: ignore[assignment]  # DBOS's call fits
        _core.invoke_step = _contained_step  # type: ignore[assignment]  # as above
        BackgroundEventLoop._run_event_loop = _run_lasting_loop  # type: ignore[method-assign,assignment]  # as above

    def close(self) -> None:
        _core._dropping_datasource_checkpoints = _body
        _core.invoke_step = _step
        BackgroundEventLoop._run_event_loop = _run_loop  # type: ignore[method-assign]  # DBOS's own


def contain() -> None:
    """Keep workflows from ending this process. A second time it changes nothing."""
    process_state.of(Exits)


def _run_lasting_loop(background: BackgroundEventLoop) -> None:
    """Run DBOS's event loop, and go on when an exit comes out of it."""
    loop = background._loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    if background._executor is not None:
        loop.set_default_executor(background._executor)
    background._running = True
    background._ready.set()
    try:
        while _exits(loop):
            pass
    finally:
        loop.close()


def _exits(loop: asyncio.AbstractEventLoop) -> bool:
    """Run a loop until it is stopped, or an exit comes out of it: whether one did."""
    try:
        loop.run_forever()
    except EXITS as exit_:
        (at,) = traceback.extract_tb(exit_.__traceback__)[-1:]
        _log.warning(
            "a task on the event loop of the workflows tried to end the process, with a %s at "
            "%s:%s: it is the failure of what awaits the task, and the loop goes on",
            type(exit_).__name__,
            at.filename,
            at.lineno,
        )
        return True
    return False


def _contained_body(dbos: Any, body: Callable[[], Any]) -> Callable[[], Any]:
    return _body(dbos, _contained("", _told_apart(body)))


def _contained_step(dbos: Any, context: Any, function: Any, *args: Any, **options: Any) -> Any:
    step_name = options["step_name"]
    contained = _contained(f"step {step_name!r} of ", function)
    outcome = _step(dbos, context, contained, *args, **options)
    return told_in_order.step_told(context.function_id, step_name, outcome)


def _told_apart(body: Callable[[], Any]) -> Callable[[], Any]:
    """A body that raises an error where it ends in a CancelledError that nobody asked for."""

    def check(error: BaseException, before: int) -> None:
        if came_by_itself(error, before):
            workflow_id = workflow_scope.dbos_context().workflow_id
            raise CancelledItselfError(
                f"workflow {workflow_id!r} ended in a CancelledError, and nobody had cancelled it: "
                "a task that it waited for was cancelled, or its code raised one"
            ) from error

    async def awaited() -> Any:
        before = cancels()
        try:
            return await body()
        except asyncio.CancelledError as error:
            check(error, before)
            raise

    def called() -> Any:
        try:
            return body()
        except asyncio.CancelledError as error:
            check(error, cancels())
            raise

    return awaited if inspect.iscoroutinefunction(body) else called


def _contained(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that raises an Exception where `function` raises a BaseException of its own."""

    def refusal(error: BaseException) -> Exception | None:
        if not control_errors.is_foreign(error):
            return None
        workflow_id = workflow_scope.dbos_context().workflow_id
        what = f"{name}workflow {workflow_id!r}"
        if not isinstance(error, EXITS):
            return NotAnExceptionError(f"{what} raised what is no Exception: {shown(error)}")
        if threading.current_thread() is threading.main_thread():
            return None
        return ProcessExitError(f"{what} tried to end the process: {shown(error)}")

    @contextlib.contextmanager
    def refusing() -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if (found := refusal(error)) is not None:
                raise found from error
            raise

    async def awaited(*args: Any, **options: Any) -> Any:
        with refusing():
            return await function(*args, **options)

    def called(*args: Any, **options: Any) -> Any:
        with refusing():
            return function(*args, **options)

    contained = awaited if inspect.iscoroutinefunction(function) else called
    # A partial has no name of its own.
    return functools.update_wrapper(contained, function, updated=())
