"""What runs cost that wait for a person: memory, threads, connections, a restart, a decision.

    python -m tests.benchmarks.waiting --runs 10000

Starts a host on an embedded PostgreSQL in a folder of its own, starts runs that ask for an
approval over HTTP, measures the host, starts it again with all of them waiting, and approves
some, one after the other: the time is from the decision's request to the model's next call.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx

ENTRYPOINT = '''\
"""Asks before it does anything."""

import time
from pathlib import Path

from agents import Agent, function_tool
from dbos import DBOS

import timestep
from timestep import offline


@function_tool(needs_approval=True)
def act(n: int) -> str:
    """Ask first."""
    return f"did {n}"


def answered(seen: offline.Conversation) -> str:
    Path("answered").write_text(repr(time.time()))
    return "done"


agent = Agent(
    "Asker",
    tools=[act],
    model=offline.OfflineModel(lambda seen: [offline.call("act", n=1)], answered),
)


@DBOS.workflow()
async def ask(n: int) -> str:
    """Asks for an approval."""
    return str((await timestep.run_agent(agent, str(n))).final_output)
'''


class Host:
    """`timestep serve` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {**os.environ, "TIMESTEP_PORT": str(port)}
        self.environment.pop("TIMESTEP_DB_URL", None)
        self.environment.pop("OPENAI_API_KEY", None)

    def start(self) -> float:
        """Seconds until the host says that it is ready."""
        began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "timestep", "serve"],
            cwd=self.folder,
            env=self.environment,
            stdout=(self.folder / "host.log").open("w"),
            stderr=subprocess.STDOUT,
        )
        while not self._is_ready():
            if self.process.poll() is not None:
                raise RuntimeError((self.folder / "host.log").read_text())
            time.sleep(0.02)
        return time.monotonic() - began

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, number: signal.Signals) -> None:
        self.process.send_signal(number)
        self.process.wait()

    def figures(self) -> dict[str, int]:
        """Its memory in KiB, its threads, and its sockets to the database and to clients."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        targets = [os.readlink(file) for file in Path(f"/proc/{self.process.pid}/fd").iterdir()]
        return {
            "memory_kib": int(found["VmRSS"].split()[0]),
            "threads": int(found["Threads"]),
            "sockets": sum(target.startswith("socket:") for target in targets),
        }

    def cpu(self) -> float:
        """Seconds that it has computed."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def waiting(self) -> int:
        """How many workflows wait: as many as the host would say when it starts."""
        return self._database("SELECT count(*) FROM dbos.workflow_status WHERE status = 'DELAYED'")

    def _database(self, query: str) -> int:
        code = (
            "from timestep.database.engines import *;"
            "connection = engine_for(database_url()).connect();"
            f"print(connection.exec_driver_sql({query!r}).scalar_one())"
        )
        said = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env=self.environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return int(said.stdout)


async def start_runs(host: Host, first: int, count: int) -> None:
    """Start runs, a few at a time."""
    numbers = iter(range(first, first + count))

    async with httpx.AsyncClient(base_url=host.url, timeout=60) as client:

        async def work() -> None:
            for number in numbers:
                answer = await client.post(
                    "/api/workflows/ask/runs",
                    json={"input": {"n": number}, "workflow_id": f"ask-{number}"},
                )
                answer.raise_for_status()

        await asyncio.gather(*(work() for _ in range(8)))


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"never came: {what}")
        time.sleep(0.5)


def decision_ms(host: Host, number: int) -> float:
    """Milliseconds from the request that approves to the model's next call."""
    answered = host.folder / "answered"
    answered.unlink(missing_ok=True)
    began = time.time()
    answer = httpx.post(f"{host.url}/api/workflows/ask-{number}/resume", json={"approve": "all"})
    answer.raise_for_status()
    while not answered.exists() or not (text := answered.read_text()):
        time.sleep(0.002)
    return (float(text) - began) * 1000


def measure(runs: int, decisions: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "workflows").mkdir()
        (folder / "workflows" / "__init__.py").touch()
        (folder / "workflows" / "ask.py").write_text(ENTRYPOINT)
        host = Host(folder)
        host.start()
        try:
            # What a host needs anyway is there before the first measurement.
            warm = min(1000, runs)
            asyncio.run(start_runs(host, 0, warm))
            until(lambda: host.waiting() == warm, "the first runs wait")
            before = host.figures()
            began = time.monotonic()
            asyncio.run(start_runs(host, warm, runs))
            until(lambda: host.waiting() == warm + runs, "all runs wait")
            seconds = time.monotonic() - began
            after = host.figures()
            host.stop(signal.SIGKILL)
            restart = host.start()
            restarted = host.figures()
            said = (folder / "host.log").read_text()
            times = [decision_ms(host, number) for number in range(decisions)]
            return {
                "runs": runs,
                "seconds_to_start_them": round(seconds, 1),
                "before": before,
                "with_them_waiting": after,
                "memory_mib_added": round((after["memory_kib"] - before["memory_kib"]) / 1024, 1),
                "restart_seconds": round(restart, 2),
                "after_restart": restarted,
                "host_said": [line for line in said.splitlines() if "undecided" in line],
                "decision_ms": {
                    "median": round(statistics.median(times), 1),
                    "slowest": round(max(times), 1),
                    "decisions": decisions,
                },
            }
        finally:
            host.stop(signal.SIGTERM)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--decisions", type=int, default=50)
    options = parser.parse_args()
    found = measure(options.runs, options.decisions)
    print(json.dumps(found, indent=2))  # noqa: T201  # what it is for


if __name__ == "__main__":
    main()
