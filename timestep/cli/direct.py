"""Does what commands ask for on the database, under the names that `timestep.Client` has.

Each call imports what it needs: those that only read load neither DBOS nor the SDK.
"""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from timestep.operations.access.acting import user
from timestep.operations.queries import pagination

if TYPE_CHECKING:
    from timestep.config import Role
    from timestep.operations.access.records import ApiToken, AuditEntry
    from timestep.operations.queries.pagination import Page
    from timestep.operations.queries.records import (
        AgentDefinition,
        Interruption,
        ResumeResult,
        Run,
        RunEvent,
        RunFilters,
        RunItem,
        Session,
        SessionItem,
        ToolCall,
        UsageBy,
        UsageRow,
    )


class Direct:
    """The database that the settings name, asked as a host is; `Client` tells of each call."""

    async def start(
        self,
        entrypoint: str,
        input: Any,  # noqa: A002  # as `Client` has it
        *,
        workflow_id: str | None,
        queue: str | None,
        tags: Mapping[str, str] | None,
    ) -> str:
        from timestep.operations.start import start_run

        return await start_run(entrypoint, input, workflow_id=workflow_id, queue=queue, tags=tags)

    async def get_run(self, run_or_workflow_id: str) -> Run:
        from timestep.operations.queries.runs import get_run

        return await get_run(run_or_workflow_id)

    async def page_of_runs(
        self, *, limit: int, cursor: str | None = None, **filters: Unpack[RunFilters]
    ) -> Page[Run]:
        from timestep.operations.queries.runs import list_runs

        return await list_runs(limit=limit, cursor=cursor, **filters)

    async def list_items(self, run_or_workflow_id: str) -> list[RunItem]:
        from timestep.operations.queries.runs import list_items

        items: list[RunItem] = []
        cursor: str | None = None
        while True:
            page = await list_items(run_or_workflow_id, limit=pagination.LONGEST, cursor=cursor)
            items += page.items
            cursor = page.next_cursor
            if cursor is None:
                return items

    async def list_tool_calls(self, run_or_workflow_id: str) -> list[ToolCall]:
        from timestep.operations.queries.runs import list_tool_calls

        return await list_tool_calls(run_or_workflow_id)

    async def traceback(self, run_or_workflow_id: str) -> str | None:
        from timestep.operations.queries.runs import get_traceback

        return await get_traceback(run_or_workflow_id)

    async def graph(self, entrypoint: str) -> str:
        from timestep.operations.queries.agents import handoff_graph

        return await handoff_graph(entrypoint)

    async def events(
        self, run_or_workflow_id: str, *, after: str | None, patience: float
    ) -> AsyncIterator[RunEvent]:
        from timestep.operations.queries.follow import follow

        async for event in follow(run_or_workflow_id, after=after):
            yield event

    async def interruptions(self, *, workflow_id: str | None = None) -> list[Interruption]:
        from timestep.operations.queries.interruptions import list_interruptions

        return await list_interruptions(workflow_id=workflow_id)

    async def resume(
        self,
        workflow_id: str,
        *,
        approve: Sequence[str] = (),
        reject: Sequence[str] = (),
        supply: dict[str, Any] | None = None,
        edit: Mapping[str, Mapping[str, Any]] | None = None,
        expect: Mapping[str, str] | None = None,
        always: bool = False,
        message: str | None = None,
        from_checkpoint: bool = False,
        repeat_steps: bool = False,
        again: bool = False,
    ) -> ResumeResult:
        from timestep.operations.resume import resume_workflow

        return await resume_workflow(
            workflow_id,
            approve=approve,
            reject=reject,
            supply=supply,
            edit=edit,
            expect=expect,
            always=always,
            message=message,
            by=user(),
            from_checkpoint=from_checkpoint,
            repeat_steps=repeat_steps,
            again=again,
        )

    async def cancel(self, workflow_id: str) -> str:
        from timestep.operations.cancel import cancel_run

        return await cancel_run(workflow_id)

    async def fork(
        self,
        run_or_workflow_id: str,
        *,
        turn: int,
        input: Any,  # noqa: A002
        append: Any,
        agent: Any,
        new_workflow_id: str | None,
    ) -> str:
        from timestep.operations.fork import fork_run

        return await fork_run(
            run_or_workflow_id,
            turn=turn,
            input=input,
            append=append,
            agent=agent,
            new_workflow_id=new_workflow_id,
        )

    async def usage(self, *, by: UsageBy, since: datetime.datetime | None) -> list[UsageRow]:
        from timestep.operations.queries.usage import usage_report

        return await usage_report(by=by, since=since)

    async def sessions(self, *, limit: int) -> list[Session]:
        from timestep.operations.queries.sessions import list_sessions

        return await list_sessions(limit=limit)

    async def session_items(self, session_id: str) -> list[SessionItem]:
        from timestep.operations.queries.sessions import session_items

        return await session_items(session_id)

    async def agents(self) -> list[AgentDefinition]:
        from timestep.operations.queries.agents import list_agents

        return await list_agents()

    async def audit(
        self,
        *,
        who: str | None,
        act: str | None,
        subject: str | None,
        since: datetime.datetime | None,
        limit: int | None,
    ) -> AsyncIterator[AuditEntry]:
        from timestep.operations.access.audit import list_audit

        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = pagination.LONGEST if left is None else min(left, pagination.LONGEST)
            page = await list_audit(
                who=who, act=act, subject=subject, since=since, limit=size, cursor=cursor
            )
            for entry in page.items:
                yield entry
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def tokens(self) -> list[ApiToken]:
        from timestep.operations.access.tokens import list_tokens

        return await list_tokens()

    async def create_token(
        self, name: str, *, role: Role, expires: datetime.timedelta | None
    ) -> tuple[ApiToken, str]:
        from timestep.operations.access.tokens import create_token

        return await create_token(name, role=role, expires=expires)

    async def revoke_token(self, name_or_id: str) -> ApiToken:
        from timestep.operations.access.tokens import revoke_token

        return await revoke_token(name_or_id)
