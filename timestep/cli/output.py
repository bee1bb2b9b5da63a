"""Prints what commands have to say: JSON for programs; lines, tables and stories for people.

All of it is fit for a terminal (`timestep.runtime.terminal`): commands print through here only.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from timestep.operations.queries.records import Interruption, Run, RunItem, ToolCall
from timestep.runtime import terminal
from timestep.runtime.terminal import printable, printable_lines
from timestep.serialization.json_output import dumps

_REASONS = {
    "cancelled": "somebody cancelled its workflow",
    "timeout": "its time was over",
    "code": "by its workflow's own code",
    "abandoned": "its workflow ended without it",
}

_STYLES = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "interrupted": "yellow",
    "cancelled": "dim",
}
_IDS = ("run", "interruption")
_LONG = 2000
_WIDE = 160
"""Columns of a table that is written to a file or a pipe."""
_FURTHER = "\n      "
"""How the further lines of an entry begin: an entry of a story has less before it."""


def say(line: str) -> None:
    """Print a line on standard output."""
    click.echo(printable(line))


def say_lines(text: str) -> None:
    """Print a text that may have several lines on standard output."""
    click.echo(printable_lines(text))


def tell(line: str) -> None:
    """Print a line on standard error: what is not the command's result."""
    click.echo(printable(line), err=True)


def document(value: Any) -> None:
    """Print a document for programs, as JSON."""
    click.echo(dumps(value))


def runs(found: Sequence[Run]) -> None:
    """A table of runs, newest first."""
    if not found:
        say("No runs.")
        return
    table = _table("run", "status", "agent", "turns", "tokens", "started")
    seen: set[str | None] = set()
    for run in found:
        # What `show` takes: the newest run of a workflow has the workflow's id.
        is_newest = run.parent_run_id is None and run.workflow_id not in seen
        if run.workflow_id is None:
            shown = run.id
        elif is_newest:
            seen.add(run.workflow_id)
            shown = run.workflow_id
        else:
            shown = f"↳ {run.id}"
        status: str = run.status
        if run.is_stuck:
            status += f" ({_stuck(run)})"
        table.add_row(
            _cell(shown),
            _cell(status, _STYLES[run.status]),
            _cell(run.agent_name),
            str(run.turns),
            str(run.usage.total_tokens),
            _when(run.started_at),
        )
    _print(table)
    _obstacles((run.workflow_id, run.obstacle) for run in found if run.is_stuck)


def _stuck(run: Run) -> str:
    """In two or three words, why nobody goes on with a run."""
    if run.is_left_alone:
        return "left alone"
    obstacle = run.obstacle or ""
    if obstacle.startswith(_PUT_ASIDE):
        return obstacle.partition(":")[0]
    return "lacks something" if obstacle.startswith("lacks something") else "no live host"


_PUT_ASIDE = ("put aside:", "given up:")
"""How obstacles begin that say it best themselves."""


def _obstacles(found: Iterable[tuple[str | None, str | None]]) -> None:
    """Why nobody goes on with some workflows, each reason of one of them."""
    told: set[str] = set()
    for workflow_id, obstacle in found:
        # Up to its first command, which names the workflow.
        reason = (obstacle or "").partition("`")[0]
        if obstacle is not None and reason not in told:
            told.add(reason)
            say(f"{workflow_id}: {obstacle}")


def approvals(found: Sequence[Interruption]) -> None:
    """A table of what waits for a decision, and how to decide."""
    if not found:
        say("Nothing waits for a decision.")
        return
    table = _table("workflow", "interruption", "agent", "wants")
    for one in found:
        doubt = " (may have happened already)" if one.reason == "in_doubt" else ""
        until = f", rejected at {_when(one.expires_at)}" if one.expires_at is not None else ""
        table.add_row(
            _cell(one.workflow_id),
            _cell(one.id),
            _cell(one.agent_name),
            _cell(f"{one.tool_name}({_json(one.arguments)}){doubt}{until}{_unless(one)}"),
        )
    _print(table)
    _obstacles((one.workflow_id, one.obstacle) for one in found)
    first = next((one for one in found if one.is_waited_for and one.obstacle is None), None)
    if first is not None:
        say(
            f"Decide:  {terminal.command('resume', first.workflow_id or '', '--approve', first.id)}"
        )


