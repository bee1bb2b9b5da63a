"""Starts workflows: start."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from timestep.cli import output
from timestep.cli.direct import Direct
from timestep.cli.group import as_json, fail, json_value
from timestep.cli.reach import ask, is_remote
from timestep.runtime import deciding, terminal
from timestep.runtime.terminal import quoted

if TYPE_CHECKING:
    from timestep.cli.reach import Reached

_POLL = 0.2
_PATIENCE = 5.0
"""Seconds after which somebody who waits is told what for."""


def _tags(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> dict[str, str] | None:
    """The tags by their names; None: there are none."""
    if not given:
        return None
    from timestep.operations.tags import named

    found: dict[str, str] = {}
    for one in given:
        name, value = named(one)
        if value is None:
            raise click.BadParameter(f"{quoted(one)} is not NAME=VALUE, such as team=billing")
        if name in found:
            raise click.BadParameter(f"the tag {quoted(name)} is given twice")
        found[name] = value
    return found


@click.command()
@click.argument("entrypoint")
@click.option("--input", "input_", default="{}", metavar="JSON", callback=json_value,
              help="The entrypoint's parameters by name.")  # fmt: skip
@click.option("--id", "workflow_id", metavar="ID", help="The workflow's id; again: the same run.")
@click.option("--queue", metavar="NAME", help="A queue of DBOS; by default the hosts' own.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=VALUE", callback=_tags,
              help="What its runs are found by, such as team=billing.")  # fmt: skip
@click.option("--wait", is_flag=True, help="Wait for its end, and print what it returned.")
@as_json
def start(
    entrypoint: str,
    input_: Any,
    workflow_id: str | None,
    queue: str | None,
    tags: dict[str, str] | None,
    wait: bool,
    as_json: bool,
) -> None:
    """Start an entrypoint's workflow.

    A running `timestep serve` executes it.
    """
    if not is_remote():
        # Before the database is asked: the input may be wrong.
        _check(entrypoint, input_, tags, wait=wait)
    started = ask(lambda host: _start(host, entrypoint, input_, workflow_id, queue, tags))
    if not wait:
        if as_json:
            output.document({"workflow_id": started})
        else:
            output.say(started)
        return
    output.tell(f"workflow {started}")
    again = terminal.command("watch", started)
    returned = ask(
        lambda host: _outcome(host, started),
        left=f"no longer waited for, and not stopped: `{again}` shows it",
    )
    if isinstance(returned, str) and not as_json:
        output.say_lines(returned)
    else:
        output.document(returned)


def _check(name: str, given: Any, tags: dict[str, str] | None, *, wait: bool) -> None:
    """Refuse what no entrypoint of this folder takes, and to wait where nobody could come."""
    from timestep.database.engines import existing_database_url
    from timestep.database.servers import pglite
    from timestep.database.urls import shown
    from timestep.operations import entrypoints
    from timestep.operations.tags import check_tags

    with contextlib.redirect_stdout(sys.stderr):
        # Modules of workflows may print when they are imported.
        found = entrypoints.lookup(name)
    found.validate(given)
    check_tags(tags or {})
    if wait and pglite.holds(url := existing_database_url()):
        fail(f"no host runs on {shown(url)}, and none could start while this command waits: run "
              "`timestep serve` first, or leave out --wait")  # fmt: skip


async def _start(
    host: Reached,
    entrypoint: str,
    given: Any,
    workflow_id: str | None,
    queue: str | None,
    tags: dict[str, str] | None,
) -> str:
    """Start a workflow, and tell where no host is there that would execute it."""
    started = await host.start(entrypoint, given, workflow_id=workflow_id, queue=queue, tags=tags)
    if isinstance(host, Direct) and await asyncio.to_thread(_is_left_alone, started):
        output.tell(f"no host runs: {started} waits in the queue until `timestep serve` is started")
    return started


def _is_left_alone(workflow_id: str) -> bool:
    """Whether a workflow is in a queue that nobody takes it from."""
    from timestep.journal import executors
    from timestep.journal.reads.workflow_records import workflow_record

    record = workflow_record(workflow_id)
    is_queued = record is not None and record.status in ("ENQUEUED", "DELAYED")
    return is_queued and not executors.is_anybody()


async def _outcome(host: Reached, workflow_id: str) -> Any:
    """What a workflow returned, once it has."""
    began = time.monotonic()
    told: set[str] = set()

    def tell(what: str, *lines: str) -> None:
        if what not in told:
            told.add(what)
            for line in lines:
                output.tell(line)

    while True:
        run = await host.get_run(workflow_id)
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
                ways = deciding.ways(workflow_id, one.id, one.reason)
                if deciding.is_in_doubt(one.reason):
                    doubt = f"waits for a decision ({one.tool_name}): {deciding.MAY_BE_DONE}"
                    tell(one.id, doubt, *ways)
                else:
                    tell(one.id, f"waits for a decision: {ways[0]}   ({one.tool_name})")
        # That no host was there when it was started is told.
        if run.is_stuck and status != "ENQUEUED":
            tell("stuck", f"{workflow_id}: {run.obstacle}")
        if status == "ENQUEUED" and time.monotonic() - began > _PATIENCE:
            tell("queued", "still in the queue: is `timestep serve` running?")
        await asyncio.sleep(_POLL)
