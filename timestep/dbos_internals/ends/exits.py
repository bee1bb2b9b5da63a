"""Has workflow code end in what DBOS records: a recovery sees no other value, and no other error.

A step, or a workflow's body, that gives or raises what does not come back of its record gives in
the first execution already what comes back. DBOS would go on with the very object there.

`sys.exit()`, which argparse calls, too, would end the event loop of every workflow, and record
nothing: the next process would go on with the workflow, and meet it again. In the main thread an
exit is let through: it may be somebody's who stops the process, and the next one goes on. The same
holds for a `CancelledError` of the body's own, when nobody has cancelled its task. Other
BaseExceptions are failures, too.

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
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from dbos import _core
from dbos import error as dbos_errors
from dbos._event_loop import BackgroundEventLoop

from timestep.dbos_internals import control_errors, workflow_scope
from timestep.dbos_internals.ends import operation, told_in_order
from timestep.dbos_internals.serializer import error_as_recorded, value_as_recorded
from timestep.errors import (
    CancelledItselfError,
    NotAnExceptionError,
    ProcessExitError,
    UnrecordableError,
)
from timestep.runtime import logs, process_state
from timestep.runtime.cancellation import EXITS, came_by_itself, cancels
from timestep.runtime.process_state import PerProcess
from timestep.serialization.exceptions import raise_as_it_is, shown

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
    return _body(dbos, _Code("", _told_apart(body)).contained())


def _contained_step(dbos: Any, context: Any, function: Any, *args: Any, **options: Any) -> Any:
    step_name = options["step_name"]
    code = _Code(f"step {step_name!r} of ", function)
    if options.get("retries_allowed"):
        options["should_retry"] = code.retried_if(options.get("should_retry"))
    with _made_by_dbos():
        contained = operation.held(code.contained())
        outcome = _step(dbos, context, contained, *args, **options)
    if inspect.iscoroutinefunction(function):
        outcome = _awaited(outcome)
    return told_in_order.step_told(context.function_id, step_name, outcome)


async def _awaited(outcome: Awaitable[Any]) -> Any:
    with _made_by_dbos():
        return await outcome


@contextlib.contextmanager
def _made_by_dbos() -> Iterator[None]:
    """Raise as a recovery will see it what DBOS makes, and records, of a step's errors."""
    try:
        yield
    except _OF_STEPS as error:
        raise_as_it_is(error_as_recorded(error))


_OF_STEPS = (dbos_errors.DBOSMaxStepRetriesExceeded, dbos_errors.DBOSStepTimeoutError)


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


class _Code:
    """A step's function, or a workflow's body, as DBOS is to call it.

    Args:
        name: What is before "workflow" in what is told of it.
        function: The application's own.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._function = function
        self._raised: Exception | None = None
        """What the newest call raised, with all that a recovery will not see of it."""
        self._is_done = False
        """Whether it gave something, though that cannot be recorded."""

    def contained(self) -> Callable[..., Any]:
        """A function that ends in what a recovery will see, and raises nothing but Exceptions."""
        function = self._function

        async def awaited(*args: Any, **options: Any) -> Any:
            with self._raising():
                return self._given(await function(*args, **options))

        def called(*args: Any, **options: Any) -> Any:
            with self._raising():
                return self._given(function(*args, **options))

        contained = awaited if inspect.iscoroutinefunction(function) else called
        # A partial has no name of its own.
        return functools.update_wrapper(contained, function, updated=())

    def retried_if(self, asked: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
        """The step's `should_retry`: asked of what its function raised, and not after it was done.

        Args:
            asked: The application's own.
        """

        async def awaited(_: Any) -> Any:
            return not self._is_done and (asked is None or await asked(self._raised))

        def called(_: Any) -> Any:
            return not self._is_done and (asked is None or asked(self._raised))

        return awaited if inspect.iscoroutinefunction(asked) else called

    def _given(self, value: Any) -> Any:
        try:
            return value_as_recorded(value)
        except UnrecordableError:
            self._is_done = True
            raise

    @contextlib.contextmanager
    def _raising(self) -> Iterator[None]:
        try:
            yield
        except control_errors.CONTROL_ERRORS:
            raise
        except BaseException as error:
            self._raised = error if isinstance(error, Exception) else self._refusal(error)
            if self._raised is None:
                raise
            raise_as_it_is(error_as_recorded(self._raised))

    def _refusal(self, error: BaseException) -> Exception | None:
        """What is raised in place of what is no Exception; None: it is somebody else's."""
        is_exit = isinstance(error, EXITS)
        is_main = threading.current_thread() is threading.main_thread()
        if not control_errors.is_foreign(error) or (is_exit and is_main):
            return None
        what = f"{self._name}workflow {workflow_scope.dbos_context().workflow_id!r}"
        refusal: Exception
        if is_exit:
            refusal = ProcessExitError(f"{what} tried to end the process: {shown(error)}")
        else:
            refusal = NotAnExceptionError(f"{what} raised what is no Exception: {shown(error)}")
        refusal.__cause__ = error
        return refusal
