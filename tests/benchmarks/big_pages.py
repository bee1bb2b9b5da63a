"""How long the page of all runs takes on a database of a million runs.

    python -m tests.benchmarks.big_pages --home FOLDER [--runs 1000000]

Fills the folder as `big_data` does, once. Prints median and longest milliseconds of each address.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from pathlib import Path

from tests.benchmarks import big_load
from tests.support.api_client import client_of
from timestep import config
from timestep.web.app import create_app

_ADDRESSES = (
    "/",
    "/?status=running",
    "/?status=interrupted",
    "/?status=failed",
    "/?agent=Agent+3&status=cancelled",
    "/?session_id=session-7",
    "/?since=7d&status=failed",
    "/?text=w4711",
    "/?entrypoint=answer",
    "/?entrypoint=none",
    "/?version=1",
    "/?nested=1",
    "/sessions",
    "/agents",
    "/usage",
    "/usage?by=model&since=",
    "/health",
)
_TIMES = 9


async def measure() -> None:
    app = create_app(config.read(), {})
    async with client_of(app, "127.0.0.1") as client:
        await client.get("/", headers={"accept": "text/html"})
        for address in _ADDRESSES:
            found = []
            for _ in range(_TIMES):
                began = time.perf_counter()
                answer = await client.get(address, headers={"accept": "text/html"})
                found.append((time.perf_counter() - began) * 1000)
                assert answer.status_code == 200, answer.text
            middle = statistics.median(found)
            print(f"{middle:9.1f} {max(found):9.1f}  {address}")  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=1_000_000)
    options = parser.parse_args()
    os.environ["TIMESTEP_DB_URL"] = big_load.libpq(big_load.made(options.home, options.runs))
    asyncio.run(measure())


if __name__ == "__main__":
    main()
