"""The client of a host: what Python code asks the database, asked over HTTP."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from timestep.client.connection import segment
from timestep.client.reads import Reads
from timestep.operations.access.records import ApiToken
from timestep.operations.queries.records import ResumeResult

if TYPE_CHECKING:
    from timestep.config import Role


class Client(Reads):
    """Asks a host of Timestep's. What comes back, and what is raised, is what the Python calls of
    the same names give: dataclasses, and `timestep.errors`.

    An asynchronous context manager, for one event loop; `BlockingClient` is its blocking form.
    Reads, starts and decisions are sent again where the connection fails; nothing is done twice.

    Args:
        url: The host's address; None: `TIMESTEP_URL`.
        token: A token of `timestep tokens`; None: `TIMESTEP_TOKEN`, or none.
        timeout: Seconds until a host is given up that does not connect, take or answer.
        plain_http: Whether the token may be sent over plain http to another machine; None:
            `TIMESTEP_PLAIN_HTTP`.
        transport: Of httpx, for proxies, certificates of one's own, and tests.

    Every call raises:
        HostUnreachableError: The host is away, or does not answer in time.
        RemoteError: The token is none, or its role does not allow it; or what answers is no host.
        DatabaseError: The host's database is away.

    Raises:
        ConfigurationError: No address is given, it or the token cannot be used, or the token would
            be sent over plain http to another machine.
    """

    async def start(
        self,
        entrypoint: str,
        input: Mapping[str, Any] | None = None,  # noqa: A002  # as `start_run` has it
        *,
        workflow_id: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        deduplication_id: str | None = None,
        delay: float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # DBOS's, of the workflow
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Start a workflow; the same `workflow_id` again answers the same one.

        Args:
            entrypoint: Its name.
            input: Its arguments by name, made of JSON's types.
            workflow_id: The id of the workflow; None: a new one.
            queue: A queue of DBOS; None: the hosts' own, where one is needed.
            priority: 1 to 2147483647; a lower number runs first.
            deduplication_id: While a workflow with this id is in the queue, no other is let in.
            delay: Seconds until it may run.
            timeout: Seconds from its beginning after which DBOS cancels it.
            tags: What its runs are found by, such as `{"team": "billing"}`.

        Returns:
            The workflow's id.

        Raises:
            UnknownEntrypointError: There is no such entrypoint.
            InvalidInputError: The input, or an option, does not fit; InvalidTagsError: the tags.
            AlreadyStartedError: The workflow id belongs to another start, or to a workflow without
                these tags, or the deduplication id is taken.
        """
        given: dict[str, Any] = {
            "input": dict(input or {}),
            # Chosen here, so that it is not started twice where the answer is lost.
            "workflow_id": str(uuid.uuid4()) if workflow_id is None else workflow_id,
            "queue": queue,
            "priority": priority,
            "deduplication_id": deduplication_id,
            "delay": delay,
            "timeout": timeout,
        }
        if tags is not None:
            # A host of an earlier version knows of none.
            given["tags"] = dict(tags)
        path = f"/api/workflows/{segment(entrypoint)}/runs"
        found = await self._connection.ask("POST", path, body=given)
        return self._text(found, "workflow_id")

    async def resume(
        self,
        workflow_id: str,
        *,
        approve: Sequence[str] | str = (),
        reject: Sequence[str] | str = (),
        supply: Mapping[str, Any] | None = None,
        edit: Mapping[str, Mapping[str, Any]] | None = None,
        expect: Mapping[str, str] | None = None,
        always: bool = False,
        message: str | None = None,
        from_checkpoint: bool = False,
        repeat_steps: bool = False,
        again: bool = False,
    ) -> ResumeResult:
        """Decide what a workflow's runs ask, in the name of the token.

        `timestep.resume_workflow` tells of the arguments, and of what is raised.
        """
        body = {
            "approve": _names(approve),
            "reject": _names(reject),
            "supply": dict(supply or {}),
            "edit": {name: dict(arguments) for name, arguments in (edit or {}).items()},
            "expect": dict(expect or {}),
            "always": always,
            "message": message,
            "from_checkpoint": from_checkpoint,
            "repeat_steps": repeat_steps,
            "again": again,
        }
        found = await self._connection.ask(
            "POST",
            f"/api/workflows/{segment(workflow_id)}/resume",
            body=body,
            # A decision may be made again; to go on is asked for once.
            is_repeatable=not (from_checkpoint or again),
        )
        return self._record(ResumeResult, found)

    async def cancel(self, workflow_id: str) -> str:
        """Cancel a workflow, or that of a run which goes on: no further step of it begins.

        Returns:
            The workflow's id.

        Raises:
            AlreadyEndedError: It has completed, or failed.
            UnknownRunError: There is no such workflow.
        """
        path = f"/api/workflows/{segment(workflow_id)}/cancel"
        return self._text(await self._connection.ask("POST", path), "workflow_id")

    async def fork(
        self,
        run_or_workflow_id: str,
        *,
        turn: int,
        input: str | Sequence[Any] | None = None,  # noqa: A002  # as `fork_run` has it
        append: str | Sequence[Any] | None = None,
        agent: Mapping[str, Any] | None = None,
        new_workflow_id: str | None = None,
    ) -> str:
        """Start a new run from the checkpoint before a turn; `timestep.fork_run` tells more.

        Returns:
            The new workflow's id.
        """
        body = {
            "turn": turn,
            "input": input,
            "append": append,
            "agent": agent,
            "workflow_id": new_workflow_id,
        }
        path = f"/api/runs/{segment(run_or_workflow_id)}/fork"
        given = {name: value for name, value in body.items() if value is not None}
        found = await self._connection.ask("POST", path, body=given, is_repeatable=False)
        return self._text(found, "workflow_id")

    async def create_token(
        self, name: str, *, role: Role, expires: datetime.timedelta | None = None
    ) -> tuple[ApiToken, str]:
        """Make a token; for admins.

        Args:
            name: Whose it is.
            role: `viewer`, `operator` or `admin`.
            expires: After which time it is none any more; None: never.

        Returns:
            The token, and its secret, which nobody is told again.

        Raises:
            InvalidInputError: An argument cannot be used.
            TokenNameTakenError: The name is another token's.
        """
        seconds = None if expires is None else expires.total_seconds()
        body = {"name": name, "role": role, "expires": seconds}
        # Sent again, the name would be taken by the token whose secret was lost.
        made = await self._connection.ask("POST", "/api/tokens", body=body, is_repeatable=False)
        return self._record(ApiToken, made), self._text(made, "token")

    async def revoke_token(self, name_or_id: str) -> ApiToken:
        """Let a token be none any more; for admins.

        Raises:
            UnknownTokenError: There is no such token.
        """
        path = f"/api/tokens/{segment(name_or_id)}/revoke"
        return self._record(ApiToken, await self._connection.ask("POST", path))


def _names(given: Sequence[str] | str) -> list[str] | str:
    if isinstance(given, str):
        return given if given == "all" else [given]
    return list(given)
