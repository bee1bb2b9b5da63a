"""The claim of a host to its executor id: what cuts it off, and who has it meanwhile."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import psycopg
import pytest
from dbos import DBOSClient

import timestep
from tests.support.conditions import until
from tests.support.host_process import Host, lines, own_host
from timestep.database import urls
from timestep.errors import ConfigurationError, TakeoverError
from timestep.journal.executor_claim import ExecutorClaim, Timing
from timestep.operations.resume import resume_workflow

__all__ = ["own_host"]


def cut(url: str) -> None:
    """Cut every connection to a database, as a restart of the server does."""
    change(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def change(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


EXECUTED = "SELECT tool_name FROM tool_calls WHERE status = 'executed'"
WORKFLOWS = "SELECT name, status FROM dbos.workflow_status ORDER BY name"
SEEN = "SELECT seen_at FROM timestep.hosts"


def test_a_cut_changes_nothing_and_another_host_ends_what_this_one_does(
    own_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_host.start()
    workflow_id = own_host.begin("work", folder=str(tmp_path))
    until(lambda: len(lines(tmp_path, "held")) == 1)
    (claimed,) = own_host.rows("SELECT * FROM timestep.hosts")

    cut(own_host.database)
    url, impatient = urls.parse_url(own_host.database), Timing(patience=0)
    with pytest.raises(ConfigurationError, match=f"'local' .process {claimed['process_id']} on"):
        ExecutorClaim(url, "timestep", "local", print, print, impatient)
    monkeypatch.setenv("TIMESTEP_DB_URL", own_host.database)
    with pytest.raises(TakeoverError, match="is being executed by a live host"):
        asyncio.run(resume_workflow(workflow_id, from_checkpoint=True))
    until(lambda: own_host.rows(SEEN)[0]["seen_at"] > claimed["seen_at"])
    (renewed,) = own_host.rows("SELECT * FROM timestep.hosts")
    assert renewed["claim"] == claimed["claim"]
    assert len(lines(tmp_path, "held")) == 1

    change(
        own_host.database,
        "UPDATE timestep.hosts SET claim = gen_random_uuid(), identity = NULL, "
        "expires_at = now() + interval '1 hour'",
    )
    until(lambda: own_host.get("/readyz").status_code == 503)
    reason = "another host has become the executor 'local' of 'timestep'"
    assert reason in own_host.get("/readyz").json()["detail"]
    assert own_host.get("/healthz").status_code == 200
    refused = own_host.post("/api/workflows/greet/runs", {"input": {"name": "Ada"}})
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:timestep:executor-lost")
    assert own_host.log.read_text().count(reason) == 1
    client = DBOSClient(system_database_url=own_host.database, serializer=timestep.JSONSerializer())
    client.enqueue({"workflow_name": "greet", "queue_name": "timestep"}, name="Eve")
    client.destroy()
    (tmp_path / "go").touch()
    waiting = [{"name": "greet", "status": "ENQUEUED"}, {"name": "work", "status": "PENDING"}]
    assert own_host.rows(WORKFLOWS) == waiting
    assert [row["tool_name"] for row in own_host.rows(EXECUTED)] == ["note"]

    change(own_host.database, "DELETE FROM timestep.hosts")
    until(lambda: own_host.log.read_text().count("listens on") == 2)
    assert own_host.listens()
    assert own_host.output(workflow_id) == "[offline model] all done"
    until(lambda: {row["status"] for row in own_host.rows(WORKFLOWS)} == {"SUCCESS"})
    assert own_host.get("/readyz").status_code == 200
    assert lines(tmp_path, "notes") == ["noted"]
    # That call was under way, and its outcome was no longer this execution's to record.
    assert len(lines(tmp_path, "held")) == 2
    own_host.signal(signal.SIGTERM)
    assert own_host.ended() == 0
    assert own_host.rows("SELECT * FROM timestep.hosts") == []
    assert "Traceback" not in own_host.log.read_text()
