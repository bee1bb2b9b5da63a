"""Reads times, and spans of time, as people give them to commands."""

from __future__ import annotations

import datetime

import click

from timestep.errors import InvalidQueryError
from timestep.operations.arguments import moment_of, span_of
from timestep.runtime.terminal import quoted


def span(ctx: click.Context, param: click.Parameter, text: str | None) -> datetime.timedelta | None:
    """The time that `12h`, `30d` or `8w` stands for."""
    if text is None:
        return None
    try:
        found = span_of(text)
    except OverflowError:
        found = None
    if found is None:
        raise click.BadParameter(f"{quoted(text)} is no time like 30m, 12h, 30d or 8w")
    return found


def moment(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> datetime.datetime | None:
    """The time that `7d`, `2026-01-31` or `2026-01-31T12:00+01:00` stands for; without a zone, the
    machine's own."""
    if text is None:
        return None
    try:
        return moment_of(text)
    except InvalidQueryError as error:
        raise click.BadParameter(error.message) from None
