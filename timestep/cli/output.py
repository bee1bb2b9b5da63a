"""Prints what commands have to say: JSON for programs; lines, tables and stories for people.

All of it is fit for a terminal (`timestep.runtime.terminal`): commands print through here only.
Rich is imported by what prints with it: it takes as long as a query of the database.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from timestep.runtime import deciding
from timestep.runtime.terminal import printable, printable_lines
from timestep.serialization.json_output import dumps

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from timestep.operations.queries.records import Interruption, Run

STYLES = {
    "running": "cyan",
    "completed": "green",
    "failed": "red",
    "interrupted": "yellow",
    "cancelled": "dim",
}
REASONS = {
    "cancelled": "somebody cancelled its workflow",
    "timeout": "its time was over",
    "code": "by its workflow's own code",
    "abandoned": "its workflow ended without it",
}
"""Why a run was cancelled, by what is recorded of it."""
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
    table = table_of("run", "status", "agent", "turns", "tokens", "started")
    for run in found:
        # The one id of it that all commands take.
        shown = run.workflow_id if run.id is None or run.is_newest else run.id
        if run.parent_run_id is not None:
            shown = f"↳ {shown}"
        table.add_row(
            cell(shown),
            cell(standing(run), STYLES[run.status]),
            cell(run.agent_name),
            str(run.turns),
            str(run.usage.total_tokens),
            when(run.started_at),
        )
    show(table, is_wrapped=False)
    _obstacles((run.workflow_id, run.obstacle) for run in found if run.is_stuck)


def standing(run: Run) -> str:
    """A run's status, and in two or three words why nobody goes on with it, where nobody does."""
    return f"{run.status} ({_stuck(run)})" if run.is_stuck else run.status


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


def approvals(found: Sequence[Interruption], *, is_asked: bool = False) -> None:
    """A table of what waits for a decision, and how to decide, unless that is asked next."""
    if not found:
        say("Nothing waits for a decision.")
        return
    table = table_of("workflow", "interruption", "agent", "wants")
    for one in found:
        doubt = f" ({deciding.MAY_BE_DONE})" if deciding.is_in_doubt(one.reason) else ""
        until = f", rejected at {when(one.expires_at)}" if one.expires_at is not None else ""
        table.add_row(
            cell(one.workflow_id),
            cell(one.id),
            cell(one.agent_name),
            cell(
                f"{one.tool_name}({json_of(one.arguments)}) #{one.hash[:_HASH]}"
                f"{doubt}{until}{unless(one)}{sentence(one)}"
            ),
        )
    show(table, is_wrapped=False)
    _obstacles((one.workflow_id, one.obstacle) for one in found)
    first = next((one for one in found if one.is_waited_for and one.obstacle is None), None)
    if first is not None and not is_asked:
        for way in deciding.ways(first.workflow_id or "", first.id, first.reason):
            say(f"Decide:  {way}")


_HASH = 16
"""Digits of a question's hash that `resume --expect` takes for all."""


def sentence(one: Interruption) -> str:
    """What a call will do, as its tool says, if it does."""
    return "" if one.description is None else f": {one.description}"


def unless(one: Interruption) -> str:
    """That a decision would change nothing, if that is so."""
    if one.obstacle is not None:
        # Its first words; the others are told once.
        return f" ({one.obstacle.partition(':')[0]})"
    if one.is_waited_for:
        return ""
    return " (its workflow has ended; whoever goes on with its state decides)"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of texts."""
    shown = table_of(*columns)
    for row in rows:
        shown.add_row(*map(cell, row))
    show(shown)


_MARKS = {"ok": "green", "doubt": "yellow", "problem": "red", "unknown": "dim"}


def finding(check: str, mark: str, text: str) -> None:
    """One line of `doctor`."""
    show(line_of((f"{mark:<7}", _MARKS[mark]), f"  {check:<12}  {text}"))


def traceback(text: str | None, found: Run) -> None:
    """Where in the code a run failed, if that is recorded."""
    if text is None and found.id is None and found.error is not None:
        say("No traceback is recorded of a workflow that failed before its first run, only this: "
            f"{found.error.type}: {found.error.message}. The log of its process has it, with "
            "TIMESTEP_LOG_LEVEL=debug.")  # fmt: skip
    elif text is None:
        say("No traceback is recorded: the run did not fail, or its error was not one of the run. "
            "The log of its process has it, with TIMESTEP_LOG_LEVEL=debug.")  # fmt: skip
    else:
        show(line_of(text.rstrip("\n")))


def entry(who: str, text: str) -> None:
    """One entry of what was said, and by whom."""
    show(line_of((who, "bold"), text))


def said(item: Any) -> str:
    """What an item says: a call as such, words as they are."""
    if isinstance(item, dict) and item.get("type") == "function_call":
        return f"→ {item.get('name')}({item.get('arguments')})"
    return words(item)


def count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def words(value: Any) -> str:
    """Words of the model or the user, wherever the provider's item keeps them."""
    try:
        return _words(value)
    except RecursionError:
        return _beginning(json_of(value))


def _words(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_words(part) for part in value)
    if isinstance(value, dict):
        for name in ("text", "refusal", "content", "output"):
            if name in value:
                return _words(value[name])
    return _beginning(value if isinstance(value, str) else json_of(value))


def _beginning(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]} …"


def json_of(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, default=str, indent=indent)


def when(moment: datetime.datetime | None) -> str:
    return moment.astimezone().strftime("%b %d %H:%M:%S") if moment is not None else ""


def line_of(*parts: str | tuple[str, str], style: str = "") -> Text:
    """An entry of what people read: parts, some of them with a style.

    Further lines of it are set in, so that no text that it quotes looks like another entry.
    """
    from rich.text import Text

    styled = [(part, "") if isinstance(part, str) else part for part in parts]
    fit = [(printable_lines(text).replace("\n", _FURTHER), own) for text, own in styled]
    return Text.assemble(*fit, style=style)


def cell(text: str | None, style: str = "") -> Text:
    from rich.text import Text

    return Text(printable(text or ""), style)


def table_of(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # Ids are there to be copied: they are whole, on one line where there is room.
        table.add_column(column, overflow="fold", no_wrap=column in _IDS)
    return table


def console() -> Console:
    """Where people read. Words of models are no markup; lines are not cut where nobody watches."""
    from rich.console import Console

    found = Console(highlight=False, markup=False)
    if not found.is_terminal:
        found.width = _WIDE
    return found


def show(what: Text | Table, *, is_wrapped: bool = True) -> None:
    console().print(what, soft_wrap=is_wrapped)
