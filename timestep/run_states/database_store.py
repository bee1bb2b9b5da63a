"""Keeps run states in the database, and chooses between a store there and one in a file.

A store that has only a session's id saves to a run made of that id, and loads the newest state
of any run of the session.
"""

from __future__ import annotations

import functools
import os
import uuid
import weakref
from pathlib import Path
from typing import Any

from agents import Agent, RunState

from timestep import config
from timestep.database.engines import private_engine
from timestep.database.servers import pglite
from timestep.database.urls import parse_url, shown
from timestep.errors import ConfigurationError, CorruptStateError, UnknownStateError
from timestep.journal.checkpoints import SDK_VERSION, folded
from timestep.journal.recorder import Recorder, recorder
from timestep.run_states.base_store import RunStateStore
from timestep.run_states.document import ContextDeserializer, ContextSerializer, Document, Stored
from timestep.run_states.file_store import FileRunStateStore
from timestep.runtime.cancellation import in_thread
from timestep.runtime.terminal import quoted
from timestep.serialization.values import storable
from timestep.sessions import row_key
from timestep.store import definitions as definitions_store
from timestep.store import run_states as store


class DatabaseRunStateStore(RunStateStore):
    """Keeps a run's state in `run_states`, where stores in every language find it.

    Args:
        agent: The agent whose run it is; the agents that it hands off to are found from it.
        run_id: Any text that names the run. A UUID is the id of a row of `runs` as it is, so a
            durable run's own state can be loaded, too.
        session_id: The session of the run, as `DatabaseSession` takes it.
        connection_string: A PostgreSQL URL, for connections of the store's own. None: the
            database of `TIMESTEP_DB_URL`, or the embedded one.
        use_pglite: Whether the database is PGlite. None: as `TIMESTEP_USE_PGLITE` says.
        pglite_path: PGlite's data directory. None: as `TIMESTEP_PGLITE_PATH` says.
        context_serializer: Makes a mapping of the run's context, if that is none.
        context_deserializer: Makes the context again of that mapping.

    Raises:
        ConfigurationError: An id is empty, the URL is none, or the options contradict.
    """

    def __init__(
        self,
        agent: Agent[Any],
        *,
        run_id: str | uuid.UUID | None = None,
        session_id: str | None = None,
        connection_string: str | None = None,
        use_pglite: bool | None = None,
        pglite_path: str | os.PathLike[str] | None = None,
        context_serializer: ContextSerializer | None = None,
        context_deserializer: ContextDeserializer | None = None,
    ) -> None:
        super().__init__(agent, run_id, session_id, context_serializer, context_deserializer)
        self._own = _own_database(connection_string, use_pglite, pglite_path)
        if self._own is not None:
            # A store that is not closed is closed when nobody has it any more.
            weakref.finalize(self, self._own.engine.dispose)

    async def close(self) -> None:
        await super().close()
        if self._own is not None:
            await in_thread(self._own.engine.dispose)

    @property
    def _session_key(self) -> str | None:
        """The session whose runs are looked at; None: one run is."""
        if self._is_of_run or self._session_id is None:
            return None
        return row_key(self._session_id)[1]

    async def _save(self, document: Document, run_id: uuid.UUID, state_id: uuid.UUID) -> None:
        ids = document.definitions.agent_ids
        values = {
            "id": state_id,
            "run_id": run_id,
            "agent_id": ids[id(self._agent)],
            "current_agent_id": ids[id(document.current_agent)],
            "input": storable(document.state["original_input"]),
            "state": storable(document.state),
            "state_type": document.kind,
            "schema_version": document.schema_version,
            "sdk_version": SDK_VERSION,
            "turn": document.turn,
            "max_turns": document.state["max_turns"],
        }
        session = None if self._session_id is None else row_key(self._session_id)

        def save(connection: Any) -> None:
            definitions_store.write(connection, document.definitions.rows)
            store.save(connection, session, values)

        await (await self._database()).change(save)

    async def _load(self) -> tuple[str, tuple[RunState[Any], list[Any]]]:
        run_id, key = self._known_run(), self._session_key
        database = await self._database()
        while rows := await database.read(lambda c: store.active(c, run_id, key)):
            read = await self._read(_stored(rows))
            state_id = uuid.UUID(rows[0]["id"])
            if await database.read(functools.partial(store.resumed, state_id=state_id)):
                self._run_id = uuid.UUID(rows[0]["run_id"])
                return str(state_id), read
            # Another one was saved while this one was read.
        what = f"run {run_id}" if key is None else f"session {quoted(self._session_id)}"
        raise UnknownStateError(f"no state of {what} is saved in {shown(database.url)}")

    async def _load_again(self, state: str, mcp_tools: list[Any]) -> RunState[Any]:
        database = await self._database()
        rows = await database.read(lambda c: store.one(c, uuid.UUID(state)))
        if not rows:
            raise UnknownStateError(f"state {state} is not in {shown(database.url)} any more")
        self._run_id = uuid.UUID(rows[0]["run_id"])
        return (await self._read(_stored(rows), mcp_tools))[0]

    async def _clear(self) -> None:
        run_id, key = self._known_run(), self._session_key
        await (await self._database()).change(lambda c: store.clear(c, run_id, key))

    async def _database(self) -> Recorder:
        # To start the embedded database takes its time.
        return self._own if self._own is not None else await in_thread(recorder)


