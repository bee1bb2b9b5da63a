"""One PostgreSQL a session, one migrated template, and a fresh clone of it for each test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from timestep.database import engines, migrations, urls
from timestep.database.servers import embedded_postgres

_numbers = itertools.count()


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
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting of the machine reaches a test, and no engine of a test the next one.

    But for how steps are recorded: `TIMESTEP_ORDINARY_STEPS=true pytest` tests the other way.
    """
    for name in list(os.environ):
        if name.startswith(("TIMESTEP_", "OPENAI_")) and name != "TIMESTEP_ORDINARY_STEPS":
            monkeypatch.delenv(name)
    monkeypatch.setenv("TIMESTEP_HOME", str(tmp_path / "home"))
    yield
    engines.dispose_all()


@pytest.fixture(scope="session")
def public_directory() -> Iterator[Path]:
    """A directory that every user may enter: run by root, PostgreSQL runs as another user."""
    path = Path(tempfile.mkdtemp(prefix="timestep-tests-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def server(public_directory: Path) -> Iterator[str]:
    """The URL, as libpq spells it, of a superuser on the session's PostgreSQL."""
    home = public_directory / "server"
    yield _libpq(embedded_postgres.start(home).set(database="postgres"))
    embedded_postgres.stop(home)


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """The name of a migrated database, to clone."""
    name = "migrated"
    _administer(server, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrations.apply(engines.engine_for(urls.parse_url(server).set(database=name)))
    engines.dispose_all()
    return name


@pytest.fixture
def database_url(server: str, template: str) -> Iterator[str]:
    """The URL of a migrated database of this test's own."""
    yield from _made(server, template)


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
    _administer(server, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(made, source))
    yield _libpq(urls.parse_url(server).set(database=name))
    engines.dispose_all()
    _administer(server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(made))


def _administer(server: str, statement: sql.Composed) -> None:
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
