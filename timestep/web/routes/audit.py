"""Serves /api/audit: who did what."""

from __future__ import annotations

from timestep.operations.access.audit import list_audit as listed
from timestep.operations.access.records import Act, AuditEntry
from timestep.operations.queries.pagination import Page
from timestep.web.dependencies import Admin, Limit, Moment, api_router
from timestep.web.problems import Answer

router = api_router()


@router.get("/audit", response_model=Page[AuditEntry])
async def list_audit(
    caller: Admin,
    who: str | None = None,
    act: Act | None = None,
    subject: str | None = None,
    since: Moment | None = None,
    limit: Limit = 50,
    cursor: str | None = None,
) -> Answer:
    """Who did what, when and from where, the newest first; for admins, who watch over operators."""
    return Answer(
        await listed(who=who, act=act, subject=subject, since=since, limit=limit, cursor=cursor)
    )