async def create_run_state_store(
    agent: Agent[Any],
    *,
    run_id: str | uuid.UUID | None = None,
    session_id: str | None = None,
    connection_string: str | None = None,
    file_path: str | os.PathLike[str] | None = None,
    use_database: bool | None = None,
    context_serializer: ContextSerializer | None = None,
    context_deserializer: ContextDeserializer | None = None,
) -> DatabaseRunStateStore | FileRunStateStore:
    """A store in the database, if one is named, and otherwise in a file.

    Args:
        agent: The agent whose run it is.
        run_id: Any text that names the run.
        session_id: The session of the run.
        connection_string: A PostgreSQL URL. None: `TIMESTEP_DB_URL`.
        file_path: The file, where it is one.
        use_database: True: the database, the embedded one if none is named; False: a file;
            None: the database if `connection_string`, `TIMESTEP_DB_URL` or
            `TIMESTEP_USE_PGLITE` names one.
        context_serializer: Makes a mapping of the run's context, if that is none.
        context_deserializer: Makes the context again of that mapping.

    Raises:
        ConfigurationError: An id is empty, or the URL is none.
    """
    if use_database is None:
        settings = config.read()
        use_database = (
            connection_string is not None or settings.db_url is not None or settings.use_pglite
        )
    if use_database:
        return DatabaseRunStateStore(
            agent,
            run_id=run_id,
            session_id=session_id,
            connection_string=connection_string,
            context_serializer=context_serializer,
            context_deserializer=context_deserializer,
        )
    return FileRunStateStore(
        agent,
        run_id=run_id,
        session_id=session_id,
        file_path=file_path,
        context_serializer=context_serializer,
        context_deserializer=context_deserializer,
    )


def _own_database(
    connection_string: str | None,
    use_pglite: bool | None,
    pglite_path: str | os.PathLike[str] | None,
) -> Recorder | None:
    """The database that a store is given for itself; None: the one of the environment."""
    if use_pglite or (use_pglite is None and pglite_path is not None):
        if connection_string is not None:
            raise ConfigurationError(
                "a store has a connection_string or is in PGlite (use_pglite, pglite_path): give "
                "one of them"
            )
        settings = config.read()
        path = settings.pglite_path if pglite_path is None else Path(pglite_path)
        url = pglite.start(path, settings.home)
        return Recorder(url, private_engine(url))
    if connection_string is None and use_pglite is False and config.read().use_pglite:
        connection_string = config.read().db_url
        if connection_string is None:
            raise ConfigurationError(
                "use_pglite=False, and TIMESTEP_USE_PGLITE=true names no other database: give a "
                "connection_string"
            )
    if connection_string is None:
        return None
    url = parse_url(connection_string, "connection_string")
    return Recorder(url, private_engine(url))


def _stored(rows: list[dict[str, Any]]) -> Stored:
    """The state that a row and those it is a change of stand for."""
    row = rows[0]
    where = f"state {row['id']} of run {row['run_id']}"
    try:
        state = folded({found["id"]: found for found in rows}, row["id"])
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise CorruptStateError(f"{where} cannot be put together: {error!r}") from error
    return Stored(where, row["sdk"], row["sdk_version"], state)
