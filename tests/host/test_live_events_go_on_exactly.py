"""Live events of runs over HTTP, from hosts that are killed and started again meanwhile."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from tests.support.conditions import until
from tests.support.event_reader import Event, EventReader, type_of
from tests.support.host_process import Host, host, lines, own_host
from tests.support.problems import problem

__all__ = ["host", "own_host"]


@pytest.fixture
def other_host(own_host: Host) -> Iterator[Host]:
    """A host that executes nothing, on the same database; not started yet."""
    served = Host(own_host.folder, own_host.database, DBOS__VMID="other")
    served.log = own_host.folder / "other.log"
    yield served
    served.close()


def test_a_reader_goes_on_where_the_host_that_executes_was_killed(
    own_host: Host, other_host: Host, tmp_path: Path
) -> None:
    host = own_host.start()
    workflow_id = host.begin("work", folder=str(tmp_path), stream=True)
    path = f"/api/runs/{workflow_id}/events"
    first = EventReader(host.url + path)
    until(lambda: bool(lines(tmp_path, "held")))
    other_host.start()
    whole = EventReader(other_host.url + path)
    first.until("run.started", "tool_call_output_item")
    whole.until("run.started", "tool_call_output_item")
    host.signal(signal.SIGKILL)
    first.ended()
    host.ended()
    host.start()
    second = EventReader(host.url + path, first.last)
    until(lambda: len(lines(tmp_path, "held")) == 2)
    (tmp_path / "go").touch()
    uninterrupted = whole.ended()
    assert first.events + second.ended() == uninterrupted
    types = [type_of(one) for one in uninterrupted]
    assert types[0] == "run.started"
    assert types[-2:] == ["run.completed", "end"]
    assert "response.output_text.delta" in types
    assert types.count("message_output_item") == 1
    assert len({one.id for one in uninterrupted}) == len(uninterrupted)
    assert uninterrupted[-1].data == {"reason": "over", "status": "completed"}
    # Who was told the end is not told again; a browser does not come back then.
    assert EventReader(host.url + path, uninterrupted[-1].id).begun().status == 204
    again = EventReader(host.url + path, uninterrupted[-2].id).ended()
    assert again == uninterrupted[-1:]


def types(events: list[Event]) -> list[str]:
    return [type_of(one) for one in events]


def test_the_changes_of_all_runs_go_on_exactly(
    own_host: Host, other_host: Host, tmp_path: Path
) -> None:
    host = own_host.start()
    other_host.start()
    first = EventReader(f"{host.url}/api/events")
    whole = EventReader(f"{other_host.url}/api/events")
    # Both are told where they begin, before anything happens.
    until(lambda: first.last is not None and whole.last is not None)
    asking = host.begin("ask", target="moon")
    first.until("run.waiting")
    host.signal(signal.SIGKILL)
    first.ended()
    host.ended()
    host.start()
    host.post(f"/api/workflows/{asking}/resume", {"approve": "all"})
    host.output(asking)
    assert host.begin("greet", name="you", times=2)
    second = EventReader(f"{host.url}/api/events", first.last)
    until(lambda: types(whole.events).count("run.completed") == 3)
    until(lambda: types(second.events).count("run.completed") == 3)
    assert first.events + second.events == whole.events
    assert types(whole.events) == [
        "run.started",
        "question.asked",
        "run.waiting",
        "question.decided",
        "run.resumed",
        "run.completed",
        *["run.started", "run.completed"] * 2,
    ]
    waiting = whole.events[2].data["data"]
    assert (waiting["workflow_id"], waiting["agent_name"]) == (asking, "Asker")
    assert [one["arguments"] for one in waiting["questions"]] == [{"target": "moon"}]
    assert first.events[-1].id == first.last
    again = EventReader(f"{host.url}/api/events?after={whole.events[3].id}")
    until(lambda: len(again.events) == len(whole.events) - 4)
    assert again.events == whole.events[4:]
    for reader in (second, whole, again):
        reader.close()


def test_what_cannot_be_read_is_told(host: Host) -> None:
    workflow_id = host.begin("greet", name="you")
    host.output(workflow_id)
    run_id = host.run(workflow_id)["id"]
    for name in (workflow_id, run_id):
        path = f"/api/runs/{name}/events"
        events = EventReader(host.url + path).ended()
        assert types(events) == ["run.started", "message_output_item", "run.completed", "end"]
        assert EventReader(f"{host.url}{path}?after={events[0].id}").ended() == events[1:]
        # The header is of what the browser saw since.
        later = EventReader(f"{host.url}{path}?after={events[0].id}", events[1].id)
        assert later.ended() == events[2:]
        for given in ("then", "1", "1.2.3", "-1.0", "1.0.over", "9" * 19 + ".0", "٣.0"):
            assert "is not the cursor" in problem(host.get(path, after=given), 422)
        assert "does not have" in problem(host.get(path, after="999999999.0"), 422)
    assert "is not the cursor" in problem(host.get("/api/events", after="x"), 422)
    assert "does not have" in problem(host.get("/api/events", after="999999999.0"), 422)
    problem(host.get("/api/runs/nobody/events"), 404)
    problem(host.get("/api/runs/c0ffee00-0000-4000-8000-000000000000/events"), 404)
    bad = EventReader(f"{host.url}/api/events", "once").begun()
    assert (bad.status, bad.ended()) == (422, [])


def test_a_run_is_cancelled_and_deleted_while_it_is_read(host: Host, tmp_path: Path) -> None:
    workflow_id = host.begin("work", folder=str(tmp_path))
    reader = EventReader(f"{host.url}/api/runs/{workflow_id}/events")
    reader.until("tool_call_output_item")
    until(lambda: bool(lines(tmp_path, "held")))
    assert host.post(f"/api/workflows/{workflow_id}/cancel").status_code == 202
    events = reader.ended()
    assert types(events)[-2:] == ["run.cancelled", "end"]
    assert events[-2].data["data"]["cancel_reason"] == "cancelled"
    assert events[-1].data == {"reason": "over", "status": "cancelled"}

    asking = host.begin("ask", target="moon")
    run_id = host.run_when(asking, "interrupted")["id"]
    reader = EventReader(f"{host.url}/api/runs/{run_id}/events").until("run.waiting")
    until(lambda: host.is_parked(asking))
    with psycopg.connect(host.database) as connection:
        connection.execute("DELETE FROM runs WHERE id = %s", (run_id,))
    assert reader.ended()[-1].data == {"reason": "deleted", "status": None}
    problem(host.get(f"/api/runs/{run_id}/events"), 404)


def test_a_stop_ends_streams_at_once(own_host: Host) -> None:
    host = own_host.start()
    asking = host.begin("ask", target="x" * 200_000)
    host.run_when(asking, "interrupted")
    path = f"/api/runs/{asking}/events"
    reader = EventReader(host.url + path).until("run.waiting")
    # One that takes nothing, and is not waited for.
    address = urlsplit(host.url)
    with socket.create_connection((address.hostname, address.port or 0)) as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        idle.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert idle.recv(12) == b"HTTP/1.1 200"
        host.signal(signal.SIGTERM)
        events = reader.ended()
        assert host.ended() == 0
    assert types(events)[-2:] == ["run.waiting", "stopping"]
    assert events[-1].id == events[-2].id
    host.start()
    # It goes on after what it saw; the stop is not one of the events.
    second = EventReader(host.url + path, reader.last)
    host.post(f"/api/workflows/{asking}/resume", {"reject": "all"})
    assert types(second.ended())[:2] == ["question.decided", "run.resumed"]


def test_readers_have_a_limit_of_their_own(own_host: Host) -> None:
    own_host.environment |= {"TIMESTEP_READER_LIMIT": "3", "TIMESTEP_CONNECTION_LIMIT": "1"}
    host = own_host.start()
    readers = [EventReader(f"{host.url}/api/events").begun() for _ in range(3)]
    assert [one.status for one in readers] == [200] * 3
    busy = host.get("/api/events")
    assert "3 readers" in problem(busy, 503)
    assert busy.json()["type"] == "urn:timestep:busy"
    assert busy.headers["retry-after"]
    asking = host.begin("ask", target="moon")
    for reader in readers:
        reader.until("run.waiting")
    readers.pop().close()
    # Who is gone makes room.
    until(lambda: EventReader(f"{host.url}/api/runs/{asking}/events").begun().status == 200)
    for reader in readers:
        reader.close()


def test_streams_outlive_an_outage_of_the_database(own_host: Host, server: str) -> None:
    host = own_host.start()
    asking = host.begin("ask", target="moon")
    reader = EventReader(f"{host.url}/api/runs/{asking}/events").until("run.waiting")
    name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(host.database)["dbname"]))
    with psycopg.connect(server, autocommit=True) as connection:
        change = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
        connection.execute(change.format(name, sql.SQL("false")))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (name.as_string().strip('"'),),
        )
        until(lambda: "those who follow runs wait" in host.log.read_text())
        problem(host.get(f"/api/runs/{asking}/events"), 503)
        connection.execute(change.format(name, sql.SQL("true")))
    until(lambda: host.get("/readyz").status_code == 200)
    host.post(f"/api/workflows/{asking}/resume", {"approve": "all"})
    events = reader.ended()
    assert types(events)[-2:] == ["run.completed", "end"]
    assert len({one.id for one in events}) == len(events)
