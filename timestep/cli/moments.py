"""Reads times as people give them to commands."""

from __future__ import annotations

import datetime
import re

import click

from timestep.runtime.terminal import quoted

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(
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
