"""Serves /: the runs, newest first, and what each does or waits for."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from fastapi import Request, Response

from timestep.errors import InvalidQueryError
from timestep.operations import arguments
from timestep.operations.overview import filters, many
from timestep.operations.overview.activity import activities
from timestep.operations.overview.counts import Counts, count_runs
from timestep.operations.overview.suggestions import Suggested, suggestions
from timestep.operations.queries import runs
from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import Run, Status
from timestep.web.pages.rendering import page
from timestep.web.pages.routing import page_router

router = page_router()

_SIZE = 50
"""Runs of a page."""

STATUSES: tuple[Status, ...] = ("running", "interrupted", "failed", "completed", "cancelled")
"""In the order in which an operator asks for them."""

_COMPLETED: tuple[Suggested, ...] = ("agent", "entrypoint", "session_id", "workflow_id", "version")
_MOMENTS = ("since", "until")
_FIELDS = ("text", "tag", *_COMPLETED, *_MOMENTS)


@dataclass
class Asked:
    """Which runs a page's address asks for."""

    given: dict[str, str]
    """As it was typed, by the field's name; without those that are empty."""
    nested: bool
    filters: dict[str, Any] = field(default_factory=dict)
    """As `list_runs` takes them."""
    wrong: dict[str, str] = field(default_factory=dict)
    """What is wrong, by the field's name."""

    def query(self, **changed: str | None) -> str:
        """What it asks for, as in an address, with some of it changed."""
        asked = {**self.given, **({"nested": "1"} if self.nested else {}), **changed}
        return urlencode({name: value for name, value in asked.items() if value})

    def address(self, **changed: str | None) -> str:
        """The page's own address with some of what it asks for changed."""
        query = self.query(**changed)
        return f"/?{query}" if query else "/"


def asked_of(query: Mapping[str, str]) -> Asked:
    """What is asked for by the query of an address of the page."""
    names = ("status", *_FIELDS)
    given = {name: query[name].strip() for name in names if query.get(name, "").strip()}
    asked = Asked(given, nested=bool(query.get("nested")))
    for name, text in given.items():
        try:
            value: Any = text
            if name in _MOMENTS:
                value = arguments.moment_of(text, datetime.UTC)
            filters.checked(**{name: value})
            asked.filters[name] = value
        except InvalidQueryError as error:
            asked.wrong[name] = error.message
    return asked


@router.get("/")
async def list_of_runs(request: Request, cursor: str | None = None) -> Response:
    """The page of all runs, or of those that its address asks for."""
    asked = asked_of(request.query_params)
    found: Page[Run] = Page([], None)
    counts = Counts(dict.fromkeys(STATUSES, 0))
    if not asked.wrong:
        try:
            found = await runs.list_runs(
                **asked.filters, nested=asked.nested, brief=True, limit=_SIZE, cursor=cursor or None
            )
            counts = await count_runs(**asked.filters, nested=asked.nested)
        except InvalidQueryError as error:
            if cursor:
                raise
            asked.wrong["version"] = error.message
    return page(
        request,
        "runs.html",
        422 if asked.wrong else 200,
        asked=asked,
        rows=list(zip(found.items, await activities(found.items), strict=True)),
        counts=counts,
        most=many.MOST,
        statuses=STATUSES,
        cursor=cursor,
        next_cursor=found.next_cursor,
        suggested={name: await suggestions(name) for name in ("agent", "entrypoint", "version")},
    )


@router.get("/complete/{what}")
async def completions(request: Request, what: Suggested, text: str = "") -> Response:
    """What a field of the filters may be completed to: options of its list."""
    return page(request, "_options.html", options=await suggestions(what, text.strip()))
