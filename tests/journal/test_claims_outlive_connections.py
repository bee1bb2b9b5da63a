"""An executor's claim while connections are cut, the database is away, and others want it."""

from __future__ import annotations

import functools
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from tests.support.conditions import until
from timestep.database import urls
from timestep.errors import ConfigurationError, DatabaseUnreachableError, ExecutorLostError
from timestep.journal import executor_claim
from timestep.journal.executor_claim import Claims, ExecutorClaim, Timing, Watch
from timestep.runtime import lease, process_identity, process_state
from timestep.runtime.lease import Lease
from timestep.store.fleet import executors, hosts
from timestep.store.fleet.executors import Executor

QUICK = Timing(interval=0.01, pause=0.01, answer=30, lease=30, settle=0.3, patience=0.2)

ROW = """INSERT INTO timestep.hosts (application, executor_id, claim, version, node, process_id,
    identity, seen_at, expires_at)
    VALUES ('app', 'local', gen_random_uuid(), '1', 'elsewhere', 7, %(identity)s, now(),
    now() + %(seconds)s * interval '1 second')"""


@pytest.fixture
def claim(database_url: str) -> Iterator[Callable[..., ExecutorClaim]]:
    """Makes claims, each told what becomes of it; they are given up at the end."""
    made: list[ExecutorClaim] = []

    def claimed(told: list[str], **timing: float) -> ExecutorClaim:
        url = urls.parse_url(database_url)
        quick = Timing(**{**vars(QUICK), **timing})
        lost, free = (functools.partial(told.append, word) for word in ("lost", "free"))
        made.append(ExecutorClaim(url, "app", "local", lost, free, quick))
        return made[-1]

    yield claimed
    for one in made:
        one.release()


def row(engine: sa.Engine) -> dict[str, Any]:
    with engine.connect() as connection:
        found = hosts.find(connection, "app", "local")
    assert found is not None
    return found


@contextmanager
def away(url: str, server: str) -> Iterator[None]:
    """The database lets nobody in, and every connection to it is cut."""
    name = url.partition("?")[0].rpartition("/")[2]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        try:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                (name,),
            )
            yield
        finally:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


