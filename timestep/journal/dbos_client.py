"""Makes DBOS's client of the configured database, for processes that execute no workflows."""

from __future__ import annotations

import threading

from dbos import DBOSClient, Serializer

from timestep.dbos_internals import serializer
from timestep.dbos_internals.presence import application_name
from timestep.journal.recorder import Recorder, recorder
from timestep.runtime import process_state
from timestep.runtime.process_state import PerProcess


class Clients(PerProcess):
    """A process asks DBOS through one client for each recorder, over the recorder's engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[tuple[Recorder, Serializer], DBOSClient] = {}

    def of(self, recorder: Recorder) -> DBOSClient:
        # What a client enqueues is read by processes like this one.
        key = (recorder, serializer.in_use())
        with self._lock:
            found = self._clients.get(key)
            if found is None:
                mirror = recorder.mirror
                found = self._clients[key] = DBOSClient(
                    system_database_engine=recorder.transactions
                    if mirror is None
                    else mirror.engine,
                    application_name=application_name(),
                    retry_connection_errors=False,
                    lazy=True,
                    serializer=key[1],
                )
            return found

    def close(self) -> None:
        with self._lock:
            clients = list(self._clients.values())
            self._clients.clear()
        for client in clients:
            client.destroy()


def client() -> DBOSClient:
    """A client of the configured database, for what needs no launched DBOS.

    It raises where the database is away; it does not wait for it.
    """
    return process_state.of(Clients).of(recorder())
