"""URLs, engines, and the driver's errors in our words."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from tests.support.conditions import until
from timestep.database import engines, error_translation, urls
from timestep.database.servers import embedded_postgres
from timestep.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseRightsError,
    DatabaseTooOldError,
    DatabaseUnreachableError,
    UnknownRunError,
)

SECRET = "hunter2"


def _parameters(text: str) -> dict[str, object]:
    url = urls.parse_url(text)
    assert url.drivername == "postgresql+psycopg"
    return dict(url.get_dialect()().create_connect_args(url)[1])


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_scheme_is_read(scheme: str) -> None:
    assert _parameters(f"{scheme}://ann:p%40ss@db.example:6432/app?sslmode=require") == {
        "user": "ann",
        "password": "p@ss",
        "host": "db.example",
        "port": 6432,
        "dbname": "app",
        "sslmode": "require",
    }


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://ann:@/app?host=/run/pg",
        "postgresql://ann:@%2Frun%2Fpg/app",
        "postgresql:///app?host=/run/pg&user=ann",
    ],
)
def test_sockets_are_read(text: str) -> None:
    parameters = _parameters(text)

    assert parameters["host"] == "/run/pg"
    assert parameters["dbname"] == "app"
    assert parameters["user"] == "ann"


def test_several_hosts_are_read() -> None:
    parameters = _parameters("postgres://ann:pw@one:1,two:2/app?target_session_attrs=any")

    assert (parameters["host"], parameters["port"]) == ("one,two", "1,2")
    assert (parameters["password"], parameters["dbname"]) == ("pw", "app")
    assert parameters["target_session_attrs"] == "any"


@pytest.mark.parametrize(
    "text",
    [
        f"mysql://u:{SECRET}@h/db",
        "sqlite:///x.db",
        "garbage",
        f"u:{SECRET}@h/db",
        f"postgresql://u:{SECRET}@h:port/db",
        f"postgresql://u:{SECRET}@one:x,two/db",
        f"postgresql://u:{SECRET}@h",
        f"postgresql://u:{SECRET}@{SECRET}@h/db",
        f"postgresql://u:{SECRET}@h/db?nonsense=1",
        f"postgresql://h:port/db?password={SECRET}",
        f"host=h password='{SECRET} x' dbname=db",
    ],
)
def test_a_url_that_cannot_be_used_is_shown_without_its_password(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        urls.parse_url(text)

    assert caught.value.message.startswith("TIMESTEP_DB_URL='")
    assert SECRET not in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "text", [f"postgresql://u:{SECRET}@h/db", f"postgresql://u@h/db?password={SECRET}"]
)
def test_a_url_is_shown_without_its_password(text: str) -> None:
    shown = urls.shown(urls.parse_url(text))

    assert shown.startswith("postgresql://u")
    assert "***" in shown
    assert SECRET not in shown


def test_the_configured_database_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", "postgres://u@h/db")

    assert engines.database_url() == urls.parse_url("postgresql://u@h/db")


def test_the_embedded_server_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(home: Path) -> sa.URL:
        return sa.URL.create("postgresql+psycopg", database="timestep", host=home.name)

    monkeypatch.setattr(embedded_postgres, "start", start)
    monkeypatch.setenv("TIMESTEP_HOME", "/some/where")

    assert engines.database_url() == start(Path("/some/where"))


def test_pglite_and_a_url_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_USE_PGLITE", "true")
    monkeypatch.setenv("TIMESTEP_DB_URL", "postgresql://u@h/db")

    with pytest.raises(ConfigurationError, match=r"TIMESTEP_DB_URL is set, too: unset one"):
        engines.database_url()


def test_dbos_is_in_the_same_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", "postgresql://u:secret@h/db")

    assert engines.system_database_url() == "postgresql+psycopg://u:secret@h/db"


def test_with_pglite_dbos_is_in_sqlite_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_USE_PGLITE", "true")
    monkeypatch.setenv("TIMESTEP_PGLITE_PATH", str(tmp_path / "data"))

    assert engines.system_database_url() == f"sqlite:///{tmp_path}/data.dbos.sqlite"


def test_one_engine_serves_a_url_from_every_thread() -> None:
    url = urls.parse_url("postgresql://u@h/db")

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: engines.engine_for(url), range(64)))

    assert len(found) == 1
    assert engines.engine_for(url.set(database="other")) not in found
    assert engines.engine_for(url.set(password=SECRET)) not in found


def test_a_connection_commits_by_itself_and_is_named(database_url: str) -> None:
    url = urls.parse_url(database_url)
    with engines.engine_for(url).connect() as connection:
        name = connection.exec_driver_sql("SHOW application_name").scalar_one()
        connection.exec_driver_sql("INSERT INTO sessions (session_key) VALUES ('kept')")

    with engines.engine_for(url).connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM sessions").scalar_one() == 1
    assert name == "timestep"


def test_what_the_url_says_goes_before_the_defaults(database_url: str) -> None:
    url = urls.parse_url(f"{database_url}&application_name=mine")

    with engines.engine_for(url).connect() as connection:
        assert connection.exec_driver_sql("SHOW application_name").scalar_one() == "mine"


def test_dispose_closes_connections(database_url: str, server: str) -> None:
    with engines.engine_for(urls.parse_url(database_url)).connect():
        pass

    with psycopg.connect(server, autocommit=True) as connection:
        query = "SELECT FROM pg_stat_activity WHERE application_name = 'timestep'"
        assert connection.execute(query).fetchone() is not None
        engines.dispose_all()
        until(lambda: connection.execute(query).fetchone() is None)


def test_the_servers_version_is_checked(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engines.engine_for(urls.parse_url(database_url))
    engines.check_server(engine)

    monkeypatch.setattr(engines, "OLDEST", 990000)
    with pytest.raises(DatabaseTooOldError, match=r"is PostgreSQL \d+\.\d+: .* needs 99 or newer"):
        engines.check_server(engine)


def test_no_server() -> None:
    url = urls.parse_url(f"postgresql://u:{SECRET}@127.0.0.1:1/db")

    with pytest.raises(DatabaseUnreachableError, match="Connection refused") as caught:
        engines.check_server(engines.engine_for(url))

    assert "127.0.0.1:1/db" in caught.value.message
    assert SECRET not in caught.value.message
    assert "\n" not in caught.value.message
    assert isinstance(caught.value.__cause__, sa.exc.DBAPIError)


def test_no_database(server: str) -> None:
    url = urls.parse_url(server).set(database="absent")

    with pytest.raises(DatabaseUnreachableError, match="'absent' does not exist: create it"):
        engines.check_server(engines.engine_for(url))


def test_no_such_user(server: str) -> None:
    url = urls.parse_url(server).set(username="nobody")

    with pytest.raises(DatabaseUnreachableError, match='role "nobody" does not exist: check'):
        engines.check_server(engines.engine_for(url))


def test_a_wrong_password() -> None:
    said = 'connection failed: FATAL:  password authentication failed for user "u"'

    with (
        pytest.raises(
            DatabaseUnreachableError, match=r'^password authentication failed for user "u"'
        ),
        error_translation.translated(),
    ):
        raise psycopg.OperationalError(said)


def test_a_lost_connection(database_url: str, server: str) -> None:
    url = urls.parse_url(database_url)
    with engines.engine_for(url).connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with psycopg.connect(server) as other:
            other.execute("SELECT pg_terminate_backend(%s, 20000)", [pid])

        with (
            pytest.raises(DatabaseUnreachableError, match="terminating"),
            error_translation.translated(url),
        ):
            connection.exec_driver_sql("SELECT 1")


@pytest.fixture
def stranger(server: str) -> Iterator[str]:
    """A user without any right."""
    name = sql.Identifier("stranger")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        yield "stranger"
        connection.execute(sql.SQL("DROP ROLE {}").format(name))


def test_a_missing_right_names_the_object(stranger: str, database_url: str) -> None:
    url = urls.parse_url(database_url).set(username=stranger)

    with (
        pytest.raises(DatabaseRightsError, match=r"denied for table runs: .* user 'stranger'"),
        error_translation.translated(url),
        engines.engine_for(url).connect() as connection,
    ):
        connection.exec_driver_sql("SELECT FROM runs")


def test_a_missing_table_names_the_command(empty_database_url: str) -> None:
    url = urls.parse_url(empty_database_url)

    with (
        pytest.raises(DatabaseError, match='"runs" does not exist: run `timestep migrate`'),
        error_translation.translated(url),
        engines.engine_for(url).connect() as connection,
    ):
        connection.exec_driver_sql("SELECT FROM runs")


def test_any_other_error_is_the_servers_message(database_url: str) -> None:
    with (
        pytest.raises(DatabaseError, match=r"division by zero$") as caught,
        error_translation.translated(),
        psycopg.connect(database_url) as connection,
    ):
        connection.execute("SELECT 1 / 0")

    assert type(caught.value) is DatabaseError
    assert isinstance(caught.value.__cause__, psycopg.Error)


def test_our_own_errors_pass() -> None:
    error = UnknownRunError("no run 'x'")

    with pytest.raises(UnknownRunError) as caught, error_translation.translated():
        raise error

    assert caught.value is error
