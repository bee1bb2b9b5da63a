"""The command `timestep`."""

from __future__ import annotations

import asyncio
import getpass
import json
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import click
from dbos import DBOS
from dbos import error as dbos_errors

from timestep import terminal
from timestep.database import migrations
from timestep.database.engines import check_server, database_url, engine_for, system_database_url
from timestep.database.servers import pglite
from timestep.database.urls import shown
from timestep.errors import TimestepError
from timestep.operations import entrypoints
from timestep.operations.cancel import cancel_run
from timestep.operations.fork import fork_run
from timestep.operations.queries import interruptions, pagination
from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import STATUSES, Run, RunItem
from timestep.operations.queries.runs import get_run, list_items, list_runs, list_tool_calls
from timestep.operations.resume import resume_workflow
from timestep.operations.start import start_run
from timestep.runtime import garbage_collection

T = TypeVar("T")

_POLL = 0.2
_PATIENCE = 5.0
"""Seconds after which somebody who waits is told what for."""


class _Group(click.Group):
    """Commands whose errors are one line on standard error, and exit status 1."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # At the end of the process, too, which else takes a quarter of a short command's time.
        garbage_collection.keep_all()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        logging.getLogger("dbos").setLevel(logging.ERROR)
        try:
            return super().invoke(ctx)
        except (TimestepError, dbos_errors.DBOSException) as error:
            raise click.ClickException(" ".join(str(error).split())) from error


@click.group(cls=_Group)
@click.version_option(package_name="timestep")
def main() -> None:
    """Durable, queryable OpenAI Agents SDK runs on DBOS and PostgreSQL."""


_as_json = click.option("--json", "as_json", is_flag=True, help="JSON alone on standard output.")


@main.command()
def serve() -> None:
    """Run the workflows of ./workflows and serve the HTTP API until stopped."""
    from timestep.host import server

    server.serve()


@main.command("migrate")
@click.option("--dry-run", is_flag=True, help="Only tell what would be applied.")
def migrate_(dry_run: bool) -> None:
    """Bring the database to this version's schema."""
    url = database_url()
    applied = migrations.apply(engine_for(url), dry_run=dry_run)
    for migration in applied:
        click.echo(f"{'would apply' if dry_run else 'applied'} {migration.name}")
    if not applied:
        click.echo("the schema is up to date")
    if not dry_run:
        DBOS.migrate(system_database_url())