def _unless(one: Interruption) -> str:
    """That a decision would change nothing, if that is so."""
    if one.obstacle is not None:
        # Its first words; the others are told once.
        return f" ({one.obstacle.partition(':')[0]})"
    if one.is_waited_for:
        return ""
    return " (its workflow has ended; whoever goes on with its state decides)"


_MARKS = {"ok": "green", "doubt": "yellow", "problem": "red", "unknown": "dim"}


def finding(check: str, mark: str, text: str) -> None:
    """One line of `doctor`."""
    _print(_line((f"{mark:<7}", _MARKS[mark]), f"  {check:<12}  {text}"))


def story(run: Run, items: Sequence[RunItem], calls: Sequence[ToolCall]) -> None:
    """A run from its input to its end."""
    for line in _story(run, items, calls):
        _print(line)


def traceback(text: str | None) -> None:
    """Where in the code a run failed, if that is recorded."""
    if text is None:
        say("No traceback is recorded: the run did not fail, or its error was not one of the run. "
            "The log of its process has it, with TIMESTEP_LOG_LEVEL=debug.")  # fmt: skip
    else:
        _print(_line(text.rstrip("\n")))


def _story(run: Run, items: Sequence[RunItem], calls: Sequence[ToolCall]) -> Iterator[Text]:
    style = _STYLES[run.status]
    if run.id is None:
        yield _line(f"Workflow {run.workflow_id}  ", (run.status, style))
    else:
        yield _line(f"Run {run.id}  ", (run.status, style))
        if run.workflow_id is not None:
            yield _line(f"  workflow   {run.workflow_id} ({run.workflow_name})")
        now = run.current_agent_name
        turned = f", now {now}" if now not in (None, run.agent_name) else ""
        yield _line(f"  agent      {run.agent_name}{turned}")
    if run.parent_run_id is not None:
        yield _line(f"  inside     {run.parent_run_id}")
    if run.forked_from_run_id is not None:
        yield _line(f"  forked     from {run.forked_from_run_id}, before turn {run.forked_at_turn}")
    if run.session_id is not None:
        yield _line(f"  session    {run.session_id}")
    yield _line(f"  started    {_when(run.started_at)}{_took(run)}")
    if run.obstacle is not None:
        yield _line(f"  executor   {run.workflow_id}: {run.obstacle}", style="yellow")
    yield _line(f"  input      {words(run.input)}")
    made = {call.id: call for call in calls}
    turn = 0
    for item in items:
        if item.turn > turn:
            turn = item.turn
            yield _line(f"Turn {turn}", style="bold")
        if item is not items[-1] or not _is_answer(item, run):
            yield _line(f"  {_item(item, made)}")
    for one in run.interruptions:
        if one.resolved_at is not None:
            yield _line(_decided(one))
        elif run.completed_at is None:
            yield _line(
                f"Waits for a decision: {one.tool_name}({_json(one.arguments)}), "
                f"interruption {one.id}{_unless(one)}",
                style="yellow",
            )
    if run.error is not None:
        where = f" in turn {run.error.turn}" if run.error.turn else ""
        yield _line(f"Failed{where}: {run.error.type}: {run.error.message}", style="red")
    elif run.cancel_reason is not None:
        yield _line(f"Cancelled: {_REASONS[run.cancel_reason]}", style="yellow")
    elif run.status == "completed":
        yield _line(("Answer  ", "bold"), words(run.final_output))
    if run.id is not None:
        yield _line(_usage(run), style="dim")


