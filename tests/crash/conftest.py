"""A database that has both schemas, to make a database for each life of the matrix of."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.crash.harness import database

_LAUNCH = """
import sys
from dbos import DBOS
DBOS(config={"name": "crash-matrix", "system_database_url": sys.argv[1],
             "application_version": "1", "log_level": "ERROR"})
DBOS.launch()
DBOS.destroy()
"""


@pytest.fixture(scope="package")
def crash_template(server: str, template: str) -> Iterator[str]:
    name = "crash_template"
    with database(server, name, template) as url:
        subprocess.run([sys.executable, "-c", _LAUNCH, url], check=True, timeout=60)
        yield name


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds a line to the summary of the test run."""
    return functools.partial(record_property, "summary")
