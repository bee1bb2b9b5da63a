"""Keeps conversations in `sessions` and `session_items`, as the SDK's Session protocol.

A run sees the session as it was when the run began, and what it changed itself. So a replay
reads what the first execution read without recording its reads, and two runs of one session
at the same time do not see each other's half-finished turns. Changes have ids derived from
the run, so one that is made again changes nothing.

However many runs change a session at the same time: the items of one `add_items` stay
together, in their order; batches follow each other in the order of their commits; none is
lost; and an item is given by `pop_item` to one caller only. The batches of two runs may
alternate.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from agents import TResponseInputItem
from agents.memory import SessionSettings
from agents.memory.session_settings import coerce_session_settings, resolve_session_limit
from dbos import DBOS

from timestep.dbos_internals import control_errors, workflow_scope
from timestep.errors import NotDurableError
from timestep.execution.current import current_run, current_step
from timestep.execution.identity import workflow_runs
from timestep.execution.replay import recorded_end
from timestep.execution.run import Run
from timestep.journal.recorder import recorder
from timestep.serialization.ids import derived, storable_name
from timestep.serialization.sdk_objects import jsonable, not_json, text_in
from timestep.serialization.values import restored, storable
from timestep.store import session_items as store

T = TypeVar("T")

_NAMESPACE = uuid.UUID("0d1f8f0e-9a3a-5f0e-8a7e-6f1a3c5b7d92")


class DatabaseSession:
    """The SDK's `Session` protocol on Timestep's database.

    Args:
        session_id: Any text that names the conversation. None: a new one, which inside a
            workflow is the same one again when the workflow is recovered.
        session_settings: As the SDK takes them; `limit` bounds what is read.
    """

    def __init__(
        self,
        session_id: str | None = None,
        *,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        self.session_id = session_id if session_id is not None else _new_id()
        self.session_settings = (
            None if session_settings is None else coerce_session_settings(session_settings)
        )
        self._id, self._key = row_key(self.session_id)
        self._is_there = False

    async def _get_session_id(self) -> str:
        """The session's id, as the SDK's own sessions answer it."""
        return self.session_id

    async def row_id(self) -> uuid.UUID:
        """The id of the session's row, which is made if it is not there."""
        if not self._is_there:
            await self._run(lambda c: store.ensure(c, self._id, self._key))
            self._is_there = True
        return self._id

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The conversation, oldest first; with a limit, its newest items."""
        limit = resolve_session_limit(limit, self.session_settings)

        async def read() -> list[Any]:
            return [restored(item) for _, item in await self._seen(limit, _view())]

        return cast(list[TResponseInputItem], await self._durably("session: read", read))

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items at the end.

        Raises:
            NotDurableError: An item is not JSON.
        """
        if not items:
            return
        for position, item in enumerate(items):
            if (place := not_json(item)) is not None:
                raise NotDurableError(f"item {position} of the session is no JSON: {place}")
        documents = [jsonable(item) for item in items]

        async def add() -> None:
            change = await self._next_change()
            rows = [
                {
                    "id": derived(change.key, str(position)),
                    "position": position,
                    "item_type": text_in(document, "type"),
                    "role": text_in(document, "role"),
                    "item_data": storable(document),
                }
                for position, document in enumerate(documents)
            ]
            await self._apply(change, store.add, {"items": rows})

        await self._durably("session: add", add)

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the newest item and return it; None if there is none."""

        async def pop() -> Any:
            view = _view()
            newest = await self._seen(1, view)
            if not newest:
                return None
            change = await self._next_change()
            if await self._apply(change, store.remove, {"ids": [newest[0][0]]}):
                return restored(newest[0][1])
            # Another run took it. This one still sees it, and takes the one before.
            for id_, item in reversed(await self._seen(None, view)):
                if await self._apply(change, store.remove, {"ids": [id_]}):
                    return restored(item)
            return None

        return cast("TResponseInputItem | None", await self._durably("session: pop", pop))

    async def clear_session(self) -> None:
        """Remove every item. The rows stay, marked as deleted."""

        async def clear() -> None:
            found = await self._seen(None, _view())
            if found:
                change = await self._next_change()
                await self._apply(change, store.remove, {"ids": [id_ for id_, _ in found]})

        await self._durably("session: clear", clear)

    async def _seen(self, limit: int | None, view: dict[str, Any]) -> list[tuple[uuid.UUID, Any]]:
        session_id = await self.row_id()
        return await self._run(lambda c: store.seen(c, session_id, limit=limit, **view))

    async def _next_change(self) -> _Change:
        run = _reading_run()
        session_id = await self.row_id()
        if run is not None:
            run_id, number = run.id, run.counters.next_session_change()
            if run.record.is_over and not await self._run(
                lambda c: store.is_made(c, session_id, run_id, number)
            ):
                # The first execution was cut off before it.
                await recorded_end.hold_if_cut(run, "a change of its session")
            key = derived(run_id, f"session:{session_id}:{number}")
            return _Change(key, run.owner, run_id, number)
        if (step := current_step()) is not None and workflow_scope.in_step():
            # A tool's body: the same changes again when the step is executed again.
            step.changes += 1
            return _Change(derived(step.id, f"session:{session_id}:{step.changes}"), step.run.owner)
        if workflow_scope.in_step():
            name = f"{workflow_scope.step_key()}:{session_id}"
            return _Change(derived(_NAMESPACE, f"{name}:{workflow_runs().next_of(name)}"))
        return _Change(uuid.uuid4())

    async def _apply(
        self,
        change: _Change,
        apply: Callable[[Any, dict[str, Any] | None, dict[str, Any]], int | None],
        values: dict[str, Any],
    ) -> int:
        """How many items were changed, or had been by an earlier execution of this change."""
        owner, fence = change.owner, None
        if owner is not None:
            fence = {
                "schema": recorder().schema,
                "workflow_id": owner.workflow_id,
                "token": owner.token,
            }
        parameters = {
            "session_id": self._id,
            "run_id": change.run_id,
            "change": change.number,
            **values,
        }
        about = [owner.workflow_id] if owner is not None else []
        changed = await self._run(lambda c: apply(c, fence, parameters), about)
        if changed is None:
            # Only a fenced change is refused.
            raise control_errors.lost(cast(workflow_scope.Owner, owner), None)
        return changed

    async def _durably(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Outside a run, in workflow code, the work is a DBOS step of its own."""
        if (
            _reading_run() is not None
            or not workflow_scope.in_workflow()
            or workflow_scope.in_step()
        ):
            return await work()

        async def step() -> T:
            return await work()

        return await DBOS.run_step_async({"name": name}, step)

    async def _run(self, work: Callable[[Any], T], about: Collection[str] = ()) -> T:
        return await recorder().read(work, about)


