"""Starts workflows: start."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import click

from timestep.cli import output
from timestep.cli.group import as_json, fail, json_value, run_async
from timestep.runtime import terminal

_POLL = 0.2
_PATIENCE = 5.0
"""Seconds after which somebody who waits is told what for."""


@click.command()
@click.argument("entrypoint")
@click.option("--input", "input_", default="{}", metavar="JSON", callback=json_value,
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
    """Start an entrypoint's workflow.

    A running `timestep serve` executes it.
    """
    import asyncio

    from timestep.database.engines import existing_database_url
    from timestep.database.servers import pglite
    from timestep.database.urls import shown
    from timestep.operations import entrypoints
    from timestep.operations.start import start_run

    async def work() -> tuple[str, bool]:
        started = await start_run(found, input_, workflow_id=workflow_id, queue=queue)
        return started, await asyncio.to_thread(_is_left_alone, started)

    # Before the database is asked: the input may be wrong.
    with contextlib.redirect_stdout(sys.stderr):
        # Modules of workflows may print when they are imported.
        found = entrypoints.lookup(entrypoint)
    found.validate(input_)
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
    from timestep.journal import executors
    from timestep.journal.reads.workflow_records import workflow_record

    record = workflow_record(workflow_id)
    is_queued = record is not None and record.status in ("ENQUEUED", "DELAYED")
    return is_queued and not executors.is_anybody()


def _outcome(workflow_id: str) -> Any:
    """What a workflow returned, once it has."""
    from timestep.operations.queries.runs import get_run

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
        # That no host was there when it was started is told.
        if run.is_stuck and status != "ENQUEUED":
            tell("stuck", f"{workflow_id}: {run.obstacle}")
        if status == "ENQUEUED" and time.monotonic() - began > _PATIENCE:
            tell("queued", "still in the queue: is `timestep serve` running?")
        time.sleep(_POLL)
