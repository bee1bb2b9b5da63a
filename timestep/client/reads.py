"""The reads of a client."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Unpack

from timestep.client import events
from timestep.client.base import Base, moment_text
from timestep.client.connection import segment
from timestep.operations.access.records import ApiToken, AuditEntry
from timestep.operations.queries.pagination import Page
from timestep.operations.queries.records import (
    AgentDefinition,
    EntrypointDescription,
    Interruption,
    Run,
    RunEvent,
    RunItem,
    Session,
    SessionItem,
    ToolCall,
    UsageRow,
)

if TYPE_CHECKING:
    from timestep.operations.queries.records import RunFilters, UsageBy

_PATIENCE = 60.0


def _query(filters: RunFilters) -> dict[str, Any]:
    since, until = moment_text(filters.get("since")), moment_text(filters.get("until"))
    return {**filters, "since": since, "until": until}


class Reads(Base):
    """What a client is told."""

    async def workflows(self) -> list[EntrypointDescription]:
        """The entrypoints that can be started, by name."""
        return await self._list(EntrypointDescription, "/api/workflows")

    async def get_run(self, run_or_workflow_id: str) -> Run:
        """A run; of a workflow's id, its newest run.

        Raises:
            UnknownRunError: There is no such run or workflow.
        """
        path = f"/api/runs/{segment(run_or_workflow_id)}"
        return self._record(Run, await self._connection.ask("GET", path))

    def list_runs(self, **filters: Unpack[RunFilters]) -> AsyncIterator[Run]:
        """Runs, the newest first, asked for a page at a time as they are read.

        Args:
            filters: As `timestep.list_runs` has them.

        Raises:
            InvalidQueryError: A filter cannot be used.
        """
        return self._each(Run, "/api/runs", _query(filters))

    async def page_of_runs(
        self, *, limit: int = 50, cursor: str | None = None, **filters: Unpack[RunFilters]
    ) -> Page[Run]:
        """A part of the runs, the newest first.

        Args:
            limit: 1 to 200.
            cursor: The `next_cursor` of an earlier page.
            filters: As `timestep.list_runs` has them.

        Raises:
            InvalidQueryError: The limit or the cursor cannot be used.
        """
        query = {**_query(filters), "limit": limit, "cursor": cursor}
        return await self._page(Run, "/api/runs", query)

    async def list_items(self, run_or_workflow_id: str) -> list[RunItem]:
        """A run's items in their order.

        Raises:
            UnknownRunError: There is no such run.
        """
        return await self._list(RunItem, f"/api/runs/{segment(run_or_workflow_id)}/items")

    async def list_tool_calls(self, run_or_workflow_id: str) -> list[ToolCall]:
        """A run's tool calls in the order in which the model asked for them.

        Raises:
            UnknownRunError: There is no such run.
        """
        return await self._list(ToolCall, f"/api/runs/{segment(run_or_workflow_id)}/tool_calls")

    async def traceback(self, run_or_workflow_id: str) -> str | None:
        """Where in the code a run failed; for operators.

        Returns:
            Lines; None where none is recorded.

        Raises:
            UnknownRunError: There is no such run.
        """
        path = f"/api/runs/{segment(run_or_workflow_id)}/traceback"
        found = await self._connection.ask("GET", path)
        return None if found == {"traceback": None} else self._text(found, "traceback")

    async def graph(self, entrypoint: str) -> str:
        """Who may hand over to whom, from the agents on that its newest workflow ran.

        Returns:
            A flowchart in Mermaid's language.

        Raises:
            UnknownEntrypointError: No run of it is recorded.
        """
        path = f"/api/workflows/{segment(entrypoint)}/graph"
        return self._text(await self._connection.ask("GET", path), "mermaid")

    async def events(
        self,
        run_or_workflow_id: str | None = None,
        *,
        after: str | None = None,
        patience: float = _PATIENCE,
    ) -> AsyncIterator[RunEvent]:
        """What a run does, as it becomes visible, until it is over; each event once.

        Where the connection is lost, it goes on after the last event: from another host, or after
        a restart, too.

        Args:
            run_or_workflow_id: A run, or a workflow with all its runs; None: the changes of all
                runs, from now on, which never end.
            after: The `cursor` of the last event that was seen; None: from the beginning.
            patience: Seconds without a connection after which that is an error.

        Raises:
            HostUnreachableError: There was no connection for so long.
            UnknownRunError: There is no such run, or it was deleted meanwhile.
            InvalidQueryError: `after` is no cursor, or another database's.
        """
        name = run_or_workflow_id
        path = "/api/events" if name is None else f"/api/runs/{segment(name)}/events"
        async for one in events.events(self._connection, path, after=after, patience=patience):
            yield one

    async def interruptions(
        self, *, workflow_id: str | None = None, resolved: bool = False
    ) -> list[Interruption]:
        """What waits for a decision, the oldest first; or what was decided.

        Args:
            workflow_id: Only what this workflow asked.
            resolved: Whether what was decided is asked for.
        """
        query = {"workflow_id": workflow_id, "resolved": resolved}
        return await self._list(Interruption, "/api/interruptions", query)

    async def usage(
        self, *, by: UsageBy = "agent", since: datetime.datetime | None = None
    ) -> list[UsageRow]:
        """What runs used and cost.

        Args:
            by: What a row stands for: `agent`, `model`, `day` or `entrypoint`.
            since: Only of runs that began then or later.

        Raises:
            InvalidQueryError: `by` is none of these, or `since` has no time zone.
        """
        return await self._list(UsageRow, "/api/usage", {"by": by, "since": moment_text(since)})

    async def sessions(self, *, limit: int = 50) -> list[Session]:
        """The sessions that were changed last, the newest first.

        Args:
            limit: 1 to 200.
        """
        return (await self._page(Session, "/api/sessions", {"limit": limit})).items

    async def session_items(self, session_id: str) -> list[SessionItem]:
        """What is in a session, the oldest first.

        Raises:
            UnknownSessionError: There is no such session.
        """
        return await self._list(SessionItem, f"/api/sessions/{segment(session_id)}")

    async def agents(self) -> list[AgentDefinition]:
        """The agents that runs had, by name, each in its newest version."""
        return await self._list(AgentDefinition, "/api/agents")

    def audit(
        self,
        *,
        who: str | None = None,
        act: str | None = None,
        subject: str | None = None,
        since: datetime.datetime | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[AuditEntry]:
        """Who did what, when and from where, the newest first; for admins.

        Args:
            who: Only what this one did.
            act: Only acts of this kind, such as `start` or `decide`.
            subject: Only what is about this workflow, question or token.
            since: Only what was done then or later.
            limit: So many at most; None: all.

        Raises:
            InvalidQueryError: A filter cannot be used.
        """
        query = {"who": who, "act": act, "subject": subject, "since": moment_text(since)}
        return self._each(AuditEntry, "/api/audit", query, limit=limit)

    async def tokens(self) -> list[ApiToken]:
        """The tokens of the host, the oldest first, without what they are; for admins."""
        return await self._list(ApiToken, "/api/tokens")
