"""Asks the person at a terminal what to decide, one question of a run after the other."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from timestep.cli import output
from timestep.cli.reach import ask
from timestep.runtime.terminal import quoted

if TYPE_CHECKING:
    from timestep.operations.queries.records import Interruption

_DOUBT = "this call may have happened already; to approve it makes it once more"
_ANSWERS = {"a": "approve", "r": "reject", "s": "skip", "q": "quit"}


def is_somebody_there() -> bool:
    """Whether a person reads what is printed, and can answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def decide(questions: Sequence[Interruption]) -> None:
    """Show each question, and do what the person says: each answer counts at once.

    What somebody else decided meanwhile, or nobody waits for any more, is told, and passed over.

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
        answer = _answered()
        if answer == "quit":
            return
        if answer == "skip":
            continue
        message = _told() if answer == "reject" else None
        try:
            _apply(one, answer, message)
        except (
            AlreadyResolvedError,
            ChangedQuestionError,
            NobodyWaitsError,
            UnknownInterruptionError,
        ) as error:
            output.tell(error.message)


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
        "doubt": _DOUBT if one.reason == "in_doubt" else None,
        "until": f"{output.when(one.expires_at)}, then it is rejected" if one.expires_at else None,
        "executor": one.obstacle,
    }
    for label, note in notes.items():
        if note is not None:
            lines.append(output.line_of(f"  {label:<9} {note}", style="yellow"))
    for line in lines:
        output.show(line)


def _answered() -> str:
    """One of the answers, by its first letter or as a whole."""
    while True:
        given = click.prompt("[a]pprove, [r]eject, [s]kip or [q]uit", prompt_suffix="? ")
        for letter, answer in _ANSWERS.items():
            if given.strip().lower() in (letter, answer):
                return answer
        output.tell(f"{quoted(given)} is none of these")


def _told() -> str | None:
    """What the model is to be told of a rejection; None: no more than that there is one."""
    given: str = click.prompt("Why, for the model (or nothing)", default="", show_default=False)
    return given.strip() or None


def _apply(one: Interruption, answer: str, message: str | None) -> None:
    result = ask(
        lambda host: host.resume(
            one.workflow_id or "",
            approve=[one.id] if answer == "approve" else (),
            reject=[one.id] if answer == "reject" else (),
            expect={one.id: one.hash},
            message=message,
        )
    )
    left = f", {len(result.pending)} still to decide" if result.pending else ""
    output.say(f"{'approved' if answer == 'approve' else 'rejected'}{left}")
    if result.reason is not None:
        output.tell(f"{one.workflow_id}: {result.reason}")
