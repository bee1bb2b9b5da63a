"""Begins executions again that ended in this process without a recorded outcome.

One that lacked a class here is tried again later, as what lacks a key is, maybe by another process.

Their workflows are PENDING, and nobody executes them: DBOS's record of the end was refused, their
task was cancelled, or something failed that nobody foresaw. One that was cancelled, or that another
execution owns, is left alone; so is everything in a process that stops: the next one recovers it.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from timestep.database import not_now
from timestep.dbos_internals import (
    control_errors,
    execution_ends,
    executions,
    presence,
    workflow_scope,
)
from timestep.dbos_internals.ends import exits
from timestep.dbos_internals.workflow_scope import Owner
from timestep.journal import ownership_watch
from timestep.journal.recorder import Recorder
from timestep.runtime import draining, logs, process_state
from timestep.runtime.attendant import Attendant
from timestep.runtime.cancellation import EXITS
from timestep.runtime.process_state import PerProcess
from timestep.runtime.secrets import without_secrets
from timestep.store import run_journal, setbacks

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 60.0
"""Seconds before a workflow is begun again that ended so several times, one after the other."""
_DOUBLED = 10
"""How often the pause is doubled at most: it is the longest by then."""

_log = logs.logger()


@dataclass(frozen=True)
class _Ended:
    owner: Owner
    next: str
    """The token of the execution that is to own the workflow then."""
    reason: str
    due: float = 0.0
    """On `time.monotonic`."""
    is_lacking: bool = False
    """Whether it is for a process that has what this one has not."""
    is_unattended: bool = False
    """Whether nobody in this process awaits its result."""


class Watcher(PerProcess):
    """Is made after the engines that the thread uses, and so is closed before them."""

    def __init__(self) -> None:
        self.stop: Callable[[], None] | None = None

    def close(self) -> None:
        if self.stop is not None:
            self.stop()


class UnfinishedExecutions(PerProcess):
    """A process looks after the executions that end in it, in a thread while there are any."""

    def __init__(self) -> None:
        self._attendant = Attendant("timestep-unfinished", self._watch)
        self._ended: dict[str, _Ended] = {}
        self._times: dict[str, int] = {}
        """How often each workflow was begun again since an execution of it ended well."""
        self._recorder: Recorder | None = None
        execution_ends.listen(self.ended)
        exits.contain()

    def record_with(self, recorder: Recorder) -> None:
        """Say where the workflows of this process are recorded."""
        self._recorder = recorder

    def ended(self, owner: Owner, error: BaseException | None) -> None:
        """Take note of an execution's end, of which DBOS may have recorded nothing."""
        ownership_watch.end_of(owner)
        recorder = self._recorder
        if recorder is None:
            return
        if isinstance(error, control_errors.LOST):
            return
        if error is None:
            recorder.kept.drop_workflow(owner.workflow_id)
            self._times.pop(owner.workflow_id, None)
            return
        if isinstance(error, control_errors.LeftForOthers):
            recorder.kept.drop_workflow(owner.workflow_id)
            reason = without_secrets(error.reason.message)
            _log.warning(
                "workflow %r is left here, for a process that has what it needs: %s",
                owner.workflow_id,
                reason,
            )
            if recorder.mirror is None:
                is_unattended = workflow_scope.is_unattended(owner.workflow_id)
                lacking = _Ended(owner, "", reason, is_lacking=True, is_unattended=is_unattended)
                self._put(lacking, pause=0.0)
            return
        if isinstance(error, EXITS):
            # In the main thread: the process ends with it, and the next one goes on.
            return
        state = not_now.state_of(error)
        reason = type(error).__name__ + ("" if state is None else f", SQLSTATE {state}")
        self._put(_Ended(owner, str(uuid.uuid4()), reason))

    def _put(self, ended: _Ended, pause: float | None = None) -> None:
        workflow_id = ended.owner.workflow_id
        if pause is None:
            times = min(self._times.get(workflow_id, 0), _DOUBLED)
            pause = min(_FIRST_PAUSE * 2**times, _LONGEST_PAUSE)
        with self._attendant.changed:
            if self._attendant.is_closed:
                return
            due = time.monotonic() + pause
            self._ended[workflow_id] = dataclasses.replace(ended, due=due)
            self._attendant.wake()
            process_state.of(Watcher).stop = self.close
            self._attendant.changed.notify_all()

    def close(self) -> None:
        self._attendant.close()

    def _watch(self) -> None:
        while (due := self._next()) is not None:
            recorder = self._recorder
            is_stopping = not presence.is_launched() or draining.is_closed()
            if recorder is None or is_stopping:
                for one in due:
                    self._leave(one)
            else:
                self._look_after(recorder, due)

    def _next(self) -> list[_Ended] | None:
        """Those whose time has come; None once there is nothing to look after."""
        with self._attendant.changed:
            while not self._attendant.is_closed and self._ended:
                now = time.monotonic()
                due = [one for one in self._ended.values() if one.due <= now]
                if due:
                    for one in due:
                        del self._ended[one.owner.workflow_id]
                    return due
                self._attendant.changed.wait(min(one.due for one in self._ended.values()) - now)
            self._attendant.leave()
            return None

    def _look_after(self, recorder: Recorder, due: list[_Ended]) -> None:
        ended = [one for one in due if not one.is_lacking]
        for one in due:
            if one.is_lacking:
                self._put_back(recorder, one)
        if not ended:
            return
        try:
            holders = recorder.holders({one.owner.workflow_id for one in ended})
        except Exception as error:  # noqa: BLE001  # looked for again
            for one in ended:
                self._put_off(one, error)
            return
        for one in ended:
            # It may have been taken before the connection was lost.
            is_open = [("PENDING", token) for token in (one.owner.token, one.next)]
            try:
                is_ours = holders.get(one.owner.workflow_id) in is_open and _is_taken(recorder, one)
            except Exception as error:  # noqa: BLE001  # tried again
                self._put_off(one, error)
                continue
            if is_ours:
                self._begin_again(Owner(one.owner.workflow_id, one.next), one.reason)
            else:
                self._leave(one)

    def _put_back(self, recorder: Recorder, lacking: _Ended) -> None:
        values = {
            "workflow_id": lacking.owner.workflow_id,
            "token": lacking.owner.token,
            "reason": lacking.reason,
            "internal_queue": executions.INTERNAL_QUEUE_NAME,
            "is_unattended": lacking.is_unattended,
        }
        try:
            with recorder.transactions.begin() as connection:
                setbacks.put_back(connection, recorder.schema, values)
        except Exception as error:  # noqa: BLE001  # tried again
            self._put_off(lacking, error)

    def _put_off(self, ended: _Ended, error: Exception) -> None:
        _log.debug("workflow %r is looked after later: %s", ended.owner.workflow_id, error)
        self._put(ended)

    def _leave(self, ended: _Ended) -> None:
        """Leave a workflow alone: its end is recorded, or it is another execution's."""
        workflow_id = ended.owner.workflow_id
        _log.debug("workflow %r ended here (%s), and is left", workflow_id, ended.reason)
        if self._recorder is not None:
            self._recorder.kept.drop_workflow(workflow_id)
        self._times.pop(workflow_id, None)

    def _begin_again(self, owner: Owner, reason: str) -> None:
        times = self._times[owner.workflow_id] = self._times.get(owner.workflow_id, 0) + 1
        _log.warning(
            "workflow %r ended here without a recorded outcome (%s): it is begun again, for the "
            "%d. time",
            owner.workflow_id,
            reason,
            times,
        )
        try:
            executions.execute_again(owner.workflow_id, owner.token)
        except executions.UnknownWorkflowError as error:
            _log.warning("workflow %r cannot be executed: %s", owner.workflow_id, error)
        except Exception as error:  # noqa: BLE001  # it is this process's, and is begun yet
            self._put(_Ended(owner, str(uuid.uuid4()), type(error).__name__))


def _is_taken(recorder: Recorder, ended: _Ended) -> bool:
    """Let the next execution own a workflow instead of the one that ended, if that still does."""
    owner = ended.owner
    values = {"workflow_id": owner.workflow_id, "token": owner.token, "new": ended.next}
    with recorder.system() as (connection, schema):
        return run_journal.taken_again(connection, schema, values)


def look_after(recorder: Recorder | None = None) -> None:
    """Begin executions again, from now on, that end in this process without an outcome.

    Args:
        recorder: Where their workflows are recorded; what ends before that is known is left alone.
    """
    unfinished = process_state.of(UnfinishedExecutions)
    if recorder is not None:
        unfinished.record_with(recorder)
