"""Approvals: run an agent until it answers, decide what it asks, and wake it."""

from __future__ import annotations

import asyncio
import datetime
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agents import Agent, RunResult, RunResultStreaming, RunState, TResponseInputItem

from timestep import escalation, interruptions, parking, takeovers
from timestep.calls import doubted_again
from timestep.errors import (
    AlreadyResolvedError,
    ConfigurationError,
    UnknownInterruptionError,
    UnknownRunError,
)
from timestep.opening import known_runs
from timestep.pages import Page, interruption_place, page_of, page_size
from timestep.recorder import in_thread, recorder
from timestep.run import Call, Run
from timestep.runner import DurableRunner, cut_by_owner
from timestep.store import interruptions as store
from timestep.store import waits
from timestep.values import encode, plain_text, restored, storable

_DOUBT_REJECTED = (
    "The process that made this call died before its outcome was known, and a person decided "
    "not to make it again. It may or may not have taken effect."
)
_UNSET: Any = object()


@dataclass(frozen=True)
class Interruption:
    """A question that a run waits for a person to answer."""

    id: str
    run_id: str
    workflow_id: str | None
    type: str
    """`tool_approval`, `mcp_approval` or `guardrail`."""
    reason: str
    """`needs_approval`; or `in_doubt`: a call that must not be repeated may have happened."""
    tool_name: str | None
    call_id: str | None
    arguments: Any
    agent_name: str | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    resolved_at: datetime.datetime | None
    resolution_action: str | None
    """`approve`, `reject` or `supply`."""
    resolution_message: str | None
    resolution_always: bool
    """Whether later calls of the same tool in the same run are decided likewise."""
    resolved_by: str | None
    """Who decided: a person, `timeout`, or `code` that decided on the run's state."""


@dataclass(frozen=True)
class ResumeResult:
    """What a resume-workflow call did."""

    workflow_id: str
    resolved: list[str]
    """Ids of the interruptions that are decided as the call asked."""
    pending: list[str]
    """Ids of those that still wait for a decision."""


async def run_agent(
    agent: Agent[Any],
    run_input: str | list[TResponseInputItem] | RunState[Any],
    session: Any = None,
    stream: bool = False,
    *,
    on_interruption: Literal["wait", "return"] = "wait",
    approval_timeout: float | None = None,
    timeout: float | None = None,  # noqa: ASYNC109  # durable, which asyncio's cannot be
    **runner_options: Any,
) -> RunResult | RunResultStreaming:
    """Run an agent durably; what an entrypoint calls.

    Args:
        agent: The agent that begins.
        run_input: Text, a list of input items, or a `RunState` to go on with.
        session: A `DatabaseSession`, or any other session that the SDK takes.
        stream: Whether the model is asked for a stream; the result comes when it has ended.
        on_interruption: `"wait"` sleeps durably until every pending approval is decided and
            goes on; `"return"` gives back the result with its `.interruptions`.
        approval_timeout: Seconds after which an undecided approval is rejected; those of runs
            inside this one, too.
        timeout: Seconds that the run may take, from its beginning or from the decision that it
            goes on with; people's time is not counted. A replay ends it where it ended.
        runner_options: As `agents.Runner.run` takes them.

    Raises:
        NotInWorkflowError: The caller is not inside a DBOS workflow.
        NotDurableError: Something of the run cannot be recorded; no model was called.
        ConfigurationError: An option has a value that is not one of those above.
        RunTimeoutError: `timeout` was over. The run is recorded as failed with it.
    """
    for name, seconds in {"timeout": timeout, "approval_timeout": approval_timeout}.items():
        if seconds is not None and not _is_duration(seconds):
            raise ConfigurationError(f"{name} {seconds!r} is not a positive number of seconds")
    if timeout is not None:
        runner_options["timeout"] = timeout
    if on_interruption not in ("wait", "return"):
        raise ConfigurationError(f"on_interruption is 'wait' or 'return', not {on_interruption!r}")
    if approval_timeout is not None and on_interruption == "wait":
        runner_options["approval_timeout"] = approval_timeout
    result = await _run(agent, run_input, session, stream, runner_options)
    while result.interruptions and on_interruption == "wait":
        state = await _decided_state(result)
        result = await _run(agent, state, session, stream, runner_options)
    return result


