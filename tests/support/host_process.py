"""A host in a process of its own, and the entrypoints that it serves in these tests."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from tests.crash.harness import database
from tests.support import forked_processes
from tests.support.conditions import until
from tests.support.forked_processes import Forked

ROOT = Path(__file__).parents[2]

JOBS = '''\
"""Entrypoints of the tests."""

import asyncio
import os
from pathlib import Path

from agents import Agent, Runner, function_tool
from dbos import DBOS
from pydantic import BaseModel

import timestep
from timestep import offline


@function_tool
def note(folder: str) -> str:
    """Append a line, so that every call shows."""
    with Path(folder, "notes").open("a") as file:
        file.write("noted\\n")
    return "noted"


@function_tool
async def hold(folder: str) -> str:
    """Return once the test lets it."""
    with Path(folder, "held").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    while not Path(folder, "go").exists():
        await asyncio.sleep(0.01)
    return "released"


@timestep.tool_options(describe="Launch {target}")
@function_tool(needs_approval=True)
def launch(target: str) -> str:
    """Ask first."""
    return f"launched {target}"


class Order(BaseModel):
    item: str
    count: int = 1


greeter = Agent("Greeter", model=offline.OfflineModel(lambda seen: f"hello {seen.text}"))
worker = Agent(
    "Worker",
    tools=[note, hold],
    model=offline.OfflineModel(
        lambda seen: [offline.call("note", folder=seen.text)],
        lambda seen: [offline.call("hold", folder=seen.text)],
        lambda seen: "all done",
    ),
)
asker = Agent(
    "Asker",
    tools=[launch],
    model=offline.OfflineModel(
        lambda seen: [offline.call("launch", target=seen.text)],
        lambda seen: seen.output("launch"),
    ),
)


@DBOS.workflow()
async def greet(name: str, times: int = 1) -> str:
    """Greet somebody.

    This is not part of the description.
    """
    result = None
    for _ in range(times):
        result = await Runner.run(greeter, name)
    return str(result.final_output) if result else "nobody"


@DBOS.workflow()
async def work(folder: str, stream: bool = False) -> str:
    """Note, hold, answer."""
    result = await timestep.run_agent(worker, folder, stream=stream)
    return str(result.final_output)


@DBOS.workflow()
async def ask(target: str) -> str:
    """Launch, once somebody approves."""
    result = await timestep.run_agent(asker, target)
    return str(result.final_output)


@DBOS.workflow()
async def fail(reason: str) -> str:
    """Fail before any run."""
    raise ValueError(reason)


@DBOS.workflow()
def plain(order: Order) -> str:
    """No agent, not async, and a model as input."""
    return f"{order.count} {order.item}"
'''


class Host:
    """`timestep serve` in a folder with the test's entrypoints."""

    def __init__(self, folder: Path, url: str, **environment: str) -> None:
        self.folder = folder
        self.database = url
        self.environment = {
            **{name: value for name, value in os.environ.items() if not _is_setting(name)},
            "PYTHONPATH": str(ROOT),
            "TIMESTEP_DB_URL": url,
            "TIMESTEP_PORT": "0",
            **environment,
        }
        self.process: Forked | subprocess.Popen[bytes] | None = None
        self.log = folder / "serve.log"
        self.url = ""
        # Each request over a connection of its own, as anybody's.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(verify=False, timeout=60, limits=limits)

    def start(self, *, is_forked: bool = True) -> Host:
        """Start it, and wait until it listens."""
        command, folder, settings = ("-m", "timestep", "serve"), self.folder, self.environment
        process: Forked | subprocess.Popen[bytes]
        with self.log.open("w") as log:
            if is_forked:
                process = Forked(*command, cwd=folder, env=settings, stdout=log, stderr=log)
            else:
                process = subprocess.Popen(
                    [sys.executable, *command], cwd=folder, env=settings, stdout=log, stderr=log
                )
        self.process = process

        until(self.listens, seconds=60)
        return self

    def listens(self) -> bool:
        """Whether it says where, which is its `url` then."""
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        # The last of them, where the host began anew.
        found = re.findall(r"listens on (http://\S+)", self.log.read_text())
        self.url = found[-1] if found else ""
        return bool(found)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self) -> int:
        """Its exit status, once it has one."""
        assert self.process is not None
        return self.process.wait(60)

    def command(self, *arguments: str) -> str:
        """What a command of Timestep's says in its folder, on one line."""
        done = forked_processes.run(
            "-m", "timestep", *arguments, cwd=self.folder, env=self.environment
        )
        return " ".join((done.stdout + done.stderr).split())

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self._client.get(self.url + path, params=query)

    def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self._client.post(self.url + path, json=body or {}, headers=headers)

    def begin(self, name: str, /, **given: Any) -> str:
        """Start an entrypoint: the id of its workflow."""
        answer = self.post(f"/api/workflows/{name}/runs", {"input": given})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["workflow_id"])

    def run(self, name: str) -> dict[str, Any]:
        answer = self.get(f"/api/runs/{name}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def run_when(self, name: str, status: str) -> dict[str, Any]:
        """A run, or a workflow's newest, once it has a status."""
        until(lambda: self.run(name)["status"] == status)
        return self.run(name)

    def is_parked(self, workflow_id: str) -> bool:
        """Whether a workflow waits for a person outside the host."""
        return bool(self.run(workflow_id)["workflow"]["status"] == "DELAYED")

    def output(self, workflow_id: str) -> Any:
        """What a workflow returned, once it has."""
        until(lambda: bool(self.run(workflow_id)["workflow"]["status"] == "SUCCESS"))
        return self.run(workflow_id)["workflow"]["output"]

    def rows(self, query: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.database, row_factory=dict_row) as connection:
            return connection.execute(query.encode()).fetchall()


def _is_setting(name: str) -> bool:
    return name.startswith(("TIMESTEP_", "OPENAI_", "DBOS_"))


def project(folder: Path) -> Path:
    """A folder with a package of entrypoints."""
    package = folder / "workflows"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "jobs.py").write_text(JOBS)
    return folder


def lines(folder: Path, name: str) -> list[str]:
    """The lines that a tool appended to a file."""
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def host(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One host for all the tests of a module."""
    folder = project(tmp_path_factory.mktemp("project"))
    with database(
        server, f"host_{folder.parent.name}_{folder.name}".replace("-", "_"), template
    ) as url:
        served = Host(folder, url)
        try:
            yield served.start()
        finally:
            served.close()


@pytest.fixture
def own_host(database_url: str, tmp_path: Path) -> Iterator[Host]:
    """A host of the test's own, not started yet."""
    served = Host(project(tmp_path / "project"), database_url)
    yield served
    served.close()
