"""Lists, shows, cancels and forks runs: runs, show, cancel, fork."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from timestep.cli import output, story
from timestep.cli.group import as_json, json_value, run_async
from timestep.cli.moments import moment
from timestep.operations.queries import pagination
from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import STATUSES

if TYPE_CHECKING:
    from timestep.operations.queries.records import Run, RunItem


@click.command("runs")
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--agent", metavar="NAME", help="The agent that began.")
@click.option("--entrypoint", metavar="NAME", help="The workflow's function.")
@click.option("--session", "session_id", metavar="ID")
@click.option("--workflow", "workflow_id", metavar="ID")
@click.option("--version", metavar="VERSION", help="Of the application, as DBOS has it.")
@click.option("--since", callback=moment, metavar="TIME",
              help="Only runs that began since: 30m, 12h, 7d, 2w, or 2026-01-31.")  # fmt: skip
@click.option("--until", callback=moment, metavar="TIME", help="Only runs that began before.")
@click.option("--text", metavar="TEXT", help="What the input, the output or the error says.")
@click.option("--limit", type=click.IntRange(1, pagination.LONGEST), default=20)
@as_json
def runs(limit: int, as_json: bool, **filters: Any) -> None:
    """List runs, newest first."""
    page = run_async(lambda: _listed(limit, filters))
    if as_json:
        output.document(page)
    else:
        output.runs(page.items)


async def _listed(limit: int, filters: dict[str, Any]) -> Page[Run]:
    """The newest runs; pages that end before they are full are put together."""
    from timestep.operations.queries.runs import list_runs

    page = await list_runs(**filters, limit=limit)
    items = page.items
    while page.next_cursor is not None and len(items) < limit:
        rest = limit - len(items)
        page = await list_runs(**filters, limit=rest, cursor=page.next_cursor)
        items += page.items
    return Page(items, page.next_cursor)


@click.command()
@click.argument("run")
@click.option("--traceback", "with_traceback", is_flag=True,
              help="Where in the code it failed, too.")  # fmt: skip
@as_json
def show(run: str, with_traceback: bool, as_json: bool) -> None:
    """Tell the story of a run, or of a workflow's newest run."""
    from timestep.operations.queries.runs import get_run, get_traceback, list_tool_calls

    async def work() -> None:
        found = await get_run(run)
        items = await _all_items(found)
        calls = await list_tool_calls(found.id) if found.id else []
        failed_at = await get_traceback(found.id) if found.id and with_traceback else None
        if as_json:
            told = {"run": found, "items": items, "tool_calls": calls}
            output.document({**told, "traceback": failed_at} if with_traceback else told)
            return
        story.show(found, items, calls, asked=run)
        if with_traceback:
            output.traceback(failed_at)

    run_async(work)


async def _all_items(run: Run) -> list[RunItem]:
    from timestep.operations.queries.runs import list_items

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
@as_json
def cancel(workflow_id: str, as_json: bool) -> None:
    """Cancel a workflow: no further step of it begins."""
    from timestep.operations.cancel import cancel_run

    run_async(lambda: cancel_run(workflow_id))
    if as_json:
        output.document({"workflow_id": workflow_id})
    else:
        output.say(f"cancelled {workflow_id}")


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
    from timestep.operations.fork import fork_run

    new_id = run_async(
        lambda: fork_run(
            run, turn=turn, input=input_, append=append, agent=agent, new_workflow_id=workflow_id
        )
    )
    if as_json:
        output.document({"workflow_id": new_id})
    else:
        output.say(new_id)
