"""What those cost who follow runs over HTTP: memory, lag, connections to the database.

    python -m tests.benchmarks.readers --readers 500

Starts a host on an embedded PostgreSQL in a folder of its own, and runs whose models speak, which
it executes; then as many readers, in a process of their own: all of one run, then each of
its own run that waits for a decision, beside one that speaks, then of five runs. The lag of an
event is from the beginning of the transaction that recorded it until a reader has it.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.benchmarks.waiting import Host, until

ENTRYPOINT = '''\
"""Runs that speak for long, and runs that wait."""

import asyncio
from typing import Any

from agents import Agent, function_tool
from dbos import DBOS

import timestep
from timestep import offline

WORD = 0.05


class Speaker(offline.OfflineModel):
    async def stream_response(self, *args: Any, **given: Any) -> Any:
        async for event in super().stream_response(*args, **given):
            if event.type == "response.output_text.delta":
                await asyncio.sleep(WORD)
            yield event


@function_tool(needs_approval=True)
def act() -> str:
    """Ask first."""
    return "done"


speaker = Agent("Speaker", model=Speaker(lambda seen: "word " * int(seen.text)))
asker = Agent(
    "Asker", tools=[act], model=offline.OfflineModel(lambda seen: [offline.call("act")], "done")
)


@DBOS.workflow()
async def speak(words: int) -> str:
    """Says so many words."""
    await timestep.run_agent(speaker, str(words), stream=True)
    return "done"


@DBOS.workflow()
async def ask() -> str:
    """Asks for an approval."""
    return str((await timestep.run_agent(asker, "please")).final_output)
'''

_SEVERAL = 5
_CREATED = b'"created_at": "'


class Reader:
    """Reads a stream over a bare connection: its own cost is not what is measured."""

    def __init__(self, url: str, workflow_id: str) -> None:
        self.address = urlsplit(url)
        self.workflow_id = workflow_id
        self.is_open = asyncio.Event()
        self.lags: list[float] = []
        self.measures_from = float("inf")

    async def read(self) -> None:
        reader, writer = await asyncio.open_connection(
            self.address.hostname, self.address.port, limit=1 << 24
        )
        writer.write(
            f"GET /api/runs/{self.workflow_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        )
        try:
            while line := await reader.readline():
                now = time.time()
                if line.startswith(b"HTTP/1.1") and b" 200 " not in line:
                    raise RuntimeError(line.decode())
                if line.startswith(b"data: "):
                    self.is_open.set()
                    at = line.find(_CREATED) + len(_CREATED)
                    said = line[at : line.index(b'"', at)].decode()
                    created = datetime.datetime.fromisoformat(said).timestamp()
                    if created > self.measures_from:
                        self.lags.append(now - created)
        finally:
            writer.close()


async def follow(url: str, names: list[str], seconds: float) -> None:
    """Follow workflows, one a reader; print what was seen each time that a line is given."""
    readers = [Reader(url, name) for name in names]
    tasks = []
    for at in range(0, len(readers), 50):
        some = readers[at : at + 50]
        tasks += [asyncio.create_task(one.read()) for one in some]
        await asyncio.gather(*(one.is_open.wait() for one in some))
    print("open", flush=True)  # noqa: T201  # the other process waits for it
    for one in readers:
        one.measures_from = time.time()
    await asyncio.sleep(seconds)
    lags = sorted(lag for one in readers for lag in one.lags)
    found = {
        f"p{share}": round(1000 * lags[min(len(lags) - 1, len(lags) * share // 100)], 1)
        for share in (50, 90, 99)
        if lags
    }
    found["max"] = round(1000 * lags[-1], 1) if lags else 0
    print(json.dumps({"events": len(lags), **found}), flush=True)  # noqa: T201  # likewise
    await asyncio.sleep(3600)


def started(host: Host, name: str, **given: Any) -> str:
    answer = httpx.post(f"{host.url}/api/workflows/{name}/runs", json={"input": given}, timeout=60)
    answer.raise_for_status()
    return str(answer.json()["workflow_id"])


def connections(host: Host) -> int:
    """To the database, of the host."""
    return host._database(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid()"
    )


def measured(host: Host, names: list[str], seconds: float) -> dict[str, Any]:
    """What readers of these workflows cost, one for each name."""
    before, connected = host.figures(), connections(host)
    cpu = host.cpu()
    time.sleep(seconds / 2)
    alone = (host.cpu() - cpu) / (seconds / 2)
    code = f"import asyncio; from tests.benchmarks.readers import follow; asyncio.run(follow({host.url!r}, {names!r}, {seconds}))"  # noqa: E501
    readers = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert readers.stdout is not None
    began = time.monotonic()
    assert readers.stdout.readline() == "open\n"
    opening = time.monotonic() - began
    cpu = host.cpu()
    lag = json.loads(readers.stdout.readline())
    share = (host.cpu() - cpu) / seconds
    during, held = host.figures(), connections(host)
    readers.kill()
    readers.wait()
    until(lambda: host.figures()["sockets"] <= before["sockets"] + 8, "readers are gone")
    after = host.figures()
    return {
        "readers": len(names),
        "runs": len(set(names)),
        "seconds_to_open": round(opening, 1),
        "memory_mib": {
            "before": before["memory_kib"] // 1024,
            "with": during["memory_kib"] // 1024,
            "after": after["memory_kib"] // 1024,
        },
        "connections_to_the_database": {"before": connected, "with": held},
        "cpu_of_a_core": {"before": round(alone, 2), "with": round(share, 2)},
        "lag_ms": lag,
    }


def measure(count: int, seconds: float) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "workflows").mkdir()
        (folder / "workflows" / "__init__.py").touch()
        (folder / "workflows" / "speak.py").write_text(ENTRYPOINT)
        host = Host(folder)
        host.start()
        try:

            def speaking() -> str:
                return started(host, "speak", words=round(20 * (60 + 3 * seconds)))

            yield measured(host, [speaking()] * count, seconds)
            waiting = [started(host, "ask") for _ in range(count - 1)]
            until(lambda: host.waiting() == count - 1, "all wait")
            yield measured(host, [speaking(), *waiting], seconds)
            several = [speaking() for _ in range(_SEVERAL)]
            yield measured(host, [several[i % _SEVERAL] for i in range(count)], seconds)
        finally:
            host.stop(signal.SIGTERM)
            command = [sys.executable, "-m", "timestep", "stop"]
            subprocess.run(command, cwd=folder, env=host.environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    for found in measure(options.readers, options.seconds):
        print(json.dumps(found, indent=2), flush=True)  # noqa: T201  # what it is for


if __name__ == "__main__":
    main()
