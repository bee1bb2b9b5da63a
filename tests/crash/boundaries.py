"""Names every boundary of every step of a run, and dies at the one asked for.

Loaded in the process under test. A boundary's label says where it lies and of which step:
`before`, `streamed` (some of what a model said is recorded), `after` (the effect happened),
`committed` (our transaction), `recorded` (DBOS's, where it is not one with ours). A wait for a
person has three: before the workflow is parked, when it is, and when a decision has brought it
back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbos._sys_db import SystemDatabase

from timestep.approvals import wait_for_decision
from timestep.journal import begin_or_recover
from timestep.journal.recorder import Recorder
from timestep.runtime import process_state
from timestep.steps import guardrail_check, model_call, recorded_value, tool_call
from timestep.steps import perform as performing


@dataclass
class _Current:
    """The step that is being performed, and what it did to the world."""

    name: str
    effects: list[str] = field(default_factory=list)


_current: ContextVar[_Current | None] = ContextVar("current", default=None)


class Boundaries:
    """Logs boundaries and effects to a file that outlives the process."""

    def __init__(self, log: Path, kill_at: str | None) -> None:
        self.log = log
        self.kill_at = kill_at
        self._passed: dict[str, int] = {}
        self.batch_written = asyncio.Event()
        """A model waits for it in the middle of what it says, so that there is such a boundary."""
        self._file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def reach(self, label: str) -> None:
        self._passed[label] = self._passed.get(label, 0) + 1
        if self._passed[label] > 1:
            label = f"{label} #{self._passed[label]}"
        os.write(self._file, f"{label}\n".encode())
        if label == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def effect(self, name: str) -> None:
        """Something happened in the world that must not happen twice."""
        os.write(self._file, f"effect {name}\n".encode())
        if (current := _current.get()) is not None:
            current.effects.append(name)

    def install(self) -> None:
        """Put the boundaries around every step, commit and record of this process."""
        self._around_steps()
        self._after_commits()
        self._after_records()
        self._around_waits()

    def _around_steps(self) -> None:
        kinds = (
            model_call._ModelStep,
            tool_call._CallStep,
            guardrail_check._RunCheck,
            guardrail_check._CallCheck,
        )
        for kind in (*kinds, recorded_value._ValueStep):
            _replace(kind, "effect", self._bounded(kind.effect))
        perform = performing.perform

        async def named(step: Any) -> Any:
            token = _current.set(_Current(step.name))
            try:
                return await perform(step)
            finally:
                _current.reset(token)

        for module in (model_call, tool_call, guardrail_check, recorded_value):
            _replace(module, "perform", named)

    def _bounded(self, effect: Any) -> Any:
        async def bounded(step: Any) -> Any:
            self.reach(f"before {step.name}")
            result = await effect(step)
            self.reach(f"after {step.name}")
            return result

        return bounded

    def _after_commits(self) -> None:
        commit, begin = Recorder.commit, begin_or_recover.begin

        async def committed(
            recorder: Recorder, owner: Any, rows: Any, *args: Any, **given: Any
        ) -> None:
            await commit(recorder, owner, rows, *args, **given)
            current = _current.get() or _Current("end of run")
            if rows.keys() == {"stream_batches"}:
                self.reach(f"streamed {current.name}")
                self.batch_written.set()
                return
            if any(row["status"] == "started" for row in rows.get("tool_calls", ())):
                self.reach(f"intended {current.name}")
                return
            for name in current.effects:
                os.write(self._file, f"kept {name}\n".encode())
            self.reach(f"committed {current.name}")

        async def begun(*args: Any, **options: Any) -> Any:
            journal = await begin(*args, **options)
            self.reach("committed start of run")
            return journal

        _replace(Recorder, "commit", committed)
        _replace(begin_or_recover, "begin", begun)

    def _after_records(self) -> None:
        record = SystemDatabase.record_operation_result

        def recorded(system: Any, result: Any, **options: Any) -> None:
            record(system, result, **options)
            self.reach(f"recorded {result['function_name']}")

        _replace(SystemDatabase, "record_operation_result", recorded)

    def _around_waits(self) -> None:
        park, tell = wait_for_decision.park, wait_for_decision.tell

        async def bounded(*args: Any) -> None:
            self.reach("before parking")
            try:
                await park(*args)
            except wait_for_decision.Parked:
                self.reach("parked")
                raise

        def told(workflow_id: str, queue: str | None) -> None:
            decisions = process_state.of(wait_for_decision.Decisions)
            if not decisions.is_heard_by(threading.current_thread()):
                # Whoever decides tells its own process; what the database tells comes any time.
                self.reach("told of a decision")
            tell(workflow_id, queue)

        _replace(wait_for_decision, "park", bounded)
        _replace(wait_for_decision, "tell", told)


def _replace(owner: Any, name: str, ours: Any) -> None:
    setattr(owner, name, ours)
