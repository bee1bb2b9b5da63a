"""Tells what runs used: usage."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, cast

import click

from timestep.cli import listings, output
from timestep.cli.group import as_json, run_async
from timestep.operations.queries.pagination import Page
from timestep.runtime.terminal import quoted

if TYPE_CHECKING:
    from timestep.operations.queries.usage import UsageBy

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_KINDS = ("agent", "model", "day", "entrypoint")


def _moment(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> datetime.datetime | None:
    """The time that `7d`, `2026-01-31` or `2026-01-31T12:00+01:00` stands for; without a zone, the
    machine's own."""
    if text is None:
        return None
    try:
        if found := re.fullmatch(r"(\d{1,9})([mhdw])", text):
            ago = datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})
            return datetime.datetime.now(datetime.UTC) - ago
        return datetime.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{quoted(text)} is neither a time ago (30m, 12h, 7d, 2w) nor a day or time such as "
            "2026-01-31 or 2026-01-31T12:00"
        ) from None


@click.command()
@click.option("--since", callback=_moment, metavar="TIME",
              help="Only of runs that began since: 30m, 12h, 7d, 2w, or 2026-01-31.")  # fmt: skip
@click.option("--by", type=click.Choice(_KINDS), default="agent", show_default=True,
              help="What a line is about.")  # fmt: skip
@as_json
def usage(since: datetime.datetime | None, by: str, as_json: bool) -> None:
    """Tell what runs used and cost."""
    from timestep.operations.queries.usage import usage_report

    found = run_async(lambda: usage_report(by=cast("UsageBy", by), since=since))
    if as_json:
        output.document(Page(found, None))
    else:
        listings.usage(found, by)
