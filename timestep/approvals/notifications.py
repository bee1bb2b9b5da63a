"""Tells somebody, through a workflow of its own, that a run waits for approvals.

What tells them is a workflow of its own, so it is sent whatever becomes of this process, and
holds up nobody. Its id comes from the questions: a replay, a recovery and a second execution
tell nothing anew. The URL and its secrets are read where it is sent, and recorded nowhere.
"""

from __future__ import annotations

import asyncio
import uuid
import weakref
from dataclasses import asdict
from typing import Any

from dbos import DBOS

from timestep import config
from timestep.approvals.webhook import Answer, Webhook
from timestep.dbos_internals import executions
from timestep.execution.run import Run
from timestep.journal.recorder import recorder
from timestep.runtime import draining, logs, process_state
from timestep.runtime.cancellation import in_thread
from timestep.runtime.process_state import PerProcess
from timestep.serialization.ids import derived
from timestep.store import interruptions as store

_log = logs.logger()

NAME = "timestep.escalate"
"""DBOS's name for the workflow, which `runner.dbos_workflows` registers."""

_DECIDED = "decided"
_PAUSES = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds between one sending and the next, at least: a receiver may ask for more time."""
_LONGEST_PAUSE = 3600.0
_AT_ONCE = 8
"""How many messages one process sends at the same time."""


class Places(PerProcess):
    """A process sends `_AT_ONCE` messages at the same time, on each of its event loops."""

    def __init__(self) -> None:
        self._of_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )

    def here(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        return self._of_loops.setdefault(loop, asyncio.Semaphore(_AT_ONCE))


async def announce(run: Run) -> None:
    """Let somebody be told what a run, and the runs inside it, ask now; once for each stop.

    Nothing happens where `TIMESTEP_ESCALATION_URL` is unset, or nothing is undecided.
    """
    if Webhook.of(config.read()) is None:
        return
    workflow_id = run.owner.workflow_id
    family = {run.id, *(child.id for child in run.family())}
    rows = await run.recorder.read(
        lambda connection: store.select(connection, workflow_id=workflow_id)
    )
    asked = [row for row in rows if row["run_id"] in family]
    waiting = [str(row["id"]) for row in asked if row["resolved_at"] is None]
    if not waiting:
        return
    # What was asked so far tells the stops apart, whatever of it is decided by now.
    message = derived(run.id, f"escalation:{':'.join(sorted(str(row['id']) for row in asked))}")
    arguments = {
        "workflow_id": workflow_id,
        "run_id": str(run.id),
        "message": str(message),
        "questions": waiting,
    }
    await in_thread(lambda: executions.enqueue_apart(NAME, f"{NAME}:{message}", arguments))


async def told(workflow_id: str, run_id: str, message: str, questions: list[str]) -> str:
    """What the workflow does: send until the message is taken; how that ended."""

    async def send() -> dict[str, Any]:
        async with draining.Passage(), process_state.of(Places).here():
            return asdict(await _sent(workflow_id, run_id, message, questions))

    attempts = 0
    while True:
        answer = Answer(**await DBOS.run_step_async({"name": "escalation: send"}, send))
        attempts += 1
        if answer.failure is None:
            return "told"
        if answer.failure == _DECIDED:
            return _DECIDED
        if not answer.may_pass or attempts > len(_PAUSES):
            break
        pause = max(_PAUSES[attempts - 1], answer.retry_after)
        await DBOS.sleep_async(min(pause, _LONGEST_PAUSE))
    reason = f"{answer.failure} ({attempts} attempt{'s' if attempts > 1 else ''})"
    _log.warning(
        "nobody was told that workflow %s waits for %d approval(s), and it waits on: %s",
        workflow_id,
        len(questions),
        reason,
    )
    return f"failed: {reason}"


async def _sent(workflow_id: str, run_id: str, message: str, questions: list[str]) -> Answer:
    """Tell of the questions that nobody has answered so far."""
    rows = await recorder().read(
        lambda connection: store.select(connection, workflow_id=workflow_id, resolved=False)
    )
    waiting = [row for row in rows if str(row["id"]) in questions]
    if not waiting:
        return Answer(_DECIDED)
    webhook = Webhook.of(config.read())
    if webhook is None:
        return Answer("TIMESTEP_ESCALATION_URL is unset in the process that sends")
    answer = await webhook.send(
        f"msg_{uuid.UUID(message).hex}", webhook.message(workflow_id, run_id, waiting)
    )
    if answer.failure is not None:
        return Answer(f"{webhook.shown}: {answer.failure}", answer.may_pass, answer.retry_after)
    return answer