def _is_duration(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and value > 0 and math.isfinite(value)  # type: ignore[operator, arg-type]  # a number


async def _run(
    agent: Agent[Any], given: Any, session: Any, stream: bool, options: dict[str, Any]
) -> RunResult | RunResultStreaming:
    if not stream:
        return await DurableRunner.run(agent, given, session=session, **options)
    streamed = DurableRunner.run_streamed(agent, given, session=session, **options)
    async for _ in streamed.stream_events():
        pass
    return streamed


async def _decided_state(result: RunResult | RunResultStreaming) -> RunState[Any]:
    """The state of an interrupted run once everything it asks is decided."""
    run = _run_of(result)
    while True:
        state = result.to_state()
        asked = [(item, *_asked(run, item)) for item in state.get_interruptions()]
        rows = await _decisions(run, [str(call.question) for _, _, call in asked])
        answers = []
        for item, owner, call in asked:
            # The answer to the question that this execution has come to: a call may be asked
            # about several times.
            row = rows[str(call.question)]
            owner.decisions[call.id] = {**row, "id": str(row["id"])}
            answers.append((item, row))
        _apply(state, answers)
        if not (doubted := doubted_again(run)):
            return state
        # Asked about all at once, before any call of the turn is made. The execution that
        # started them had drawn their numbers, and may have used some.
        run.draw_again()
        await interruptions.record(run, result, doubted)


def _asked(run: Run, item: Any) -> tuple[Run, Call]:
    found = interruptions.call_of(run, item)
    if found is None:
        raise UnknownInterruptionError(
            f"run {run.id} waits for call {interruptions.call_id(item)!r}, and nobody was asked "
            "about it"
        )
    return found


def _apply(state: RunState[Any], answers: list[tuple[Any, dict[str, Any]]]) -> None:
    """Give a state the answers to all that it asks."""
    # An answer for every call of a tool takes those for single calls back, so it comes first;
    # of several, the newest holds.
    lasting = [(item, row) for item, row in answers if row["resolution_always"]]
    for item, row in sorted(lasting, key=lambda answer: answer[1]["resolved_at"]):
        _answer(state, item, row, always=True)
    for item, row in answers:
        _answer(state, item, row, always=False)


def _answer(state: RunState[Any], item: Any, row: dict[str, Any], *, always: bool) -> None:
    if row["resolution_action"] != "reject":
        state.approve(item, always_approve=always)
        return
    message = row["resolution_message"]
    if message is None and row["reason"] == "in_doubt":
        message = _DOUBT_REJECTED
    state.reject(item, always_reject=always, rejection_message=message)


def _run_of(result: RunResult | RunResultStreaming) -> Run:
    for run in known_runs():
        if run.interrupted_result is result:
            return run
    raise UnknownRunError("the interrupted run is not one of this workflow's")


async def _decisions(run: Run, questions: list[str]) -> dict[str, dict[str, Any]]:
    """Sleep durably until nobody has to answer any of a run's questions; the answers by id."""
    while True:
        rows = await in_thread(lambda: run.recorder.patiently(lambda: _look(run, questions)))
        if all(row["resolved_at"] for row in rows):
            # Another execution may have heard of the decision, too, and gone on with it.
            await in_thread(lambda: run.recorder.require(run.owner))
            return {str(row["id"]): row for row in rows}
        await escalation.announce(run)
        if run.numbers is not None:
            await parking.park(run.recorder, run.owner, questions)
        async with cut_by_owner(run):
            await parking.until_told(run.recorder, run.owner.workflow_id, _until_expiry(rows))


def _look(run: Run, questions: list[str]) -> list[dict[str, Any]]:
    """The questions as they are now; those whose time is over are rejected first."""
    with run.recorder.engine.connect() as connection:
        rows = waits.decisions(connection, questions)
    late = [row for row in rows if row["resolved_at"] is None and row["is_expired"]]
    if not late:
        return rows
    with run.recorder.transactions.begin() as connection:
        message = "Nobody decided in time."
        store.resolve(connection, [_decision(row, "reject", message, by="timeout") for row in late])
        return waits.decisions(connection, questions)


def _until_expiry(rows: list[dict[str, Any]]) -> float:
    """Seconds until the first undecided question expires."""
    ends = [row["expires_at"] for row in rows if row["resolved_at"] is None and row["expires_at"]]
    now = datetime.datetime.now(datetime.UTC)
    return max((min(ends) - now).total_seconds(), 0.001) if ends else math.inf


async def list_interruptions(
    *,
    workflow_id: str | None = None,
    run_id: str | uuid.UUID | None = None,
    resolved: bool | None = False,
) -> list[Interruption]:
    """Interruptions, oldest first.

    Args:
        workflow_id: Only those of this workflow.
        run_id: Only those of this run.
        resolved: False: undecided; True: decided; None: both.

    Raises:
        UnknownRunError: `run_id` is not an id.
    """
    run = _uuid(run_id)

    def read(connection: Any) -> list[dict[str, Any]]:
        return store.select(connection, workflow_id=workflow_id, run_id=run, resolved=resolved)

    return [_interruption(row) for row in await recorder().read(read)]


async def page_of_interruptions(
    *, workflow_id: str | None, resolved: bool | None, limit: int, cursor: str | None
) -> Page[Interruption]:
    """Interruptions as `list_interruptions` gives them, in parts.

    Args:
        workflow_id: Only those of this workflow.
        resolved: False: undecided; True: decided; None: both.
        limit: 1 to 200.
        cursor: The `next_cursor` of an earlier page, with the same filters.

    Raises:
        InvalidQueryError: The limit or the cursor cannot be used.
    """
    size, after = page_size(limit), interruption_place(cursor)

    def read(connection: Any) -> list[dict[str, Any]]:
        return store.select(
            connection, workflow_id=workflow_id, resolved=resolved, after=after, limit=size + 1
        )

    found = [_interruption(row) for row in await recorder().read(read)]
    return page_of(found, size, lambda one: one.id)


def _uuid(value: str | uuid.UUID | None) -> uuid.UUID | None:
    if value is None or isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(value)
    except ValueError:
        raise UnknownRunError(f"{value!r} is not the id of a run") from None


def _interruption(row: dict[str, Any]) -> Interruption:
    names = Interruption.__dataclass_fields__
    return Interruption(
        **{name: row[name] for name in names if name not in ("id", "run_id", "arguments")},
        id=str(row["id"]),
        run_id=str(row["run_id"]),
        arguments=restored(row["arguments"]),
    )


async def resume_workflow(
    workflow_id: str,
    *,
    approve: Sequence[str] | str = (),
    reject: Sequence[str] | str = (),
    supply: dict[str, Any] | None = None,
    always: bool = False,
    message: str | None = None,
    by: str | None = None,
    from_checkpoint: bool = False,
    repeat_steps: bool = False,
) -> ResumeResult:
    """Decide what a workflow's runs ask; a run with nothing left to ask goes on.

    Works from any process that reaches the database. A decision that was made already is
    made again without harm, whatever its message. Nothing is applied when one of the ids is bad.

    Args:
        workflow_id: The workflow whose runs wait.
        approve: Interruption ids or tool call ids to approve, or `"all"`.
        reject: Those to reject, or `"all"`.
        supply: Results by interruption id or tool call id: the call is not made, and this
            is its result. For a call that may have happened already.
        always: Decide later calls of the same agent's tool in the same run likewise. Calls
            whose outcome is in doubt are asked about nevertheless.
        message: What the model is told of a rejection.
        by: Who decided.
        from_checkpoint: Decide nothing; go on with the workflow in this version of the
            application, from its newest checkpoint. Recorded model and tool calls are not
            repeated.
        repeat_steps: With `from_checkpoint`: execute the workflow's own steps again, where this
            version has other ones than the record.

    Raises:
        TakeoverError: `from_checkpoint`, and the workflow is being executed by a live host, has
            ended, or left no usable checkpoint. Nothing was changed.
        UnknownRunError: `from_checkpoint`, and there is no such workflow.
        ConfigurationError: `from_checkpoint` together with decisions.
        UnknownInterruptionError: An id is not one of the workflow's, or it asked for nothing.
        AlreadyResolvedError: One of them was decided differently: the message tells by whom.
    """
    if from_checkpoint:
        if approve or reject or supply:
            raise ConfigurationError("from_checkpoint decides nothing: decide in another call")
        await takeovers.take_over(workflow_id, repeat_steps=repeat_steps)
        waiting = await list_interruptions(workflow_id=workflow_id)
        return ResumeResult(workflow_id, [], [asked.id for asked in waiting])
    queue: str | None = None

    def decide() -> ResumeResult:
        nonlocal queue
        found = recorder()
        with found.transactions.begin() as connection:
            waits.lock(connection, workflow_id)
            rows = store.select(connection, workflow_id=workflow_id)
            chosen = _choose(workflow_id, rows, approve, reject, supply or {})
            decisions = []
            for row, action, output in chosen:
                if row["resolved_at"] is None:
                    decisions.append(
                        _decision(row, action, message, always=always, by=by, output=output)
                    )
                elif _contradicts(row, action, output, always):
                    raise AlreadyResolvedError(
                        f"interruption {row['id']} ({row['tool_name']}) was decided already: "
                        f"{row['resolution_action']}"
                        + (" always" if row["resolution_always"] else "")
                        + (f" by {row['resolved_by']}" if row["resolved_by"] else "")
                    )
            store.resolve(connection, decisions)
            if found.mirror is None:
                queue = waits.wake(connection, found.schema, workflow_id)
        done = {row["id"] for row, _, _ in chosen}
        pending = [row for row in rows if row["resolved_at"] is None and row["id"] not in done]
        return ResumeResult(
            workflow_id=workflow_id,
            resolved=[str(row["id"]) for row, _, _ in chosen],
            pending=[str(row["id"]) for row in pending],
        )

    result = await in_thread(lambda: recorder().patiently(decide))
    await in_thread(lambda: parking.tell(workflow_id, queue))
    return result


def resume_workflow_sync(workflow_id: str, **decision: Any) -> ResumeResult:
    """`resume_workflow` for a caller without an event loop; the same arguments and errors."""
    return asyncio.run(resume_workflow(workflow_id, **decision))


def _contradicts(row: dict[str, Any], action: str, output: Any, always: bool) -> bool:
    """Whether what was decided is not what is asked for now."""
    if row["resolution_action"] != action:
        return True
    if action == "supply":
        return bool(row["resolution_output"] != storable(encode(output)))
    return always and not row["resolution_always"]


def _choose(
    workflow_id: str,
    rows: list[dict[str, Any]],
    approve: Sequence[str] | str,
    reject: Sequence[str] | str,
    supply: dict[str, Any],
) -> list[tuple[dict[str, Any], str, Any]]:
    """The interruptions that a call names, with its answer to each."""
    if not rows:
        raise UnknownInterruptionError(f"workflow {workflow_id!r} has asked for no approval")
    chosen: dict[uuid.UUID, tuple[dict[str, Any], str, Any]] = {}
    for action, names in (("approve", approve), ("reject", reject)):
        for row in _named(workflow_id, rows, names):
            _add(chosen, row, action, _UNSET)
    for name, output in supply.items():
        for row in _named(workflow_id, rows, [name]):
            _add(chosen, row, "supply", output)
    return list(chosen.values())


def _add(
    chosen: dict[uuid.UUID, tuple[dict[str, Any], str, Any]],
    row: dict[str, Any],
    action: str,
    output: Any,
) -> None:
    if row["id"] in chosen:
        raise AlreadyResolvedError(
            f"interruption {row['id']} ({row['tool_name']}) is given two decisions: "
            f"{chosen[row['id']][1]} and {action}"
        )
    chosen[row["id"]] = (row, action, output)


def _named(
    workflow_id: str, rows: list[dict[str, Any]], names: Sequence[str] | str
) -> list[dict[str, Any]]:
    if "all" in ([names] if isinstance(names, str) else names):
        # Where nothing waits, the call is made again, or contradicts what was decided.
        return [row for row in rows if row["resolved_at"] is None] or rows
    if isinstance(names, str):
        names = [names]
    found = []
    for name in names:
        same = [row for row in rows if name in (str(row["id"]), row["call_id"])]
        # A call is asked about anew where its outcome is in doubt: the newest question counts.
        undecided = [row for row in same if row["resolved_at"] is None]
        if not same or len(undecided) > 1:
            what = "is not one of" if not same else "is more than one of"
            raise UnknownInterruptionError(
                f"{name!r} {what} workflow {workflow_id!r}'s interruptions: give an id that "
                "`timestep approvals` lists"
            )
        found.append((undecided or same)[-1])
    return found


def _decision(
    row: dict[str, Any],
    action: str,
    message: str | None,
    *,
    always: bool = False,
    by: str | None = None,
    output: Any = _UNSET,
) -> dict[str, Any]:
    return {
        "id": row["id"],
        "action": action,
        "message": plain_text(message),
        "always": always and action != "supply",
        "by": plain_text(by),
        "has_output": output is not _UNSET,
        "output": None if output is _UNSET else storable(encode(output)),
    }
