"""Lists, shows, cancels and forks runs: runs, show, cancel, fork."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from timestep.cli import output, story
from timestep.cli.group import as_json, json_value
from timestep.cli.moments import moment
from timestep.cli.reach import ask
from timestep.operations.queries import pagination
from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import STATUSES

if TYPE_CHECKING:
    from timestep.cli.reach import Reached
    from timestep.operations.queries.records import Run


@click.command("runs")
@click.option("--status", type=click.Choice(STATUSES), help="How they stand.")
@click.option("--agent", metavar="NAME", help="The agent that began.")
@click.option("--entrypoint", metavar="NAME", help="The workflow's function.")
@click.option("--session", "session_id", metavar="ID", help="The session that they are part of.")
@click.option("--workflow", "workflow_id", metavar="ID", help="The workflow that they belong to.")
@click.option("--version", metavar="VERSION", help="Of the application, as DBOS has it.")
@click.option("--since", callback=moment, metavar="TIME",
              help="Only runs that began since: 30m, 12h, 7d, 2w, or 2026-01-31.")  # fmt: skip
@click.option("--until", callback=moment, metavar="TIME", help="Only runs that began before.")
@click.option(
    "--text", metavar="TEXT", help="What the input, the output, the error or the id says."
)
@click.option("--tag", multiple=True, metavar="NAME:VALUE",
              help="How their workflow is tagged; or NAME, for any value.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1, pagination.LONGEST), default=20, show_default=True,
              help="How many runs are listed.")  # fmt: skip
@as_json
def runs(limit: int, as_json: bool, **filters: Any) -> None:
    """List runs, newest first."""
    page = ask(lambda host: _listed(host, limit, filters))
    if as_json:
        output.document(page)
    else:
        output.runs(page.items)


async def _listed(host: Reached, limit: int, filters: dict[str, Any]) -> Page[Run]:
    """The newest runs; pages that end before they are full are put together."""
    page = await host.page_of_runs(limit=limit, **filters)
    items = page.items
    while page.next_cursor is not None and len(items) < limit:
        rest = limit - len(items)
        page = await host.page_of_runs(limit=rest, cursor=page.next_cursor, **filters)
        items += page.items
    return Page(items, page.next_cursor)


@click.command()
@click.argument("run")
@click.option("--traceback", "with_traceback", is_flag=True,
              help="Where in the code it failed, too.")  # fmt: skip
@as_json
def show(run: str, with_traceback: bool, as_json: bool) -> None:
    """Tell the story of a run, or of a workflow's newest run."""

    async def work(host: Reached) -> None:
        found = await host.get_run(run)
        items = await host.list_items(found.id) if found.id else []
        calls = await host.list_tool_calls(found.id) if found.id else []
        failed_at = await host.traceback(found.id) if found.id and with_traceback else None
        if as_json:
            told = {"run": found, "items": items, "tool_calls": calls}
            output.document({**told, "traceback": failed_at} if with_traceback else told)
            return
        story.show(found, items, calls, asked=run)
        if with_traceback:
            output.traceback(failed_at, found)

    ask(work)


@click.command()
@click.argument("workflow_id")
@as_json
def cancel(workflow_id: str, as_json: bool) -> None:
    """Cancel a workflow: no further step of it begins."""
    cancelled = ask(lambda host: host.cancel(workflow_id))
    if as_json:
        output.document({"workflow_id": cancelled})
    else:
        output.say(f"cancelled {cancelled}")


@click.command()
@click.argument("run")
@click.option("--turn", type=int, required=True, help="The turn that it begins, counted from 1.")
@click.option("--id", "workflow_id", metavar="ID", help="The new workflow's id.")
@click.option(
    "--input",
    "input_",
    metavar="JSON",
    callback=json_value,
    help="Text or items that the model is shown instead.",
)
@click.option(
    "--append",
    metavar="JSON",
    callback=json_value,
    help="Text or items that it is shown in addition.",
)
@click.option("--agent", metavar="JSON", callback=json_value,
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
    """Start a new run from the checkpoint before a turn.

    RUN stays as it is.
    """
    new_id = ask(
        lambda host: host.fork(
            run, turn=turn, input=input_, append=append, agent=agent, new_workflow_id=workflow_id
        )
    )
    if as_json:
        output.document({"workflow_id": new_id})
    else:
        output.say(new_id)
