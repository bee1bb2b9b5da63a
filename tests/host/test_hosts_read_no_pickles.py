"""What is recorded as a pickle runs nothing: not where it is read, and not where it is executed."""

from __future__ import annotations

import base64
import functools
import os
import pickle
import re
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from dbos import DBOS, DBOSClient, EnqueueOptions, Serializer
from dbos._serialization import DBOSDefaultSerializer

from tests.support import forked_processes
from tests.support.conditions import until
from tests.support.dbos_app import launch
from tests.support.host_process import Host, lines, own_host
from timestep import JSONSerializer
from timestep.cli import main
from timestep.dbos_internals import pickles
from timestep.errors import PickledRecordError
from timestep.serialization.workflow_documents import NOT_SHOWN

__all__ = ["own_host"]


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def pickled(value: object) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


def record_as_before(connection: psycopg.Connection[Any], workflow_id: str, **given: Any) -> None:
    """Rewrite a workflow as an earlier version recorded it."""
    connection.execute(
        "UPDATE dbos.workflow_status SET serialization = 'py_pickle' WHERE workflow_uuid = %s",
        (workflow_id,),
    )
    connection.execute(
        "UPDATE dbos.workflow_input SET inputs = %s WHERE workflow_uuid = %s",
        (pickled({"args": (), "kwargs": given}), workflow_id),
    )
    steps = connection.execute(
        "SELECT function_id, (output::jsonb)->'value' FROM dbos.operation_outputs "
        "WHERE workflow_uuid = %s AND serialization = 'timestep_json'",
        (workflow_id,),
    ).fetchall()
    assert steps
    for number, reference in steps:
        connection.execute(
            "UPDATE dbos.operation_outputs SET output = %s, serialization = 'py_pickle' "
            "WHERE workflow_uuid = %s AND function_id = %s",
            (pickled(reference), workflow_id, number),
        )


def insert(
    connection: psycopg.Connection[Any],
    workflow_id: str,
    status: str,
    version: str,
    *,
    arguments: str,
    serialization: str | None,
    output: str | None = None,
) -> None:
    connection.execute(
        """INSERT INTO dbos.workflow_status (workflow_uuid, status, name, inputs, output,
            serialization, application_version, executor_id, queue_name, priority, created_at,
            updated_at, recovery_attempts)
        VALUES (%s, %s, 'plain', %s, %s, %s, %s, 'local', 'timestep', 0, 1, 1, 0)""",
        (workflow_id, status, arguments, output, serialization, version),
    )


