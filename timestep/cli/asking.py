"""Asks the person at a terminal what to decide, one question of a run after the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from timestep.cli import output
from timestep.cli.reach import ask
from timestep.runtime import deciding
from timestep.runtime.terminal import printable, quoted
from timestep.serialization import json_input

if TYPE_CHECKING:
    from timestep.operations.queries.records import Interruption

_ANSWERS = {"a": "approve", "e": "edit", "r": "reject", "u": "supply", "s": "skip", "q": "quit"}
"""By the letter that is enough; it is a part of the word."""
_DONE = {
    "approve": "approved",
    "edit": "approved as edited",
    "reject": "rejected",
    "supply": "given a result",
}


def is_somebody_there() -> bool:
    """Whether a person reads what is printed, and can answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def decide(questions: Sequence[Interruption]) -> None:
    """Show each question, and do what the person says: each answer counts at once.

    What is decided is bound to what was shown. What somebody else decided meanwhile, or nobody
    waits for any more, is told, and passed over.

    Raises:
        Abort: The person ended it, as with Ctrl-C; what was answered before stays decided.
    """
    from timestep.errors import (
        AlreadyResolvedError,
        ChangedQuestionError,
        NobodyWaitsError,
        UnknownInterruptionError,
    )

    waiting = [one for one in questions if one.resolved_at is None and one.is_waited_for]
    for number, one in enumerate(waiting, 1):
        show_question(one, number, len(waiting))
        try:
            if not _is_gone_on(one):
                return
        except (
            AlreadyResolvedError,
            ChangedQuestionError,
            NobodyWaitsError,
            UnknownInterruptionError,
        ) as error:
            output.tell(error.message)


def _is_gone_on(one: Interruption) -> bool:
    """Have a person answer a question that is shown; False: the person decides no more."""
    from timestep.errors import InvalidInputError

    draft = _draft(one.arguments)
    while True:
        answer = _answered(can_edit=_may_be_edited(one))
        if answer in ("quit", "skip"):
            return answer == "skip"
        if answer == "supply":
            result = _supplied()
            if result is _NOTHING:
                continue
            _apply(one, answer, value=result)
            return True
        if answer != "edit":
            _apply(one, answer, message=_told() if answer == "reject" else None)
            return True
        draft = _edited(draft)
        try:
            arguments = json_input.loads(draft)
        except ValueError as error:
            output.tell(f"what was written is not JSON: {error}")
            continue
        if _draft(arguments) == _draft(one.arguments):
            output.tell("these are the model's arguments: nothing is edited")
            continue
        try:
            _apply(one, answer, value=arguments)
        except InvalidInputError as error:
            output.tell(error.message)
        else:
            return True


def show_question(one: Interruption, number: int, count: int) -> None:
    """Show what a run asks, which of how many questions it is, and what a person should know."""
    given = one.arguments
    text = given if isinstance(given, str) else output.json_of(given, indent=2)
    place = (f"{number} of {count}  " if count > 1 else "", "dim")
    who, what = one.agent_name or "an agent", (one.tool_name or "a tool", "bold")
    lines = [
        output.line_of(""),
        output.line_of(place, who, " wants to call ", what),
        output.line_of(f"  in        {one.workflow_id}  (interruption {one.id})", style="dim"),
        output.line_of(f"  with      {text}"),
    ]
    notes = {
        "does": one.description,
        "doubt": deciding.MAY_BE_DONE if deciding.is_in_doubt(one.reason) else None,
        "until": f"{output.when(one.expires_at)}, then it is rejected" if one.expires_at else None,
        "executor": one.obstacle,
    }
    for label, note in notes.items():
        if note is not None:
            lines.append(output.line_of(f"  {label:<9} {note}", style="yellow"))
    for line in lines:
        output.show(line)


def _answered(*, can_edit: bool) -> str:
    """One of the answers, by its first letter or as a whole."""
    answers = {letter: one for letter, one in _ANSWERS.items() if can_edit or one != "edit"}
    shown = [one.replace(letter, f"[{letter}]", 1) for letter, one in answers.items()]
    while True:
        given = click.prompt(f"{', '.join(shown[:-1])} or {shown[-1]}", prompt_suffix="? ")
        for letter, answer in answers.items():
            if given.strip().lower() in (letter, answer):
                return answer
        output.tell(f"{quoted(given)} is none of these")


def _may_be_edited(one: Interruption) -> bool:
    """Whether to offer that: what is a call of a tool with a schema, and was not begun yet."""
    return one.arguments_schema is not None and not deciding.is_in_doubt(one.reason)


def _draft(arguments: Any) -> str:
    """Arguments as a person edits them: what would not be seen is written as JSON escapes it."""
    text = json.dumps(arguments, ensure_ascii=False, indent=2)
    return "".join(
        one if one == "\n" or printable(one) == one else json.dumps(one)[1:-1] for one in text
    )


def _edited(draft: str) -> str:
    """What a person made of a draft in an editor; the draft itself where nothing was saved."""
    try:
        return (click.edit(draft, extension=".json") or draft).strip()
    except click.ClickException as error:
        output.tell(f"{error.format_message()}: name an editor in EDITOR, or use `resume --edit`")
        return draft


def _told() -> str | None:
    """What the model is to be told of a rejection; None: no more than that there is one."""
    given: str = click.prompt("Why, for the model (or nothing)", default="", show_default=False)
    return given.strip() or None


_NOTHING: Any = object()


def _supplied() -> Any:
    """The result of a call that is not made, as JSON; `_NOTHING` where none is given."""
    while True:
        given: str = click.prompt(
            'Its result, as JSON, such as "done" or 12 (or nothing)', default="", show_default=False
        )
        if not given.strip():
            return _NOTHING
        try:
            return json_input.loads(given)
        except ValueError as error:
            output.tell(f"{quoted(given)} is not JSON: {error}; a text is in double quotes")


def _apply(
    one: Interruption, answer: str, *, message: str | None = None, value: Any = None
) -> None:
    result = ask(
        lambda host: host.resume(
            one.workflow_id or "",
            approve=[one.id] if answer == "approve" else (),
            reject=[one.id] if answer == "reject" else (),
            edit={one.id: value} if answer == "edit" else None,
            supply={one.id: value} if answer == "supply" else None,
            expect={one.id: one.hash},
            message=message,
        )
    )
    left = f", {len(result.pending)} still to decide" if result.pending else ""
    output.say(f"{_DONE[answer]}{left}")
    if result.reason is not None:
        output.tell(f"{one.workflow_id}: {result.reason}")
