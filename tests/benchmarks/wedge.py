"""What becomes of runs while the database says "not now", or that are cancelled and resumed.

    python -m tests.benchmarks.wedge --scenario read-only

Starts a host on a PostgreSQL of its own, starts runs over HTTP, has the database refuse for a
while, and waits until no run goes on any more. A host that leaves some is started once more, as
people would. An effect is a model's or a tool's, counted where it happens.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
from dbos import DBOSClient
from psycopg import sql

from tests.benchmarks import server
from tests.support.conditions import until
from tests.support.host_process import Host

ENTRYPOINT = '''\
"""Leaves a line for each thing that it does."""

import asyncio
from pathlib import Path

from agents import Agent, Model, ModelResponse, Usage, function_tool
from agents.testing import assistant_message, function_call
from dbos import DBOS

import timestep

TURNS = 20


def did(what: str) -> None:
    with Path("effects").open("a") as file:
        file.write(what + "\\n")


class Caller(Model):
    """Calls the tool a number of times, whoever asks it."""

    async def get_response(self, system_instructions, input, *args, **kwargs):
        items = [item for item in input if isinstance(item, dict)]
        name = items[0]["content"]
        n = sum(item.get("type") == "function_call_output" for item in items)
        did(f"{name} ask {n}")
        call = function_call("act", {"name": name, "n": n}, call_id=f"call-{n}")
        output = [assistant_message("done") if n == TURNS else call]
        return ModelResponse(output=output, usage=Usage(requests=1), response_id=None)

    def stream_response(self, *args, **kwargs):
        raise NotImplementedError


@function_tool
async def act(name: str, n: int) -> str:
    """Do it."""
    await asyncio.sleep(0.1)
    did(f"{name} act {n}")
    return f"did {n}"


agent = Agent("Actor", tools=[act], model=Caller())


@DBOS.workflow()
async def job(name: str) -> str:
    """Acts again and again."""
    return str((await timestep.run_agent(agent, name, max_turns=TURNS + 5)).final_output)
'''

_PATIENCE = 60.0
"""Seconds in which every run has to have ended, once the database is well again."""


class Database:
    """A database, and what makes it refuse."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url = url
        self.seconds = seconds
        self._name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]

    def set(self, name: str, value: str) -> None:
        """Give every session a setting from now on: those that are there are ended."""
        with self._admin() as connection:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(str(self._name)), sql.Identifier(name), value
                )
            )
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND pid <> pg_backend_pid()",
                (self._name,),
            )

    def reset(self, name: str) -> None:
        with self._admin() as connection:
            change = sql.SQL("ALTER DATABASE {} RESET {}")
            connection.execute(change.format(sql.Identifier(str(self._name)), sql.Identifier(name)))

    def lock(self, seconds: float) -> None:
        """Hold DBOS's table of workflows."""
        with self._admin() as connection, connection.transaction():
            connection.execute("LOCK TABLE dbos.workflow_status IN ACCESS EXCLUSIVE MODE")
            time.sleep(seconds)

    @contextlib.contextmanager
    def _admin(self) -> Iterator[psycopg.Connection[object]]:
        options = "-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0"
        with psycopg.connect(self.url, autocommit=True, options=options) as connection:
            yield connection


def _read_only(database: Database, _: Host) -> None:
    database.set("default_transaction_read_only", "on")
    time.sleep(database.seconds)
    database.reset("default_transaction_read_only")


def _locked(database: Database, _: Host) -> None:
    database.set("statement_timeout", "2000")
    database.lock(database.seconds)
    database.reset("statement_timeout")


def _short(setting: str) -> Callable[[Database, Host], None]:
    def refuse(database: Database, _: Host) -> None:
        database.set(setting, "50")
        deadline = time.monotonic() + database.seconds
        while time.monotonic() < deadline:
            database.lock(0.3)
            time.sleep(0.5)
        database.reset(setting)

    return refuse


def _cancelled(database: Database, host: Host) -> None:
    """Cancel every run in the middle, and resume it once it has ended."""
    ids = [str(row["workflow_uuid"]) for row in host.rows(_RUNNING)]
    time.sleep(database.seconds / 10)
    for id_ in ids:
        host.post(f"/api/workflows/{id_}/cancel")
    until(lambda: not host.rows("SELECT FROM runs WHERE completed_at IS NULL"))
    client = DBOSClient(system_database_url=database.url)
    for id_ in ids:
        client.resume_workflow(id_)
    client.destroy()