def row_key(session_id: str) -> tuple[uuid.UUID, str]:
    """The id and the key of the row of the session that a text names."""
    return derived(_NAMESPACE, session_id), storable_name(session_id)


async def row_of(session: object) -> uuid.UUID | None:
    """The id of a session's row; None for one that keeps its items elsewhere."""
    return await session.row_id() if isinstance(session, DatabaseSession) else None


@dataclass(frozen=True)
class _Change:
    """One change of a session, and on whose behalf it is made."""

    key: uuid.UUID
    owner: workflow_scope.Owner | None = None
    run_id: uuid.UUID | None = None
    number: int | None = None


def _view() -> dict[str, Any]:
    """What the caller sees of a session."""
    run = _reading_run()
    if run is None or run.record.session_revision is None:
        return {"revision": store.LATEST, "run_id": None, "change": 0}
    return {
        "revision": run.record.session_revision,
        "run_id": run.id,
        "change": run.counters.session_changes,
    }


def _reading_run() -> Run | None:
    """The run on whose behalf its loop uses the session; a tool's body acts for itself."""
    run, step = current_run(), current_step()
    return None if run is None or (step is not None and step.run is run) else run


def _new_id() -> str:
    if not workflow_scope.in_workflow():
        return str(uuid.uuid4())
    if workflow_scope.in_step():
        raise NotDurableError(
            "DatabaseSession() inside a step would be another session when the step is executed "
            "again: give it a session_id"
        )
    workflow_id = workflow_scope.scope().owner.workflow_id
    name = f"{workflow_id}:session:{workflow_runs().next_of('session')}"
    return str(uuid.uuid5(_NAMESPACE, name))
