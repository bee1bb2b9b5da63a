"""Records what a run asks people, and knows which of its calls are in doubt."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from agents import FunctionTool, RunContextWrapper, RunResult, RunResultStreaming, RunState
from agents.items import ToolApprovalItem

from timestep.execution.pending_calls import Call
from timestep.execution.run import Rows, Run
from timestep.runtime import logs, unended_calls
from timestep.runtime.cancellation import Signal
from timestep.runtime.terminal import quoted
from timestep.serialization import exceptions
from timestep.serialization.ids import derived, storable_name
from timestep.serialization.sdk_objects import arguments_of, call_id_of, jsonable, raw
from timestep.serialization.values import plain_text, storable
from timestep.store import interruptions as store
from timestep.store.access import audit
from timestep.tool_options import sentence_of

_log = logs.logger()


class InDoubtError(Signal):
    """A call that must not be repeated was started again, and again its outcome is unknown."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call


def expected(run: Run, call_id: str) -> Call | None:
    """The call that the model asked for and that was not made yet."""
    return run.calls.next(call_id)


def is_asked_about(run: Run, call_id: str) -> bool:
    """Whether a call must wait for a person, whatever its tool says.

    That is a call that must not be repeated and was started by an execution that died. Each
    later execution asks the same questions in the same order again.
    """
    call = expected(run, call_id)
    return call is not None and (next_question(run, call) is not None or is_in_doubt(run, call))


async def until_ended(run: Run, call_id: str) -> None:
    """Wait for a call's end that an earlier execution still makes: it may be in doubt then."""
    call = expected(run, call_id)
    if call is not None and not call.row["safe_to_repeat"]:
        await unended_calls.ended(call.id)


def is_answered(run: Run, call_id: str) -> bool:
    """Whether the record holds a call's outcome, and no question that was asked before it."""
    call = expected(run, call_id)
    if call is None or next_question(run, call) is not None:
        return False
    row = run.record.find("tool_calls", call.id)
    return row is not None and row["status"] in ("executed", "failed")


def is_in_doubt(run: Run, call: Call) -> bool:
    """Whether a call was started and its outcome was never recorded, nor is held here."""
    row = run.record.find("tool_calls", call.id)
    if row is None or pauses_again(run, call) or unended_calls.has_outcome(call.id):
        return False
    return (
        row["status"] in ("started", "in_doubt", "unknown") and row["intents"] > call.paused_intents
    )


def pauses_again(run: Run, call: Call) -> bool:
    """Whether the record says that a call stopped for a question inside it, at this point."""
    # Few runs have any: an id is made only where there may be a row.
    return run.record.has("step_values") and (
        run.record.find("step_values", pause_id(call)) is not None
    )


def pause_id(call: Call) -> uuid.UUID:
    return derived(call.id, f"pause:{call.pauses}")


def next_question(run: Run, call: Call) -> dict[str, Any] | None:
    """The recorded question that an earlier execution asked of a call at this point."""
    asked = [row for row in run.record.all("interruptions") if row["tool_call_id"] == str(call.id)]
    asked.sort(key=lambda row: row["created_at"])
    return asked[call.asked] if call.asked < len(asked) else None


def doubted_again(run: Run) -> list[Call]:
    """Calls that were decided, were started then, and whose outcome is unknown once more.

    The same in every execution that comes to this point.
    """
    return [
        call
        for call in run.calls.of_turn
        if call.asked and (next_question(run, call) is not None or not _is_settled(run, call))
    ]


def _is_settled(run: Run, call: Call) -> bool:
    """Whether a decision covers the newest intent of a call, or the call has an outcome."""
    decision = run.questions.decision(call.id)
    if not is_in_doubt(run, call) or decision is None:
        return True
    answers_it = decision["id"] == str(doubt_id(run, call))
    return answers_it or decision["resolution_action"] not in ("approve", "edit")


def doubt_id(run: Run, call: Call) -> uuid.UUID:
    """The question about a call's newest intent: each intent is asked about anew."""
    row = run.record.find("tool_calls", call.id)
    return derived(call.id, f"in_doubt:{row['intents'] if row is not None else 0}")


def call_id(item: ToolApprovalItem) -> str:
    """The provider's id of the call that wants an approval."""
    return call_id_of(raw(item.raw_item))


def call_of(run: Run, item: ToolApprovalItem) -> tuple[Run, Call] | None:
    """The call that an approval is about, and the run (this one, or one inside it) it is of."""
    for child in run.children.values():
        stopped = child.questions.result
        if stopped is not None and any(asked is item for asked in stopped.interruptions):
            return call_of(child, item)
    wanted = call_id(item)
    same = [call for call in run.calls.of_turn if call.call_id == wanted]
    for call in same:
        if call.row["tool_name"] == storable_name(item.tool_name or ""):
            return run, call
    for child in run.children.values():
        if (found := call_of(child, item)) is not None:
            return found
    return (run, same[0]) if same else None


