"""Lists sessions and what is in one: sessions."""

from __future__ import annotations

import click

from timestep.cli import listings, output
from timestep.cli.group import as_json
from timestep.cli.reach import ask
from timestep.operations.queries import pagination
from timestep.operations.queries.pagination import Page


@click.command()
@click.argument("session", required=False)
@click.option("--limit", type=click.IntRange(1, pagination.LONGEST), default=20, show_default=True,
              help="How many sessions are listed.")  # fmt: skip
@as_json
def sessions(session: str | None, limit: int, as_json: bool) -> None:
    """List sessions, or what is in one.

    The session that was changed last comes first.
    """
    if session is None:
        found = ask(lambda host: host.sessions(limit=limit))
        output.document(Page(found, None)) if as_json else listings.sessions(found)
    else:
        items = ask(lambda host: host.session_items(session))
        output.document(Page(items, None)) if as_json else listings.session_items(items)