def test_a_claim_outlives_its_connection(
    claim: Callable[..., ExecutorClaim],
    database_url: str,
    server: str,
    engine: sa.Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []
    held = claim(told, pause=0.05)
    with away(database_url, server):
        until(lambda: "cannot be told, trying again" in caplog.text)
        with pytest.raises(DatabaseUnreachableError):
            claim([])
    with pytest.raises(ConfigurationError, match=r"another host of 'app' .* set DBOS__VMID"):
        claim([])
    before = row(engine)
    until(lambda: row(engine)["seen_at"] > before["seen_at"])
    assert row(engine)["claim"] == before["claim"]
    assert [record.message for record in caplog.records if "told again" in record.message] == [
        "that this host is alive is told again"
    ]
    assert (told, held.problem, process_state.of(Lease).is_valid) == ([], None, True)
    with engine.connect() as connection:
        assert executor_claim.is_live(connection, "app", "local", "any, as it begins")
        held.tell("1", reads_pickles=False)
        assert executor_claim.is_live(connection, "app", "local", "1")
        assert not executor_claim.is_live(connection, "app", "local", "2")
        assert not executor_claim.is_live(connection, "app", "other", "1")


def test_a_database_that_hangs_is_given_up_and_the_lease_runs_out(
    claim: Callable[..., ExecutorClaim], engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    held = claim(told, answer=0.1, lease=0.4)
    with (
        engine.connect() as connection,
        connection.execution_options(isolation_level="READ COMMITTED").begin(),
    ):
        connection.exec_driver_sql("SELECT FROM timestep.hosts FOR UPDATE")
        until(lambda: held.problem is not None)
        assert "no step begins here: the claim to be the executor 'local'" in str(held.problem)
        assert not process_state.of(Lease).is_valid
        until(lambda: "cannot be told, trying again" in caplog.text)
    until(lambda: held.problem is None and process_state.of(Lease).is_valid)
    assert told == []


def test_another_that_takes_the_claim_ends_this_one_until_it_is_free_again(
    claim: Callable[..., ExecutorClaim],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []
    process_state.of(Claims).held = claim(told, lease=0.2)
    renew = hosts.renew

    def cut_off(*arguments: Any) -> bool:
        if other == [] and threading.current_thread() is not threading.main_thread():
            raise OperationalError("", {}, Exception("no route to the database"))
        return renew(*arguments)

    other: list[ExecutorClaim] = []
    monkeypatch.setattr(hosts, "renew", cut_off)
    other.append(claim([], patience=60))
    until(lambda: told == ["lost"])
    reason = "another host has become the executor 'local' of 'app', and this one executes nothing"
    assert reason in str(executor_claim.problem())
    assert [one.levelno for one in caplog.records if reason in one.message] == [logging.ERROR]
    with pytest.raises(ExecutorLostError, match=reason):
        executor_claim.require()

    assert told == ["lost"]
    other[0].release()
    until(lambda: told[:2] == ["lost", "free"])
    assert reason in str(executor_claim.problem()), "only a process that begins anew claims again"
    assert process_state.of(Lease).is_over


def test_a_host_that_was_killed_beside_this_one_is_not_waited_for(
    claim: Callable[..., ExecutorClaim], engine: sa.Engine
) -> None:
    machine, pid, _ = json.loads(process_identity.own() or "")
    dead = {"identity": json.dumps([machine, pid, "1"]), "seconds": 3600}
    with engine.connect() as connection:
        connection.exec_driver_sql(ROW, dead)
        assert not executor_claim.is_live(connection, "app", "local", "1")
        executor = Executor("app", "local", "1")
        assert executors.liveness(connection, "dbos", [executor], "app") == {executor: False}
    after = claim([], patience=0)
    # What it was executing is suspected; where it was stopped, nothing is.
    assert (after.ended or {})["process_id"] == 7
    after.release()
    assert claim([], patience=0).ended is None


def test_one_that_is_over_is_watched_before_it_is_replaced(
    claim: Callable[..., ExecutorClaim], engine: sa.Engine
) -> None:
    with engine.connect() as connection, engine.connect() as cut_off:
        connection.exec_driver_sql(ROW, {"identity": None, "seconds": -1})
        with pytest.raises(ConfigurationError, match="process 7 on elsewhere"):
            claim([], settle=60)
        prolong = "UPDATE timestep.hosts SET expires_at = now() + interval '1 hour'"
        renewal = threading.Timer(0.05, cut_off.exec_driver_sql, [prolong])
        renewal.start()
        assert executor_claim.is_live(connection, "app", "local", "1", Timing(settle=60))
        renewal.join()
        connection.exec_driver_sql("UPDATE timestep.hosts SET expires_at = now()")
        assert not executor_claim.is_live(connection, "app", "local", "1", QUICK)
    claim([], patience=60)


def test_time_in_which_nobody_looked_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(lease, "now", lambda: clock[0])
    watch = Watch(5)
    seen = {"claim": 1, "expires_at": 1, "is_expired": True, "identity": None}

    def is_gone(after: float, **changed: Any) -> bool:
        clock[0] += after
        return watch.is_gone({**seen, **changed})

    assert not is_gone(0)
    assert not is_gone(4)
    assert is_gone(1)
    assert not is_gone(1, expires_at=2), "it was renewed, and has run out again"
    assert not is_gone(60, expires_at=2), "the database was away, from its host perhaps, too"
    assert not is_gone(3, expires_at=2)
    assert is_gone(3, expires_at=2)
    assert not is_gone(1, expires_at=2, is_expired=False)


def test_a_host_of_an_earlier_version_is_seen(
    claim: Callable[..., ExecutorClaim], engine: sa.Engine
) -> None:
    lock = "SELECT pg_advisory_lock(hashtextextended(%s, 0))"
    with engine.connect() as older, engine.connect() as connection:
        older.detach()
        older.exec_driver_sql(lock, ("timestep host app local",))
        older.exec_driver_sql(lock, ("timestep host app local of version 1",))
        with pytest.raises(ConfigurationError, match="another host of 'app'"):
            claim([])
        assert executor_claim.is_live(connection, "app", "local", "1")
        assert not executor_claim.is_live(connection, "app", "local", "2")
