"""Tells what runs used: usage."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, cast

import click

from timestep.cli import listings, output
from timestep.cli.group import as_json
from timestep.cli.moments import moment
from timestep.cli.reach import ask
from timestep.operations.queries.pagination import Page

if TYPE_CHECKING:
    from timestep.operations.queries.records import UsageBy

_KINDS = ("agent", "model", "day", "entrypoint")


@click.command()
@click.option("--since", callback=moment, metavar="TIME",
              help="Only of runs that began since: 30m, 12h, 7d, 2w, or 2026-01-31.")  # fmt: skip
@click.option("--by", type=click.Choice(_KINDS), default="agent", show_default=True,
              help="What a line is about.")  # fmt: skip
@as_json
def usage(since: datetime.datetime | None, by: str, as_json: bool) -> None:
    """Tell what runs used and cost."""
    found = ask(lambda host: host.usage(by=cast("UsageBy", by), since=since))
    if as_json:
        output.document(Page(found, None))
    else:
        listings.usage(found, by)
