"""One PostgreSQL a session, one migrated template, and a fresh clone of it for each test."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import certifi
import psycopg
import pytest
import sqlalchemy as sa
from agents import set_tracing_disabled
from dbos import DBOS
from hypothesis import HealthCheck, settings
from psycopg import sql

from tests.support import forked_processes
from tests.support.dbos_app import SharedApplication, app, shared_application, threads_of_dbos
from timestep.database import engines, migrations, urls
from timestep.database.servers import embedded_postgres
from timestep.runtime import process_state

__all__ = ["app", "shared_application"]

_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
_numbers = itertools.count()
_directory = pytest.StashKey[Path]()

_PATIENCE = 60.0
"""Seconds in which what a test ended has to be gone: much more than it takes."""

_CERTIFICATES = "certificates.pem"
"""The file with one certificate. Each client of HTTP would read hundreds, and no test needs any."""

_LAST_LINE = "-----END CERTIFICATE-----\n"

_ROOM = 2 << 30
"""Bytes that there must be for the databases of all workers."""

_SERVER_SETTINGS = {
    # What a crash of the server would lose is the tests' own.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    # What a test cut off ends with it.
    "client_connection_check_interval": "100ms",
    # Databases live for a second.
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "256MB",
}


def pytest_configure(config: pytest.Config) -> None:
    """Make the directory of all workers; a worker is told of it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # What a shell begins in the background ignores it, and so would all that tests begin.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given = getattr(config, "workerinput", {}).get("timestep_directory")
    if given is None:
        given = tempfile.mkdtemp(prefix="timestep-tests-")
        # Run by root, PostgreSQL runs as another user, who has to get there.
        Path(given).chmod(0o755)
    config.stash[_directory] = Path(given)
    if not _WORKER:
        certificates = Path(certifi.where()).read_text()
        first = certificates[: certificates.index(_LAST_LINE)] + _LAST_LINE
        (Path(given) / _CERTIFICATES).write_text(first)
    # However slow the machine is, and however long it stops in the middle of an example.
    slow = [HealthCheck.too_slow]
    # The same examples in each run: whether a change may land is no matter of luck. Who looks for
    # more lets it be random here, or sets more examples.
    profile = settings(max_examples=50, deadline=None, suppress_health_check=slow, derandomize=True)
    settings.register_profile("timestep", profile)
    settings.load_profile("timestep")
    forked_processes.serve_in(Path(given), session=os.getppid() if _WORKER else os.getpid())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell a worker of the directory."""
    node.workerinput["timestep_directory"] = str(node.config.stash[_directory])  # type: ignore[attr-defined]  # of xdist


def pytest_collection_finish() -> None:
    """What is imported by now stays, and the garbage collector need not look through it."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what the workers shared."""
    if not _WORKER:
        directory = config.stash[_directory]
        forked_processes.close()
        shutil.rmtree(directory)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--renew-golden",
        action="store_true",
        help="write what the code makes into the files that tests compare it with",
    )


@pytest.fixture
def renew_golden(pytestconfig: pytest.Config) -> bool:
    """Whether a golden file is to be written anew, and not compared."""
    return bool(pytestconfig.getoption("--renew-golden"))


