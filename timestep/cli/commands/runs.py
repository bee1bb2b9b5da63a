"""Starts, lists, shows, cancels and forks runs: start, runs, show, cancel, fork."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import click

from timestep.cli import output
from timestep.cli.group import as_json, fail, run_async
from timestep.database.engines import existing_database_url
from timestep.database.servers import pglite
from timestep.database.urls import shown
from timestep.journal import executors
from timestep.journal.dbos_client import workflow_status
from timestep.operations import entrypoints
from timestep.operations.arguments import quoted
from timestep.operations.cancel import cancel_run
from timestep.operations.fork import fork_run
from timestep.operations.queries import pagination
from timestep.operations.queries.records import STATUSES, Run, RunItem
from timestep.operations.queries.runs import (
    get_run,
    get_traceback,
    list_items,
    list_runs,
    list_tool_calls,
)
from timestep.operations.start import start_run
from timestep.runtime import terminal
from timestep.serialization import json_input

_POLL = 0.2
_PATIENCE = 5.0
"""Seconds after which somebody who waits is told what for."""


def _json_value(ctx: click.Context, param: click.Parameter, text: str) -> Any:
    try:
        return json_input.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{quoted(text)} is not JSON: {error}") from error


def _json_or_none(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    return None if text is None else _json_value(ctx, param, text)


@click.command()
@click.argument("entrypoint")
@click.option("--input", "input_", default="{}", metavar="JSON", callback=_json_value,
              help="The entrypoint's parameters by name.")  # fmt: skip
@click.option("--id", "workflow_id", metavar="ID", help="The workflow's id; again: the same run.")
@click.option("--queue", metavar="NAME", help="A queue of DBOS; by default the hosts' own.")
@click.option("--wait", is_flag=True, help="Wait for its end, and print what it returned.")
@as_json
def start(
    entrypoint: str,
    input_: Any,
    workflow_id: str | None,
    queue: str | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Start an entrypoint's workflow; a running `timestep serve` executes it."""

    async def work() -> tuple[str, bool]:
        started = await start_run(entrypoint, input_, workflow_id=workflow_id, queue=queue)
        return started, await asyncio.to_thread(_is_left_alone, started)

    # Before the database is asked: the input may be wrong.
    entrypoints.lookup(entrypoint).validate(input_)
    if wait and pglite.holds(url := existing_database_url()):
        fail(f"no host runs on {shown(url)}, and none could start while this command waits: run "
              "`timestep serve` first, or leave out --wait")  # fmt: skip
    started, is_left_alone = run_async(work)
    if is_left_alone:
        output.tell(f"no host runs: {started} waits in the queue until `timestep serve` is started")
    if not wait:
        if as_json:
            output.document({"workflow_id": started})
        else:
            output.say(started)
        return
    output.tell(f"workflow {started}")
    returned = _outcome(started)
    if isinstance(returned, str) and not as_json:
        output.say_lines(returned)
    else:
        output.document(returned)


def _is_left_alone(workflow_id: str) -> bool:
    """Whether a workflow is in a queue that nobody takes it from."""
    status = workflow_status(workflow_id)
    is_queued = status is not None and status.status in ("ENQUEUED", "DELAYED")
    return is_queued and not executors.is_anybody()


def _outcome(workflow_id: str) -> Any:
    """What a workflow returned, once it has."""
    began = time.monotonic()
    told: set[str] = set()

    def tell(what: str, text: str) -> None:
        if what not in told:
            told.add(what)
            output.tell(text)

    while True:
        run = run_async(lambda: get_run(workflow_id))
        if run.workflow is None:
            fail(f"DBOS does not know the workflow {workflow_id!r} any more")
        status = run.workflow.status
        if status == "SUCCESS":
            return run.workflow.output
        if status == "CANCELLED":
            fail(f"the workflow {workflow_id!r} was cancelled")
        if status not in ("PENDING", "ENQUEUED", "DELAYED"):
            error = run.workflow.error
            fail(f"{error.type}: {error.message}" if error is not None else status)
        for one in run.interruptions:
            if one.resolved_at is None and not run.is_left_alone:
                decide = terminal.command("resume", workflow_id, "--approve", one.id)
                tell(one.id, f"waits for a decision: {decide}   ({one.tool_name})")
        if output.is_left(run):
            tell("left", output.left(run) or "")
        if status == "ENQUEUED" and time.monotonic() - began > _PATIENCE:
            tell("queued", "still in the queue: is `timestep serve` running?")
        time.sleep(_POLL)


@click.command("runs")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--limit", type=click.IntRange(1, pagination.LONGEST), default=20)
@as_json
def runs(status: str | None, limit: int, as_json: bool) -> None:
    """List runs, newest first."""
    page = run_async(lambda: list_runs(status=status, limit=limit))
    if as_json:
        output.document(page)
    else:
        output.runs(page.items)


@click.command()
@click.argument("run")
@click.option("--traceback", "with_traceback", is_flag=True,
              help="Where in the code it failed, too.")  # fmt: skip
@as_json
def show(run: str, with_traceback: bool, as_json: bool) -> None:
    """Tell the story of a run, or of a workflow's newest run."""

    async def work() -> None:
        found = await get_run(run)
        items = await _all_items(found)
        calls = await list_tool_calls(found.id) if found.id else []
        failed_at = await get_traceback(found.id) if found.id and with_traceback else None
        if as_json:
            told = {"run": found, "items": items, "tool_calls": calls}
            output.document({**told, "traceback": failed_at} if with_traceback else told)
            return
        output.story(found, items, calls)
        if with_traceback:
            output.traceback(failed_at)

    run_async(work)


async def _all_items(run: Run) -> list[RunItem]:
    items: list[RunItem] = []
    cursor: str | None = None
    while run.id is not None:
        page = await list_items(run.id, limit=pagination.LONGEST, cursor=cursor)
        items += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    return items


@click.command()
@click.argument("workflow_id")
def cancel(workflow_id: str) -> None:
    """Cancel a workflow: no further step of it begins."""
    run_async(lambda: cancel_run(workflow_id))
    output.say(f"cancelled {workflow_id}")


@click.command()
@click.argument("run")
@click.option("--turn", type=int, required=True, help="The turn that it begins, counted from 1.")
@click.option("--id", "workflow_id", metavar="ID", help="The new workflow's id.")
@click.option(
    "--input",
    "input_",
    metavar="JSON",
    callback=_json_or_none,
    help="Text or items that the model is shown instead.",
)
@click.option(
    "--append",
    metavar="JSON",
    callback=_json_or_none,
    help="Text or items that it is shown in addition.",
)
@click.option("--agent", metavar="JSON", callback=_json_or_none,
              help="What is different: instructions, model, model_settings.")  # fmt: skip
@as_json
def fork(
    run: str,
    turn: int,
    workflow_id: str | None,
    input_: Any,
    append: Any,
    agent: Any,
    as_json: bool,
) -> None:
    """Start a new run from the checkpoint before a turn; RUN stays as it is."""
    new_id = run_async(
        lambda: fork_run(
            run, turn=turn, input=input_, append=append, agent=agent, new_workflow_id=workflow_id
        )
    )
    if as_json:
        output.document({"workflow_id": new_id})
    else:
        output.say(new_id)
