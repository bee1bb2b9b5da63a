"""Launches DBOS for the tests, on a PostgreSQL of their own and with the offline model."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from agents import set_tracing_disabled
from dbos import DBOS

import timestep
from timestep.database import system_database_url

# Before workflows are imported: tests ask no provider, and write into no database of others.
for name in ("OPENAI_API_KEY", "TIMESTEP_DB_URL"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    os.environ["TIMESTEP_HOME"] = str(tmp_path_factory.mktemp("home"))
    subprocess.run([sys.executable, "-m", "timestep", "migrate"], check=True)
    set_tracing_disabled(True)
    timestep.install()
    DBOS(
        config={
            "name": "tests",
            "system_database_url": system_database_url(),
            "serializer": timestep.JSONSerializer(),
        }
    )
    DBOS.launch()
    yield
    DBOS.destroy()
    subprocess.run([sys.executable, "-m", "timestep", "stop"], check=True)
