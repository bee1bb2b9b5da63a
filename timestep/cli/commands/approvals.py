"""Lists what waits for a person, and decides it: approvals, resume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from timestep.cli import asking, output
from timestep.cli.group import as_json
from timestep.cli.reach import ask
from timestep.runtime.terminal import quoted

if TYPE_CHECKING:
    from timestep.cli.reach import Reached
    from timestep.operations.queries.records import Interruption


@click.command("approvals")
@as_json
def approvals_(as_json: bool) -> None:
    """List what waits for a decision.

    On a terminal, each question is asked then; decide nothing with `q`.
    """
    from timestep.operations.queries.pagination import Page

    found = ask(lambda host: host.interruptions())
    if as_json:
        output.document(Page(found, None))
        return
    is_asked = asking.is_somebody_there()
    output.approvals(found, is_asked=is_asked)
    if is_asked:
        asking.decide(found)


@click.command()
@click.argument("workflow_id")
@click.option("--approve", multiple=True, metavar="ID|all", help="Interruptions to approve.")
@click.option("--reject", multiple=True, metavar="ID|all", help="Interruptions to reject.")
@click.option("--supply", multiple=True, nargs=2, metavar="ID|all JSON",
              help="The result of a call that is not to be made.")  # fmt: skip
@click.option("--edit", multiple=True, nargs=2, metavar="ID JSON",
              help="Approve a call with these arguments.")  # fmt: skip
@click.option("--expect", multiple=True, nargs=2, metavar="ID HASH",
              help="Decide only if this is still the question's hash.")  # fmt: skip
@click.option("--always", is_flag=True, help="Decide later calls of the same tool likewise.")
@click.option("--message", metavar="TEXT", help="What the model is told of a rejection.")
@click.option(
    "--from-checkpoint",
    is_flag=True,
    help="Go on in the newest version of the application, with what is decided here.",
)
@click.option("--repeat-steps", is_flag=True,
              help="With --from-checkpoint: execute the workflow's own steps again.")  # fmt: skip
@click.option("--again", is_flag=True, help="Try once more what was put aside.")
@as_json
def resume(
    workflow_id: str,
    approve: tuple[str, ...],
    reject: tuple[str, ...],
    supply: tuple[tuple[str, str], ...],
    edit: tuple[tuple[str, str], ...],
    expect: tuple[tuple[str, str], ...],
    always: bool,
    message: str | None,
    from_checkpoint: bool,
    repeat_steps: bool,
    again: bool,
    as_json: bool,
) -> None:
    """Decide what a workflow asks, and let it go on.

    A run with nothing left to ask goes on. On a terminal, what is not said by an option is asked.
    """
    is_decided = bool(approve or reject or supply or edit)
    if not (is_decided or from_checkpoint or again):
        if as_json or always or message or expect or not asking.is_somebody_there():
            raise click.UsageError(
                "nothing is decided: give --approve, --edit, --reject, --supply, "
                "--from-checkpoint or --again"
            )
        _ask(workflow_id)
        return
    if repeat_steps and not from_checkpoint:
        raise click.UsageError("--repeat-steps goes with --from-checkpoint")
    results, edits = _documents("--supply", supply), _documents("--edit", edit)
    result = ask(
        lambda host: host.resume(
            workflow_id,
            approve=approve,
            reject=reject,
            supply=results,
            edit=edits,
            expect={one: shown.removeprefix("#") for one, shown in expect},
            always=always,
            message=message,
            from_checkpoint=from_checkpoint,
            repeat_steps=repeat_steps,
            again=again,
        )
    )
    if as_json:
        output.document(result)
        return
    if is_decided:
        left = f", {len(result.pending)} still to decide" if result.pending else ""
        output.say(f"decided {len(result.resolved)}{left}")
    if from_checkpoint:
        output.say(f"{result.workflow_id} goes on from its newest checkpoint")
    if again and result.goes_on:
        output.say(f"{result.workflow_id} goes on")
    if result.reason is not None:
        output.tell(f"{result.workflow_id}: {result.reason}")


def _ask(workflow_id: str) -> None:
    """Ask the person at the terminal about what a workflow waits for."""
    found = ask(lambda host: _asked_by(host, workflow_id))
    if not any(one.is_waited_for for one in found):
        output.approvals(found, is_asked=True)
    asking.decide(found)


async def _asked_by(host: Reached, name: str) -> list[Interruption]:
    """What a workflow asks, named by its own id or by that of a run of it."""
    return await host.interruptions(workflow_id=(await host.get_run(name)).workflow_id)


def _documents(option: str, given: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """What is given as JSON, by what it is for."""
    from timestep.serialization import json_input

    found: dict[str, Any] = {}
    for name, text in given:
        if name in found:
            raise click.BadParameter(f"{quoted(name)} is given twice", param_hint=option)
        try:
            found[name] = json_input.loads(text)
        except ValueError as error:
            raise click.BadParameter(
                f"{quoted(text)} is not JSON: {error}", param_hint=option
            ) from error
    return found
