"""Lists what waits for a person, and decides it: approvals, resume."""

from __future__ import annotations

import getpass
from typing import Any

import click

from timestep.cli import output
from timestep.cli.group import as_json, run_async
from timestep.journal import executors
from timestep.operations.arguments import quoted
from timestep.operations.queries import interruptions
from timestep.operations.queries.pagination import Page
from timestep.operations.resume import resume_workflow
from timestep.serialization import json_input


@click.command("approvals")
@as_json
def approvals_(as_json: bool) -> None:
    """List what waits for a decision."""
    found = run_async(interruptions.list_interruptions)
    if as_json:
        output.document(Page(found, None))
    else:
        asking = {one.workflow_id for one in found if one.workflow_id is not None}
        output.approvals(found, executors.left_alone(asking))


@click.command()
@click.argument("workflow_id")
@click.option("--approve", multiple=True, metavar="ID|all", help="Interruptions to approve.")
@click.option("--reject", multiple=True, metavar="ID|all", help="Interruptions to reject.")
@click.option("--supply", multiple=True, nargs=2, metavar="ID JSON",
              help="The result of a call that is not to be made.")  # fmt: skip
@click.option("--always", is_flag=True, help="Decide later calls of the same tool likewise.")
@click.option("--message", metavar="TEXT", help="What the model is told of a rejection.")
@click.option(
    "--from-checkpoint",
    is_flag=True,
    help="Go on in the newest version of the application; decide nothing.",
)
@click.option("--repeat-steps", is_flag=True,
              help="With --from-checkpoint: execute the workflow's own steps again.")  # fmt: skip
@as_json
def resume(
    workflow_id: str,
    approve: tuple[str, ...],
    reject: tuple[str, ...],
    supply: tuple[tuple[str, str], ...],
    always: bool,
    message: str | None,
    from_checkpoint: bool,
    repeat_steps: bool,
    as_json: bool,
) -> None:
    """Decide what a workflow's runs ask; a run with nothing left to ask goes on."""
    is_decided = bool(approve or reject or supply)
    if not (is_decided or from_checkpoint):
        raise click.UsageError(
            "nothing is decided: give --approve, --reject, --supply or --from-checkpoint"
        )
    if is_decided and from_checkpoint:
        raise click.UsageError("--from-checkpoint decides nothing: decide in another call")
    if repeat_steps and not from_checkpoint:
        raise click.UsageError("--repeat-steps goes with --from-checkpoint")
    results: dict[str, Any] = {}
    for name, text in supply:
        try:
            results[name] = json_input.loads(text)
        except ValueError as error:
            raise click.BadParameter(f"{quoted(text)} is not JSON: {error}") from error
    result = run_async(
        lambda: resume_workflow(
            workflow_id,
            approve=approve,
            reject=reject,
            supply=results,
            always=always,
            message=message,
            by=_user(),
            from_checkpoint=from_checkpoint,
            repeat_steps=repeat_steps,
        )
    )
    if as_json:
        output.document(result)
    elif from_checkpoint:
        output.say(f"{workflow_id} goes on from its newest checkpoint")
    else:
        left = f", {len(result.pending)} still to decide" if result.pending else ""
        output.say(f"decided {len(result.resolved)}{left}")


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return None