def says(*arguments: str, status: int = 0) -> str:
    """What a command says, in a process without DBOS; on one line."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


HELD = """SELECT to_jsonb(w) AS row FROM dbos.workflow_status w
    WHERE status IN ('ENQUEUED', 'PENDING') ORDER BY workflow_uuid"""


def test_pickles_run_nothing_and_wait_for_a_host_that_may_read_them(
    own_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_host.folder)
    monkeypatch.setenv("TIMESTEP_DB_URL", own_host.database)
    own_host.start()
    old = own_host.begin("work", folder=str(tmp_path))
    until(lambda: len(lines(tmp_path, "held")) == 1)
    own_host.signal(signal.SIGKILL)
    own_host.ended()
    hit = tmp_path / "hit"
    bomb, plain = pickled(Bomb(hit)), '{"positionalArgs":[],"namedArgs":{"order":{"item":"tea"}}}'
    with psycopg.connect(own_host.database) as connection:
        record_as_before(connection, old, folder=str(tmp_path))
        version = str(
            own_host.rows("SELECT application_version AS v FROM dbos.workflow_status")[0]["v"]
        )
        for name, status in (("queued", "ENQUEUED"), ("begun", "PENDING"), ("ended", "SUCCESS")):
            insert(
                connection, name, status, version,
                arguments=bomb, output=bomb, serialization="py_pickle",
            )  # fmt: skip
        insert(connection, "unnamed", "PENDING", version, arguments=bomb, serialization=None)
        # As DBOS's schedules enqueue: it is ours, without saying so.
        insert(
            connection, "scheduled", "ENQUEUED", version, serialization=None,
            arguments='{"value":{"args":{"$type":"builtins:tuple","value":["tea"]},"kwargs":{}}}',
        )  # fmt: skip
        for name in ("step", "message"):
            insert(
                connection, name, "ENQUEUED", version,
                arguments=plain, serialization="portable_json",
            )  # fmt: skip
        connection.execute(
            "INSERT INTO dbos.operation_outputs (workflow_uuid, function_id, function_name, output,"
            " serialization, retention_timestamp) VALUES ('step', 1, 's', %s, 'py_pickle', 1)",
            (bomb,),
        )
        connection.execute(
            "INSERT INTO dbos.notifications (destination_uuid, message, serialization) "
            "VALUES ('message', %s, 'py_pickle')",
            (bomb,),
        )
        # Nobody could go on with it elsewhere, as is told of what others left.
        connection.execute(
            "UPDATE dbos.workflow_status SET executor_id = 'gone' WHERE workflow_uuid = 'unnamed'"
        )
    held = [row for row in own_host.rows(HELD) if row["row"]["workflow_uuid"] != "scheduled"]
    assert len(held) == 6

    own_host.start()
    said = own_host.log.read_text()
    assert "left alone   6 workflows recorded as pickles" in said
    assert "pickles      read" not in said
    assert "recovering" not in said
    assert "no host" not in said
    for name in ("queued", "begun", "ended"):
        run = own_host.run(name)
        assert run["input"] == NOT_SHOWN
        assert run["final_output"] == run["workflow"]["output"] == NOT_SHOWN
    assert NOT_SHOWN in says("show", "ended")
    examined = forked_processes.run(
        "-m", "timestep", "doctor", cwd=own_host.folder, env=own_host.environment
    )
    assert "4 of the 8 newest workflows are recorded as pickles" in " ".join(
        examined.stdout.split()
    )
    for path, body in (
        (f"/api/runs/{old}/fork", {"turn": 1}),
        (f"/api/workflows/{old}/resume", {"approve": "all"}),
    ):
        refused = own_host.post(path, body)
        assert refused.status_code == 409
        detail = refused.json()["detail"]
        assert f"the workflow '{old}' is recorded as a pickle" in detail
    # The host's executor is the one that began it, and is there.
    left = (
        "left alone: recorded as a pickle, which runs code when it is read: where nobody else can "
        "write into the database, serve with TIMESTEP_READ_PICKLES=true until it is done, or end "
        f"it with `timestep cancel {old}`"
    )
    assert left in says("show", old)
    assert left in says("runs")
    assert "running (left alone)" in says("runs")
    assert "left alone: recorded as a pickle" in says("show", "queued")
    assert "left alone" not in says("show", "ended")
    assert own_host.run(old)["executor"]["is_live"] is False
    assert [own_host.run(name)["is_left_alone"] for name in (old, "ended")] == [True, False]
    listed = {one["workflow_id"]: one for one in own_host.get("/api/runs").json()["items"]}[old]
    assert listed["is_left_alone"]
    for command in (
        ("resume", old, "--from-checkpoint"),
        ("resume", old, "--approve", "all"),
        ("fork", old, "--turn", "1"),
    ):
        assert says(*command, status=1) == f"Error: {detail}"
    assert "has ended (SUCCESS)" in says("resume", "ended", "--from-checkpoint", status=1)
    with psycopg.connect(own_host.database) as connection:
        connection.execute(
            "INSERT INTO interruptions (id, run_id, type, reason, tool_name, arguments, call_id) "
            "SELECT gen_random_uuid(), id, 'tool_approval', 'needs_approval', 'launch', '{}', 'c' "
            "FROM runs"
        )
    asked = says("approvals")
    assert re.search(r"launch\(\{\}\) #[0-9a-f]{16} \(left alone\)", asked)
    assert left in asked
    assert "timestep resume" not in asked
    set_status = (
        "UPDATE dbos.workflow_status SET status = '{}' WHERE workflow_uuid = '{}' RETURNING 1"
    )
    own_host.rows(set_status.format("SUCCESS", old))
    over = says("resume", old, "--approve", "all", status=1)
    assert "has completed and waits for nothing" in over
    assert "PICKLES" not in over
    own_host.rows(set_status.format("PENDING", old))
    own_host.rows("DELETE FROM interruptions RETURNING 1")
    refused_message = says("resume", "message", "--approve", "all", status=1)
    assert "'message' is recorded as a pickle" in refused_message
    # What the live host does counts, and not what a command is set to.
    with monkeypatch.context() as reading:
        reading.setenv("TIMESTEP_READ_PICKLES", "true")
        assert left in says("show", old)
        assert says("resume", old, "--approve", "all", status=1) == f"Error: {detail}"
    # Nothing is told of them where they may be executed.
    with psycopg.connect(own_host.database, application_name="dbos_transact"):
        assert "left alone" not in says("show", old) + says("runs")
    again = own_host.post(
        "/api/workflows/plain/runs", {"input": {"order": {"item": "tea"}}, "workflow_id": "queued"}
    )
    assert again.status_code == 409
    assert "recorded as a pickle" in again.json()["detail"]
    # Both queues have been looked into once these have ended.
    later = own_host.post(
        "/api/workflows/greet/runs", {"input": {"name": "Ada"}, "queue": "timestep"}
    )
    assert own_host.output(later.json()["workflow_id"]) == "[offline model] hello Ada"
    until(lambda: own_host.run("scheduled")["workflow"]["status"] in ("SUCCESS", "ERROR"))
    assert own_host.run("scheduled")["error"]["type"] == "AttributeError"  # It takes an order.
    own_host.signal(signal.SIGTERM)
    assert own_host.ended() == 0
    assert own_host.rows(HELD) == held
    assert not hit.exists()

    with psycopg.connect(own_host.database) as connection:
        connection.execute("DELETE FROM dbos.workflow_status WHERE name = 'plain'")
    own_host.environment["TIMESTEP_READ_PICKLES"] = "true"
    own_host.start()
    said = own_host.log.read_text()
    assert "recovering   1 workflow" in said
    assert "pickles      read, by TIMESTEP_READ_PICKLES=true: who can write into the" in said
    assert "left alone" not in says("show", old) + says("runs")
    assert "PICKLES" not in says("resume", old, "--approve", "all", status=1)
    (tmp_path / "go").touch()
    until(lambda: own_host.run(old)["workflow"]["status"] == "SUCCESS")
    assert own_host.run(old)["final_output"] == "[offline model] all done"
    assert lines(tmp_path, "notes") == ["noted"]
    assert says("fork", old, "--turn", "1", status=1) == f"Error: {detail}"
    assert own_host.rows(HELD) == []
    own_host.close()

    # DBOS's one thread for all schedules would end at a context that it cannot read.
    with psycopg.connect(own_host.database) as connection:
        connection.execute(
            "INSERT INTO dbos.workflow_schedules (schedule_id, schedule_name, workflow_name,"
            " schedule, context) VALUES ('s', 'nightly', 'plain', '* * * * *', %s)",
            (bomb,),
        )
    del own_host.environment["TIMESTEP_READ_PICKLES"]
    failed = forked_processes.run(
        "-m", "timestep", "serve", cwd=own_host.folder, env=own_host.environment
    )
    assert (failed.returncode, len(failed.stderr.splitlines())) == (1, 1)
    assert "the contexts of the schedules 'nightly' are recorded as pickles" in failed.stderr
    assert not hit.exists()


@DBOS.workflow()
async def told(word: str) -> str:
    return word


QUEUES: dict[str, dict[str, Any]] = {
    "usual": {},
    "one at a time": {"global_concurrency": 1},
    "one of each part": {"partition_concurrency": 1},
    "two of each part": {"partition_concurrency": 2},
}


def enqueue(url: str, serializer: Serializer, word: str) -> list[str]:
    """The ids of a workflow in each queue."""
    client = DBOSClient(
        system_database_url=url, serializer=serializer, application_name="timestep-tests"
    )
    ids = []
    for name, options in QUEUES.items():
        given: EnqueueOptions = {"workflow_name": told.__qualname__, "queue_name": name}
        given["workflow_id"] = f"{word} {name}"
        if any(option.startswith("partition") for option in options):
            given["queue_partition_key"] = "a"
        handle: Any = client.enqueue(given, word)
        ids.append(handle.get_workflow_id())
    client.destroy()
    return ids


@pytest.mark.parametrize("system", ["postgresql", "sqlite"])
def test_no_queue_gives_out_what_is_pickled(system: str, database_url: str, tmp_path: Path) -> None:
    """DBOS has statements of its own for each kind of queue, and of database."""
    url = database_url if system == "postgresql" else f"sqlite:///{tmp_path}/dbos.sqlite"
    DBOS.migrate(url)
    held = enqueue(url, DBOSDefaultSerializer, "pickled")
    later = enqueue(url, JSONSerializer(), "json")

    def are_done(ids: list[str]) -> bool:
        found = DBOS.list_workflows(workflow_ids=ids, load_input=False)
        return {(one.status, one.output) for one in found} == {("SUCCESS", ids[0].split()[0])}

    pickles.refuse_pickles()
    for ids in (later, held):
        launch(url, serializer=JSONSerializer())
        for name, options in QUEUES.items():
            DBOS.register_queue(name, polling_interval_sec=0.01, **options)
        until(functools.partial(are_done, ids))
        waiting = DBOS.list_workflows(workflow_ids=held, load_input=False)
        if ids is later:
            assert {(one.status, one.dequeued_at) for one in waiting} == {("ENQUEUED", None)}
            with pytest.raises(PickledRecordError):
                DBOSDefaultSerializer.serialize(1)
        DBOS.destroy()
        pickles.allow()
    assert "deserialize" not in vars(DBOSDefaultSerializer)