async def record(
    run: Run, result: RunResult | RunResultStreaming, doubted: Sequence[Call] | None = None
) -> None:
    """Write that a run stopped: its questions, its status and its state.

    Args:
        run: The run.
        result: How the SDK's loop ended.
        doubted: Where the run stops once more, the calls that are asked about once more.
    """
    run.questions.stop(frozenset(call_id(item) for item in result.interruptions))
    rows: Rows = {"interruptions": [], "tool_calls": []}
    asked = []
    for item in result.interruptions:
        found = call_of(run, item)
        if found is None:
            continue
        if found[0] is not run:
            # Asked by a run inside this one, which recorded it.
            asked.append(str(found[1].question))
        elif doubted is None or any(found[1] is call for call in doubted):
            asked.append(_ask(run, found[1], item, rows))
    state_id = derived(run.id, f"interrupted:{':'.join(sorted(asked))}")
    if asked and run.record.find("run_states", state_id) is not None:
        run.ends.end(is_recorded=True)
        return
    if (state := run.history.whole_state(run, result.to_state)) is not None:
        rows["run_states"] = [run.states.interrupted_row(state, state_id)]
    rows["runs"] = [
        {
            "id": str(run.id),
            "status": "interrupted",
            "current_turn": run.turn,
            "current_agent_id": str(await run.agent_id(result.last_agent)),
            "ends": run.ends.end(is_recorded=False),
        }
    ]
    await run.commits.commit(rows)


def _ask(run: Run, call: Call, item: ToolApprovalItem, rows: Rows) -> str:
    """The id of the question about a call, whose rows are added."""
    question = next_question(run, call)
    call.asked += 1
    if question is not None:
        # As it was asked: no tool says anew what the call will do.
        call.question = str(question["id"])
        return call.question
    if is_in_doubt(run, call):
        id_, reason = str(doubt_id(run, call)), "in_doubt"
        recorded = run.record.find("tool_calls", call.id) or {}
        rows["tool_calls"].append(
            {**call.row, "status": "in_doubt", "intents": recorded["intents"]}
        )
    else:
        id_, reason = str(derived(call.id, "approval")), "needs_approval"
    call.question = id_
    document = raw(item.raw_item)
    is_mcp = document.get("type") == "mcp_approval_request"
    arguments = arguments_of(document)
    rows["interruptions"].append(
        {
            "id": id_,
            "run_id": str(run.id),
            "agent_id": call.row["agent_id"],
            "tool_call_id": str(call.id),
            "type": "mcp_approval" if is_mcp else "tool_approval",
            "reason": reason,
            "call_id": storable_name(call_id(item), None),
            "tool_name": storable_name(item.tool_name or "") or call.row["tool_name"],
            "arguments": storable(arguments),
            "expires_at": run.questions.timeout,
            "description": _description(run, call, arguments),
            "arguments_schema": _schema(call),
        }
    )
    return id_


def _description(run: Run, call: Call, arguments: Any) -> str | None:
    """What a call will do, as its tool says when it is asked about, and never again."""
    try:
        return plain_text(sentence_of(call.tool, arguments))
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever a tool's own code raises
        _log.warning(
            "run %s asks about call %s of tool %s without a sentence of what it will do, because "
            "its `describe` failed: %s",
            run.id,
            quoted(call.call_id),
            quoted(call.row["tool_name"]),
            exceptions.in_log(error),
        )
        return None


def _schema(call: Call) -> Any:
    """The JSON schema of a call's arguments, where the tool has no row that tells it.

    So it is with those that a server lists, or that an agent has from time to time.
    """
    if call.row["tool_id"] is not None or not isinstance(call.tool, FunctionTool):
        return None
    return storable(jsonable(call.tool.params_json_schema))


async def settle(run: Run, state: RunState[Any], context: RunContextWrapper[Any] | None) -> None:
    """Take decisions that code made on the state itself for answers to the run's questions.

    Args:
        run: The run that goes on.
        state: What it goes on with.
        context: The state's, which has the decisions.
    """
    decisions = []
    for item in state.get_interruptions():
        found = call_of(run, item)
        if (
            found is None
            or found[0].questions.decision(found[1].id) is not None
            or not found[1].asked
        ):
            continue
        owner, call = found
        approved = (
            context.is_tool_approved(item.tool_name or "", call_id(item)) if context else None
        )
        if approved is None:
            continue
        action = "approve" if approved else "reject"
        owner.questions.decide(call.id, {"id": call.question, "resolution_action": action})
        decisions.append({**_BY_CODE, "id": call.question, "action": action})
    if decisions:
        await run.recorder.change(lambda connection: _resolve(connection, run, decisions))


def _resolve(connection: Any, run: Run, decisions: list[dict[str, Any]]) -> None:
    written = store.resolve(connection, run.recorder.schema, decisions)
    actor = {"who": "code", "via": "python"}
    audit.add_decided(connection, actor, run.owner.workflow_id, written)


_BY_CODE = {
    "message": None,
    "output": None,
    "has_output": False,
    "arguments": None,
    "seen": None,
    "until": None,
    "always": False,
    "by": "code",
}