@pytest.fixture(autouse=True)
def nothing_outlives_its_test() -> Iterator[None]:
    """A thread that a test leaves behind is that test's failure, not another one's."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + _PATIENCE
    for thread in set(threading.enumerate()) - before - threads_of_dbos():
        thread.join(max(deadline - time.monotonic(), 0))
    before |= threads_of_dbos()
    left = [thread.name for thread in threading.enumerate() if thread not in before]
    assert left == [], "threads that the test left behind"


@pytest.fixture(autouse=True)
def own_process_state(nothing_outlives_its_test: None) -> Iterator[None]:
    """No connection, thread or list of one test reaches the next one."""
    with process_state.renewed():
        yield


@pytest.fixture(autouse=True)
def clean_environment(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No setting of the machine reaches a test.

    But for how steps are recorded: `TIMESTEP_ORDINARY_STEPS=true pytest` tests the other way.
    """
    set_tracing_disabled(True)
    monkeypatch.setenv("SSL_CERT_FILE", str(pytestconfig.stash[_directory] / _CERTIFICATES))
    for name in list(os.environ):
        if name.startswith(("TIMESTEP_", "OPENAI_")) and name != "TIMESTEP_ORDINARY_STEPS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("TIMESTEP_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def public_directory() -> Iterator[Path]:
    """A directory that every user may enter: run by root, PostgreSQL runs as another user."""
    path = Path(tempfile.mkdtemp(prefix="timestep-tests-", dir=_in_memory()))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def server(public_directory: Path) -> Iterator[str]:
    """The URL, as libpq spells it, of a superuser on the session's PostgreSQL."""
    home = public_directory / "server"
    url = _libpq(embedded_postgres.start(home).set(database="postgres"))
    for name, value in _SERVER_SETTINGS.items():
        change = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value)
        _administer(url, change)
    _administer(url, sql.SQL("SELECT pg_reload_conf()"))
    yield url
    embedded_postgres.stop(home)


def _in_memory() -> Path | None:
    """Where files need no disk, if there is room: a database has a thousand of them."""
    directory = Path("/dev/shm")
    has_room = directory.is_dir() and shutil.disk_usage(directory).free > _ROOM
    return directory if has_room and os.access(directory, os.W_OK) else None


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """The name of a database to clone, which has Timestep's schema and DBOS's."""
    name = "migrated"
    url = urls.parse_url(server).set(database=name)
    _administer(server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrations.apply(engines.engine_for(url))
    DBOS.migrate(_libpq(url))
    engines.dispose_all()
    return name


@pytest.fixture(scope="session")
def migrated_database_url(server: str, template: str) -> str:
    """The URL of the migrated database that tests share which run workflows in this process."""
    name = "shared"
    made, source = sql.Identifier(name), sql.Identifier(template)
    _administer(server, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(made, source))
    return _libpq(urls.parse_url(server).set(database=name))


@pytest.fixture
def database_url(request: pytest.FixtureRequest, server: str, template: str) -> Iterator[str]:
    """The URL of a migrated database that no other test uses meanwhile.

    A test that has the application shares its database with those before and after it, unless
    it is marked with `own_database`: it changes more than rows.
    """
    marked = request.node.get_closest_marker("own_database") is not None
    if "app" not in request.fixturenames or marked:
        yield from _made(server, template)
        return
    shared: SharedApplication = request.getfixturevalue("shared_application")
    yield shared.url
    process_state.close()
    shared.renew()
    left = _connected(server, "shared")
    assert left == [], "connections that the test left open, and what they did last"


@pytest.fixture
def empty_database_url(server: str) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    yield from _made(server, "template0")


@pytest.fixture
def engine(database_url: str) -> sa.Engine:
    """The engine of `database_url`."""
    return engines.engine_for(urls.parse_url(database_url))


def _made(server: str, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    made, source = sql.Identifier(name), sql.Identifier(template)
    # To copy files takes two checkpoints, which cost nothing where nothing is synced.
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    _administer(server, create.format(made, source))
    yield _libpq(urls.parse_url(server).set(database=name))
    process_state.close()
    left = _connected(server, name)
    force = " WITH (FORCE)" if left else ""
    _administer(server, sql.SQL("DROP DATABASE {}" + force).format(made))
    assert left == [], "connections that the test left open, and what they did last"


def _connected(server: str, name: str) -> list[str]:
    """What is still connected to a database: whoever closed its connection is given time."""
    query = (
        "SELECT application_name || ': ' || query FROM pg_stat_activity WHERE datname = %s "
        "AND application_name NOT LIKE 'dbos_transact%%' AND application_name <> 'tests'"
    )
    deadline = time.monotonic() + _PATIENCE
    with psycopg.connect(server, autocommit=True) as connection:
        while left := [line for (line,) in connection.execute(query, [name])]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)
    return left


def _administer(server: str, statement: sql.SQL | sql.Composed) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement)


def _libpq(url: sa.URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have to say that were run by other processes than this one."""
    for report in terminalreporter.getreports("passed"):
        for name, line in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(str(line))