_RUNNING = "SELECT workflow_uuid FROM dbos.workflow_status"


@dataclass(frozen=True)
class Scenario:
    """What happens to the runs."""

    says: str
    runs: int
    happens: Callable[[Database, Host], None]


SCENARIOS = {
    "read-only": Scenario("read-only, as in a fail-over", 30, _read_only),
    "locked": Scenario("statement_timeout of 2 s, workflow_status locked", 20, _locked),
    "statement-timeout": Scenario(
        "statement_timeout of 50 ms, locks of 0.3 s", 30, _short("statement_timeout")
    ),
    "lock-timeout": Scenario("lock_timeout of 50 ms, locks of 0.3 s", 30, _short("lock_timeout")),
    "cancelled": Scenario("each cancelled and resumed", 80, _cancelled),
}


class Readiness(threading.Thread):
    """Counts what the host answers to whether it is ready."""

    def __init__(self, host: Host) -> None:
        super().__init__(daemon=True)
        self._host = host
        self._over = threading.Event()
        self.answers: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        while not self._over.wait(0.5):
            with contextlib.suppress(httpx.HTTPError):
                answer = self._host.get("/readyz")
                self.answers[f"{answer.status_code} {answer.json().get('detail', '')}"] += 1

    def end(self) -> None:
        self._over.set()
        self.join()


def measure(scenario: Scenario, url: str, folder: Path, seconds: float) -> None:
    """Run a scenario, and print what became of its runs."""
    package = folder / "workflows"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jobs.py").write_text(ENTRYPOINT)
    host, database = Host(folder, url).start(is_forked=False), Database(url, seconds)
    try:
        for number in range(scenario.runs):
            host.begin("job", name=f"run-{number}")
        readiness = Readiness(host)
        readiness.start()
        began = time.monotonic()
        scenario.happens(database, host)
        lasted = time.monotonic() - began
        over = _until_over(host, scenario.runs)
        readiness.end()
        _say(f"{scenario.runs} runs, {scenario.says}, for {lasted:.0f} s")
        _say(f"  runs             {_statuses(host)}, {over:.0f} s later")
        _say(f"  workflows        {_statuses(host, 'dbos.workflow_status')}")
        _say(f"  effects doubled  {_doubled(folder)}")
        _say(f"  calls            {_statuses(host, 'tool_calls')}")
        for answer, count in readiness.answers.most_common():
            _say(f"  readyz           {count} x {answer}")
        if _going_on(host, scenario.runs):
            host.close()
            host.start(is_forked=False)
            over = _until_over(host, scenario.runs)
            _say(f"  after a restart  {_statuses(host)}, {over:.0f} s later")
            _say(f"  effects doubled  {_doubled(folder)}")
        log = host.log.read_text().splitlines()
        _say(f"  the host's log   {len(log)} lines")
    finally:
        host.close()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _until_over(host: Host, runs: int) -> float:
    began = time.monotonic()
    while _going_on(host, runs) and time.monotonic() < began + _PATIENCE:
        time.sleep(0.25)
    return time.monotonic() - began


def _going_on(host: Host, runs: int) -> int:
    (row,) = host.rows(
        "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('SUCCESS', 'ERROR')"
    )
    return runs - int(row["count"])


def _statuses(host: Host, table: str = "runs") -> str:
    found = host.rows(f"SELECT status, count(*) FROM {table} GROUP BY 1 ORDER BY 2 DESC")
    return ", ".join(f"{row['count']} {row['status']}" for row in found)


def _doubled(folder: Path) -> str:
    counts = collections.Counter((folder / "effects").read_text().splitlines())
    return f"{sum(count - 1 for count in counts.values())} of {len(counts)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="default: all")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long it refuses")
    parser.add_argument("--keep", action="store_true", help="keep the folders, and say where")
    given = parser.parse_args()
    with server.running() as postgres:
        for name in given.scenario or SCENARIOS:
            folder = Path(tempfile.mkdtemp(prefix="timestep-wedge-"))
            try:
                measure(SCENARIOS[name], postgres.create(f"wedge-{name}"), folder, given.seconds)
            finally:
                if given.keep:
                    _say(f"  kept             {folder}")
                else:
                    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
