"""Reads times, and spans of time, as people give them to commands."""

from __future__ import annotations

import datetime
import re

import click

from timestep.runtime.terminal import quoted

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"([0-9]{1,9})([mhdw])", re.ASCII)


def span(ctx: click.Context, param: click.Parameter, text: str | None) -> datetime.timedelta | None:
    """The time that `12h`, `30d` or `8w` stands for."""
    if text is None:
        return None
    try:
        found = _span(text)
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
        if (ago := _span(text)) is not None:
            return datetime.datetime.now(datetime.UTC) - ago
        return datetime.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{quoted(text)} is neither a time ago (30m, 12h, 7d, 2w) nor a day or time such as "
            "2026-01-31 or 2026-01-31T12:00"
        ) from None


def _span(text: str) -> datetime.timedelta | None:
    found = _SPAN.fullmatch(text)
    return None if found is None else datetime.timedelta(**{_UNITS[found[2]]: int(found[1])})
