"""Serves /usage: what runs used and cost, as charts, as a table, and as the SQL that tells it."""

from __future__ import annotations

import datetime
from typing import cast, get_args

from fastapi import Request, Response

from timestep.errors import InvalidQueryError
from timestep.operations import arguments
from timestep.operations.queries.records import UsageBy, UsageRow
from timestep.operations.queries.usage import usage_report, usage_sql
from timestep.runtime.terminal import quoted
from timestep.web.drawing.bars import LABELS, chart
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router

router = page_router()

_DAYS = 40
"""Days of a chart: the newest."""
_SPANS = (("24h", "a day"), ("7d", "a week"), ("30d", "30 days"), ("", "always"))


@router.get("/usage")
async def usage_page(request: Request, by: str = "day", since: str = "30d") -> Response:
    """What the runs used that began since a time, by day, agent, model or entrypoint."""
    wrong: dict[str, str] = {}
    rows: list[UsageRow] = []
    sql, begin = "", None
    if by not in get_args(UsageBy):
        wrong["by"] = f"{quoted(by)} is not one of {', '.join(get_args(UsageBy))}"
    try:
        if since.strip():
            moment = arguments.moment_of(since.strip(), datetime.UTC)
            begin = arguments.checked_moment("since", moment)
        if not wrong:
            rows = await usage_report(by=cast("UsageBy", by), since=begin)
            sql = usage_sql(by=cast("UsageBy", by), since=begin)
    except InvalidQueryError as error:
        wrong["since"] = error.message
    drawn = _days(rows) if by == "day" else rows[:LABELS]
    bars = [(row.name or "not known", row) for row in drawn]
    return page(
        request,
        "usage.html",
        422 if wrong else 200,
        by=by,
        kinds=("day", "agent", "model", "entrypoint"),
        since=since,
        spans=_SPANS,
        begin=begin,
        rows=rows,
        total=_total(rows),
        sql=sql,
        wrong=wrong,
        tokens=chart([(name, (row.input_tokens, row.output_tokens)) for name, row in bars]),
        cost=chart([(name, (row.cost or 0.0,)) for name, row in bars]),
        is_cut=len({row.name for row in rows} - {row.name for row in drawn}) > 0,
    )


def _days(rows: list[UsageRow]) -> list[UsageRow]:
    """The newest days; those between them on which nothing was used are drawn, too."""
    if not rows:
        return []
    known = {row.name: row for row in rows}
    last = datetime.date.fromisoformat(str(rows[-1].name))
    days = [last - datetime.timedelta(days=ago) for ago in range(_DAYS)]
    first = str(rows[0].name)
    names = [name for day in reversed(days) if (name := day.isoformat()) >= first]
    return [known.get(name) or _used_nothing(name) for name in names]


def _used_nothing(name: str) -> UsageRow:
    return UsageRow(name, 0, 0, 0, 0, 0, 0, None, 0)


def _total(rows: list[UsageRow]) -> UsageRow:
    def total(name: str) -> int:
        return sum(getattr(row, name) for row in rows)

    priced = [row.cost for row in rows if row.cost is not None]
    return UsageRow(
        name=None,
        requests=total("requests"),
        input_tokens=total("input_tokens"),
        cached_input_tokens=total("cached_input_tokens"),
        output_tokens=total("output_tokens"),
        reasoning_tokens=total("reasoning_tokens"),
        total_tokens=total("total_tokens"),
        cost=sum(priced) if priced else None,
        unpriced_requests=total("unpriced_requests"),
    )