def _json_value(ctx: click.Context, param: click.Parameter, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not JSON: {error}") from error


def _json_or_none(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    return None if text is None else _json_value(ctx, param, text)


@main.command()
@click.argument("entrypoint")
@click.option("--input", "input_", default="{}", metavar="JSON", callback=_json_value,
              help="The entrypoint's parameters by name.")  # fmt: skip
@click.option("--id", "workflow_id", metavar="ID", help="The workflow's id; again: the same run.")
@click.option("--queue", metavar="NAME", help="A queue of DBOS; by default the hosts' own.")
@click.option("--wait", is_flag=True, help="Wait for its end, and print what it returned.")
def start(
    entrypoint: str, input_: Any, workflow_id: str | None, queue: str | None, wait: bool
) -> None:
    """Start an entrypoint's workflow; a running `timestep serve` executes it."""

    async def work() -> str:
        return await start_run(entrypoint, input_, workflow_id=workflow_id, queue=queue)

    # Before the database is asked: the input may be wrong.
    entrypoints.lookup(entrypoint).validate(input_)
    if wait and pglite.holds(url := database_url()):
        _fail(f"no host runs on {shown(url)}, and none could start while this command waits: run "
              "`timestep serve` first, or leave out --wait")  # fmt: skip
    started = _run(work)
    if not wait:
        click.echo(started)
        return
    click.echo(f"workflow {started}", err=True)
    output = _outcome(started)
    click.echo(output if isinstance(output, str) else _dumps(output))


def _outcome(workflow_id: str) -> Any:
    """What a workflow returned, once it has."""
    began = time.monotonic()
    told: set[str] = set()

    def tell(what: str, text: str) -> None:
        if what not in told:
            told.add(what)
            click.echo(text, err=True)

    while True:
        run = _run(lambda: get_run(workflow_id))
        if run.workflow is None:
            _fail(f"DBOS does not know the workflow {workflow_id!r} any more")
        status = run.workflow.status
        if status == "SUCCESS":
            return run.workflow.output
        if status == "CANCELLED":
            _fail(f"the workflow {workflow_id!r} was cancelled")
        if status not in ("PENDING", "ENQUEUED", "DELAYED"):
            error = run.workflow.error
            _fail(f"{error.type}: {error.message}" if error is not None else status)
        for one in run.interruptions:
            if one.resolved_at is None:
                tell(one.id, f"waits for a decision: timestep resume {workflow_id} "
                             f"--approve {one.id}   ({one.tool_name})")  # fmt: skip
        if status == "ENQUEUED" and time.monotonic() - began > _PATIENCE:
            tell("queued", "still in the queue: is `timestep serve` running?")
        time.sleep(_POLL)


@main.command()
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--limit", type=click.IntRange(1, pagination.LONGEST), default=20)
@_as_json
def runs(status: str | None, limit: int, as_json: bool) -> None:
    """List runs, newest first."""
    page = _run(lambda: list_runs(status=status, limit=limit))
    if as_json:
        click.echo(_dumps(page))
    else:
        terminal.runs(page.items)


@main.command()
@click.argument("run")
@_as_json
def show(run: str, as_json: bool) -> None:
    """Tell the story of a run, or of a workflow's newest run."""

    async def work() -> None:
        found = await get_run(run)
        items = await _all_items(found)
        calls = await list_tool_calls(found.id) if found.id else []
        if as_json:
            click.echo(_dumps({"run": found, "items": items, "tool_calls": calls}))
        else:
            terminal.story(found, items, calls)

    _run(work)


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


@main.command("approvals")
@_as_json
def approvals_(as_json: bool) -> None:
    """List what waits for a decision."""
    found = _run(interruptions.list_interruptions)
    if as_json:
        click.echo(_dumps(Page(found, None)))
    else:
        terminal.approvals(found)


@main.command()
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
@_as_json
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
            results[name] = json.loads(text)
        except ValueError as error:
            raise click.BadParameter(f"{text!r} is not JSON: {error}") from error
    result = _run(
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
        click.echo(_dumps(result))
    elif from_checkpoint:
        click.echo(f"{workflow_id} goes on from its newest checkpoint")
    else:
        left = f", {len(result.pending)} still to decide" if result.pending else ""
        click.echo(f"decided {len(result.resolved)}{left}")


@main.command()
@click.argument("workflow_id")
def cancel(workflow_id: str) -> None:
    """Cancel a workflow: no further step of it begins."""

    async def cancelled() -> str:
        await cancel_run(workflow_id)
        return (await get_run(workflow_id)).status

    status = _run(cancelled)
    if status == "cancelled":
        click.echo(f"cancelled {workflow_id}")
    else:
        click.echo(f"{workflow_id} had ended: {status}")


@main.command()
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
@_as_json
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
    new_id = _run(
        lambda: fork_run(
            run, turn=turn, input=input_, append=append, agent=agent, new_workflow_id=workflow_id
        )
    )
    click.echo(_dumps({"workflow_id": new_id}) if as_json else new_id)


@main.command("doctor")
def doctor_() -> None:
    """Check settings, packages, the database and the entrypoints."""
    from timestep import doctor

    problems = 0
    for found in doctor.examine():
        terminal.finding(found.check, found.is_ok, found.text)
        problems += not found.is_ok
    if problems:
        _fail(f"{problems} problem{'s' if problems > 1 else ''} found")


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await `work`. A database that is away is an error at once."""
    check_server(engine_for(database_url()))
    return asyncio.run(work())


def _dumps(value: Any) -> str:
    from timestep.web.problems import Answer

    return bytes(Answer(value).body).decode()


def _fail(reason: str) -> NoReturn:
    raise click.ClickException(reason)


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        return None
