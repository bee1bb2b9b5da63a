"""Saves and loads a run's state, as every store does: one process leaves it, another goes on.

A state is kept under its run's id. Inside a workflow what a store does is a step: a recovery
saves nothing again, and loads what was loaded.
"""

from __future__ import annotations

import abc
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

from agents import Agent, RunState
from dbos import DBOS

from timestep.dbos_internals import workflow_scope
from timestep.errors import ConfigurationError, StateError
from timestep.execution.current import current_step
from timestep.execution.identity import workflow_runs
from timestep.run_states.document import (
    ContextDeserializer,
    ContextSerializer,
    Document,
    Stored,
    made,
    read,
)
from timestep.sdk import patches
from timestep.sdk.mcp.listings import listed
from timestep.serialization.ids import derived

T = TypeVar("T")

_NAMESPACE = uuid.UUID("5c5b8f0e-3d0c-5b7a-9d58-0a7c0f6f2b11")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class RunStateStore(abc.ABC):
    """Where the state of one run is kept; also an async context manager that closes itself."""

    def __init__(
        self,
        agent: Agent[Any],
        run_id: str | uuid.UUID | None,
        session_id: str | None,
        context_serializer: ContextSerializer | None,
        context_deserializer: ContextDeserializer | None,
    ) -> None:
        self._agent = agent
        self._session_id = None if session_id is None else _text("session_id", session_id)
        self._run_id = _run_id(run_id, self._session_id)
        self._is_of_run = run_id is not None
        self._serializer = context_serializer
        self._deserializer = context_deserializer
        self._is_closed = False

    @property
    def run_id(self) -> str | None:
        """The id of the run that is saved to; None as long as nothing says which."""
        return None if self._run_id is None else str(self._run_id)

    async def save(self, state: RunState[Any]) -> None:
        """Keep a state; it is the one that `load` gives from then on.

        Args:
            state: As `result.to_state()` gives it. A context that is no mapping is kept if it
                is made of dataclasses, pydantic models and what JSON holds.

        Raises:
            StateError: It is no state, JSON cannot hold it, or the store is closed.
            ForeignStateError: It names an agent that the store's agent does not lead to.
            DatabaseError: The database refused, or cannot be reached.
            OSError: The file cannot be written.
        """
        self._check_open()
        document = made(state, self._agent, self._serializer)

        async def save() -> str:
            key = _key_of_change()
            run_id = self._run_id if self._run_id is not None else derived(key, "run")
            await self._save(document, run_id, derived(key, "state"))
            return str(run_id)

        self._run_id = uuid.UUID(await _durably("run state: save", save))

    async def load(self) -> RunState[Any]:
        """The state that was saved last; that it was taken up is noted with it.

        Raises:
            UnknownStateError: There is none.
            CorruptStateError, StateTooNewError, ForeignStateError: It cannot be gone on with
                here. It stays as it is.
            StateError: The store is closed, or has neither an id nor saved anything.
            DatabaseError: The database refused, or cannot be reached.
            OSError: The file cannot be read or written.
        """
        self._check_open()
        loaded: list[RunState[Any]] = []

        async def load() -> dict[str, Any]:
            reference, (state, tools) = await self._load()
            loaded.append(state)
            return {"state": reference, "mcp_tools": tools}

        recorded = await _durably("run state: load", load)
        return loaded[0] if loaded else await self._load_again(**recorded)

    async def clear(self) -> None:
        """Forget what was saved: until the next `save` there is nothing to load.

        Raises:
            StateError: The store is closed, or has neither an id nor saved anything.
            DatabaseError: The database refused, or cannot be reached.
            OSError: The file cannot be removed.
        """
        self._check_open()
        await _durably("run state: clear", self._clear)

    async def close(self) -> None:
        """Let go of what the store holds open. What was saved stays."""
        self._is_closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StateError("this store is closed: make another one")

    def _known_run(self) -> uuid.UUID:
        if self._run_id is None:
            raise StateError(
                "this store has neither a run_id nor a session_id, so it has nothing to load "
                "before its first save(): give it one of them"
            )
        return self._run_id

    async def _read(
        self, stored: Stored, mcp_tools: list[Any] | None = None
    ) -> tuple[RunState[Any], list[Any]]:
        """A state, and what MCP servers listed for it; or had listed when it was read first."""
        patches.connect()
        with listed(mcp_tools) as listing:
            state = await read(stored, self._agent, self._deserializer)
        return state, listing.told

    @abc.abstractmethod
    async def _save(self, document: Document, run_id: uuid.UUID, state_id: uuid.UUID) -> None:
        """Keep a document; once for each `state_id` where that can be told."""

    @abc.abstractmethod
    async def _load(self) -> tuple[str, tuple[RunState[Any], list[Any]]]:
        """What `_load_again` finds the state by, and what `_read` made of it."""

    @abc.abstractmethod
    async def _load_again(self, state: str, mcp_tools: list[Any]) -> RunState[Any]:
        """A state that an earlier execution loaded."""

    @abc.abstractmethod
    async def _clear(self) -> None: ...


def _run_id(run_id: str | uuid.UUID | None, session_id: str | None) -> uuid.UUID | None:
    """The row that a run's name stands for, in every language."""
    if isinstance(run_id, uuid.UUID):
        return run_id
    if run_id is not None:
        name = _text("run_id", run_id)
        return (
            uuid.UUID(name)
            if _UUID.fullmatch(name)
            else derived(uuid.NAMESPACE_URL, f"timestep:run:{name}")
        )
    if session_id is not None:
        return derived(uuid.NAMESPACE_URL, f"timestep:session:{session_id}")
    return None


def _text(name: str, value: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name}={value!r} is no text that names anything")
    return value


async def _durably(name: str, work: Callable[[], Awaitable[T]]) -> T:
    """In workflow code the work is a step."""
    if not workflow_scope.in_workflow() or workflow_scope.in_step():
        return await work()

    async def step() -> T:
        return await work()

    return await DBOS.run_step_async({"name": name}, step)


def _key_of_change() -> uuid.UUID:
    """What tells a change from others: the same when the step around it is executed again."""
    if not workflow_scope.in_step():
        return uuid.uuid4()
    if (step := current_step()) is not None:
        step.changes += 1
        return derived(step.id, f"run state:{step.changes}")
    name = f"{workflow_scope.step_key()}:run state"
    return derived(_NAMESPACE, f"{name}:{workflow_runs().next_of(name)}")
