"""Tells the story of a run: what it was given, what it did turn by turn, and how it ended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from timestep.cli import output
from timestep.runtime import deciding
from timestep.serialization.documents.envelopes import summary

if TYPE_CHECKING:
    from rich.text import Text

    from timestep.operations.queries.records import Interruption, Run, RunItem, ToolCall


def show(
    run: Run, items: Sequence[RunItem], calls: Sequence[ToolCall], *, asked: str | None = None
) -> None:
    """A run from its input to its end.

    Args:
        run: The run.
        items: All of its items.
        calls: All of its tool calls.
        asked: The id that the person gave: where it is the workflow's, that alone stands for both.
    """
    for line in _story(run, items, calls, asked):
        output.show(line)


def _story(
    run: Run, items: Sequence[RunItem], calls: Sequence[ToolCall], asked: str | None
) -> Iterator[Text]:
    status = (output.standing(run), output.STYLES[run.status])
    if run.id is None:
        yield output.line_of(f"Workflow {run.workflow_id}  ", status)
    else:
        is_named = asked is not None and asked == run.workflow_id
        yield output.line_of(f"Run {asked if is_named else run.id}  ", status)
        if is_named:
            yield output.line_of(f"  workflow   {run.workflow_name}")
        elif run.workflow_id is not None:
            yield output.line_of(f"  workflow   {run.workflow_id} ({run.workflow_name})")
        now = run.current_agent_name
        turned = f", now {now}" if now not in (None, run.agent_name) else ""
        yield output.line_of(f"  agent      {run.agent_name}{turned}")
    if run.parent_run_id is not None:
        yield output.line_of(f"  inside     {run.parent_run_id}")
    if run.forked_from_run_id is not None:
        yield output.line_of(
            f"  forked     from {run.forked_from_run_id}, before turn {run.forked_at_turn}"
        )
    if run.session_id is not None:
        yield output.line_of(f"  session    {run.session_id}")
    if run.tags:
        told = ", ".join(f"{name}={_value(value)}" for name, value in run.tags.items())
        yield output.line_of(f"  tags       {told}")
    yield output.line_of(f"  started    {output.when(run.started_at)}{_took(run)}")
    if run.id is None and run.workflow is not None and run.workflow.delayed_until is not None:
        yield output.line_of(f"  begins     {output.when(run.workflow.delayed_until)} or later")
    if run.recoveries:
        times = "" if run.recoveries == 1 else f", {run.recoveries} times"
        yield output.line_of(
            f"  recovered  its host died or was stopped, and it went on from its record{times}"
        )
    if run.obstacle is not None:
        yield output.line_of(f"  obstacle   {run.workflow_id}: {run.obstacle}", style="yellow")
    yield output.line_of(f"  input      {output.words(run.input)}")
    made = {call.id: call for call in calls}
    decided = {one.call_id: one for one in run.interruptions if one.resolved_at is not None}
    turn = 0
    for item in items:
        if item.turn > turn:
            turn = item.turn
            yield output.line_of(f"Turn {turn}", style="bold")
        if item is not items[-1] or not _is_answer(item, run):
            yield output.line_of("  ", *_item(item, made))
        call = made.get(item.tool_call_id or "")
        if call is not None and call.call_id is not None and call.call_id in decided:
            yield output.line_of(f"  {_decided(decided.pop(call.call_id))}")
    for one in run.interruptions:
        if one.resolved_at is not None:
            if one in decided.values():
                yield output.line_of(_decided(one))
        elif run.completed_at is None:
            yield output.line_of(
                f"Waits for a decision: {one.tool_name}({output.json_of(one.arguments)}), "
                f"interruption {one.id}{output.unless(one)}{output.sentence(one)}",
                style="yellow",
            )
            if deciding.is_in_doubt(one.reason):
                yield output.line_of(f"  {deciding.MAY_BE_DONE}", style="yellow")
                for way in deciding.ways(run.workflow_id or "", one.id, one.reason):
                    yield output.line_of(f"  {way}")
    if run.error is not None:
        where = f" in turn {run.error.turn}" if run.error.turn else ""
        yield output.line_of(f"Failed{where}: {run.error.type}: {run.error.message}", style="red")
    elif run.cancel_reason is not None:
        yield output.line_of(f"Cancelled: {output.REASONS[run.cancel_reason]}", style="yellow")
    elif run.status == "completed":
        yield output.line_of(("Answer  ", "bold"), output.words(run.final_output))
    if run.id is not None:
        yield output.line_of(_usage(run), style="dim")


def _item(item: RunItem, made: dict[str, ToolCall]) -> Iterator[str | tuple[str, str]]:
    """What an item says, in parts, some of them with a style."""
    data = item.item_data if isinstance(item.item_data, dict) else {}
    call = made.get(item.tool_call_id or "")
    who = (f"{item.agent_name}: " if item.agent_name else "", "bold")
    if item.item_type == "tool_call_output_item" and call is not None:
        yield from (("← ", "cyan"), call.tool_name)
        if call.status != "executed" or call.is_error:
            yield f" [{_outcome(call)}]", "red"
        yield f": {output.words(data.get('output'))}"
        if raised := _raised(call):
            yield f" [{raised}]", "red"
        if call.duration_ms is not None:
            yield f" ({call.duration_ms} ms)", "dim"
    elif item.item_type == "handoff_output_item":
        yield from (("⇒ ", "magenta"), output.words(data.get("output")))
    elif item.item_type in ("tool_call_item", "handoff_call_item"):
        name = call.tool_name if call is not None else data.get("name") or data.get("type")
        given = call.arguments if call is not None else data.get("arguments", {})
        yield from (("→ ", "cyan"), who)
        yield f"{name}({given if isinstance(given, str) else output.json_of(given)})"
        if call is not None and call.edited_arguments is not None:
            yield f", edited to {name}({output.json_of(call.edited_arguments)})"
        if call is not None and call.completed_at is None:
            yield f" [{call.status}]", "yellow"
    else:
        yield from (who, output.words(data.get("content", data.get("summary", data))))


def _is_answer(item: RunItem, run: Run) -> bool:
    """Whether an item says what the run answered, which its story ends with."""
    if run.status != "completed" or item.item_type != "message_output_item":
        return False
    data = item.item_data if isinstance(item.item_data, dict) else {}
    said = output.words(data.get("content", ""))
    if isinstance(run.final_output, str):
        return said == output.words(run.final_output)
    try:
        return bool(json.loads(said) == run.final_output)
    except ValueError:
        return False


def _decided(one: Interruption) -> str:
    always = " always" if one.resolution_always else ""
    who = f" by {one.resolved_by}" if one.resolved_by else ""
    told = f": {one.resolution_message}" if one.resolution_message else ""
    asked = f"{one.tool_name}({output.json_of(one.arguments)})"
    if one.resolution_arguments is not None:
        asked += f" to {one.tool_name}({output.json_of(one.resolution_arguments)})"
    return f"Decided: {one.resolution_action}{always} {asked}{who}{told}"


def _outcome(call: ToolCall) -> str:
    return "error" if call.is_error else call.status


def _raised(call: ToolCall) -> str | None:
    """What the last attempt of a call raised that the model was told of."""
    failed = call.failed_attempts
    last = failed[-1] if isinstance(failed, list) and failed else None
    # Whoever writes to the table may have written anything.
    if (
        call.status != "executed"
        or not isinstance(last, dict)
        or last.get("followed_ms", 0) is not None
    ):
        return None
    return f"raised {summary(last.get('error'))}"


def _value(tag: Any) -> str:
    return tag if isinstance(tag, str) else output.json_of(tag)


def _usage(run: Run) -> str:
    usage = run.usage
    parts = [
        output.count(run.turns, "turn"),
        output.count(usage.requests, "model call"),
        f"{usage.input_tokens} tokens in, {usage.output_tokens} out",
    ]
    if run.cost is not None:
        parts.append(f"${run.cost:.4f}")
    return " · ".join(parts)


def _took(run: Run) -> str:
    if run.started_at is None or run.completed_at is None:
        return ""
    return f", took {(run.completed_at - run.started_at).total_seconds():.1f} s"
