"""An application that never calls `install()`, killed and restarted.

Its DBOS recovers workflows of Timestep's before a durable run has registered their names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dbos import DBOSClient
from dbos._utils import INTERNAL_QUEUE_NAME

from tests.support.conditions import until
from tests.support.forked_processes import Forked

APPLICATION = '''
"""Runs an agent with a tool whose calls are workflows, and holds where the test says."""

import asyncio
import sys
import time
from pathlib import Path

import timestep
from agents import Agent, function_tool, set_tracing_disabled
from dbos import DBOS, SetWorkflowID
from timestep import offline

folder, url, is_installed = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "install"


async def reached(name: str) -> None:
    while not (folder / name).exists():
        await asyncio.sleep(0.01)


def say(line: str) -> None:
    with (folder / "said").open("a") as file:
        file.write(f"{line}\\n")


@timestep.tool_options(as_workflow=True)
@function_tool
async def hold() -> str:
    say("held")
    await reached("go")
    return "released"


agent = Agent(
    "Holder",
    tools=[hold],
    model=offline.OfflineModel(
        lambda seen: [offline.call("hold")], lambda seen: seen.output("hold")
    ),
)


@DBOS.workflow()
async def work() -> str:
    say("begun")
    await reached("run")
    return str((await timestep.run_agent(agent, "go")).final_output)


set_tracing_disabled(True)
if is_installed:
    timestep.install()
DBOS(
    config={
        "name": "late",
        "system_database_url": url,
        "application_version": "1",
        "log_level": "CRITICAL",
    }
)
DBOS.launch()
if DBOS.get_workflow_status("w") is None:
    with SetWorkflowID("w"):
        DBOS.start_workflow(work)
while True:
    time.sleep(3600)
'''


class Application:
    """An application in a process of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.process: Forked | None = None

    def start(self, how: str = "late") -> None:
        self.process = Forked(
            *("-c", APPLICATION, str(self.folder), self.url, how),
            env={**os.environ, "TIMESTEP_DB_URL": self.url},
        )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def let(self, name: str) -> None:
        (self.folder / name).touch()

    @property
    def said(self) -> list[str]:
        path = self.folder / "said"
        return path.read_text().splitlines() if path.exists() else []

    def workflows(self, name: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.url, row_factory=psycopg.rows.dict_row) as connection:
            return connection.execute(
                "SELECT workflow_uuid, status, output, recovery_attempts, owner_xid "
                "FROM dbos.workflow_status WHERE name = %s",
                (name,),
            ).fetchall()

    def is_claimed(self, name: str, attempts: int) -> Callable[[], bool]:
        """Whether DBOS has taken the one workflow of a name up so many times."""

        def condition() -> bool:
            found = self.workflows(name)
            return [(row["status"], row["recovery_attempts"]) for row in found] == [
                ("PENDING", attempts)
            ]

        return condition

    def has_ended(self, name: str) -> Callable[[], bool]:
        return lambda: [row["status"] for row in self.workflows(name)] == ["SUCCESS"]


@pytest.fixture
def application(database_url: str, tmp_path: Path) -> Iterator[Application]:
    started = Application(tmp_path, database_url)
    yield started
    started.kill()


@pytest.mark.parametrize("how", ["late", "install"])
def test_a_call_that_is_recovered_before_its_name_is_known_is_made(
    application: Application, how: str
) -> None:
    application.start()
    application.let("run")
    until(lambda: application.said == ["begun", "held"])
    application.kill()
    (application.folder / "run").unlink()
    (before,) = application.workflows("timestep.tool_call")

    application.start(how)
    until(lambda: application.said == ["begun", "held", "begun"])
    # DBOS has taken the call's workflow up: in vain, where it does not know the name.
    until(application.is_claimed("timestep.tool_call", before["recovery_attempts"] + 1))
    application.let("run")
    until(lambda: application.said == ["begun", "held", "begun", "held"])
    application.let("go")
    until(application.has_ended("work"))

    assert application.said == ["begun", "held", "begun", "held"], "a call was made twice"
    (call,) = application.workflows("timestep.tool_call")
    assert call["workflow_uuid"] == before["workflow_uuid"]
    assert call["status"] == "SUCCESS"
    # Late, the first time was in vain; but for a name that came between DBOS's claim of the
    # workflow and its look for the function, which takes long where the machine is busy.
    attempts = (1, 2) if how == "late" else (1,)
    assert call["recovery_attempts"] - before["recovery_attempts"] in attempts


def test_a_message_that_was_taken_up_before_its_name_was_known_is_sent(
    application: Application,
) -> None:
    application.start()
    until(lambda: application.said == ["begun"])
    client = DBOSClient(system_database_url=application.url, application_name="late")
    try:
        client.enqueue(
            {
                "workflow_name": "timestep.escalate",
                "queue_name": INTERNAL_QUEUE_NAME,
                "workflow_id": "message",
                "app_version": "1",
            },
            "w",
            "00000000-0000-0000-0000-000000000001",
            "00000000-0000-0000-0000-000000000002",
            [],
        )
    finally:
        client.destroy()
    until(application.is_claimed("timestep.escalate", 1))

    application.let("run")
    # Nobody has to answer anything any more, so that is how it ends.
    until(application.has_ended("timestep.escalate"))
    (message,) = application.workflows("timestep.escalate")
    # The first time was in vain, but for a name that came just before DBOS looked for it.
    assert message["recovery_attempts"] in (1, 2)