def _item(item: RunItem, made: dict[str, ToolCall]) -> str:
    data = item.item_data if isinstance(item.item_data, dict) else {}
    call = made.get(item.tool_call_id or "")
    who = f"{item.agent_name}: " if item.agent_name else ""
    if item.item_type == "tool_call_output_item" and call is not None:
        how = "" if call.status == "executed" and not call.is_error else f" [{_outcome(call)}]"
        took = f" ({call.duration_ms} ms)" if call.duration_ms is not None else ""
        return f"← {call.tool_name}{how}: {words(data.get('output'))}{took}"
    if item.item_type == "handoff_output_item":
        return f"⇒ {words(data.get('output'))}"
    if item.item_type in ("tool_call_item", "handoff_call_item"):
        name = call.tool_name if call is not None else data.get("name") or data.get("type")
        given = call.arguments if call is not None else data.get("arguments", {})
        state = f" [{call.status}]" if call is not None and call.completed_at is None else ""
        return f"→ {who}{name}({given if isinstance(given, str) else _json(given)}){state}"
    return f"{who}{words(data.get('content', data.get('summary', data)))}"


def _is_answer(item: RunItem, run: Run) -> bool:
    """Whether an item says what the run answered, which its story ends with."""
    if run.status != "completed" or item.item_type != "message_output_item":
        return False
    data = item.item_data if isinstance(item.item_data, dict) else {}
    said = words(data.get("content", ""))
    if isinstance(run.final_output, str):
        return said == words(run.final_output)
    try:
        return bool(json.loads(said) == run.final_output)
    except ValueError:
        return False


def _decided(one: Interruption) -> str:
    always = " always" if one.resolution_always else ""
    who = f" by {one.resolved_by}" if one.resolved_by else ""
    told = f": {one.resolution_message}" if one.resolution_message else ""
    asked = f"{one.tool_name}({_json(one.arguments)})"
    return f"Decided: {one.resolution_action}{always} {asked}{who}{told}"


def _outcome(call: ToolCall) -> str:
    return "error" if call.is_error else call.status


def _usage(run: Run) -> str:
    usage = run.usage
    parts = [
        _count(run.turns, "turn"),
        _count(usage.requests, "model call"),
        f"{usage.input_tokens} tokens in, {usage.output_tokens} out",
    ]
    if run.cost is not None:
        parts.append(f"${run.cost:.4f}")
    return " · ".join(parts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _took(run: Run) -> str:
    if run.started_at is None or run.completed_at is None:
        return ""
    return f", took {(run.completed_at - run.started_at).total_seconds():.1f} s"


def words(value: Any) -> str:
    """Words of the model or the user, wherever the provider's item keeps them."""
    if isinstance(value, list):
        return " ".join(words(part) for part in value)
    if isinstance(value, dict):
        for name in ("text", "refusal", "content", "output"):
            if name in value:
                return words(value[name])
    text = value if isinstance(value, str) else _json(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]} …"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _when(moment: datetime.datetime | None) -> str:
    return moment.astimezone().strftime("%b %d %H:%M:%S") if moment is not None else ""


def _line(*parts: str | tuple[str, str], style: str = "") -> Text:
    """An entry of what people read: parts, some of them with a style.

    Further lines of it are set in, so that no text that it quotes looks like another entry.
    """
    styled = [(part, "") if isinstance(part, str) else part for part in parts]
    fit = [(printable_lines(text).replace("\n", _FURTHER), own) for text, own in styled]
    return Text.assemble(*fit, style=style)


def _cell(text: str | None, style: str = "") -> Text:
    return Text(printable(text or ""), style)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # Ids are there to be copied: they are whole, on one line where there is room.
        table.add_column(column, overflow="fold", no_wrap=column in _IDS)
    return table


def _print(what: Text | Table) -> None:
    # Words of models are no markup; lines are not cut where nobody watches a terminal.
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _WIDE
    console.print(what, soft_wrap=not isinstance(what, Table))
