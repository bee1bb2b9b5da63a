"""How long commands take, beside the imports that they cannot do without.

    python -m tests.benchmarks.command_line --rounds 9

Each command is a process of its own, on an embedded PostgreSQL that runs already and holds a run
that waits for decisions; a command and what it is compared with take turns. The figures are the
least of the rounds, in seconds, and the ratio of the two. It ends with status 1 where a ratio is
above what was promised: 2.5 for help, version and completion, 1.5 for commands that read. Modules
are compiled before, as an installation has them.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents import set_tracing_disabled
from dbos import DBOS, SetWorkflowID

import timestep
from tests.support.interrupting_agents import deleter
from timestep.database import engines, migrations
from timestep.database.servers import embedded_postgres

CLICK = "import click"
DRIVERS = "import click, sqlalchemy, psycopg"
WORKFLOW = "tidy"


@dataclass(frozen=True)
class Pair:
    """A command, and what it is compared with."""

    words: tuple[str, ...]
    imports: str
    most: float
    """What the ratio of the two may be."""
    environment: tuple[tuple[str, str], ...] = ()


COMPLETION = (
    ("_TIMESTEP_COMPLETE", "bash_complete"),
    ("COMP_WORDS", "timestep ru"),
    ("COMP_CWORD", "1"),
)

PAIRS = (
    Pair(("--help",), CLICK, 2.5),
    Pair(("--version",), CLICK, 2.5),
    Pair(("(completion)",), CLICK, 2.5, COMPLETION),
    Pair(("runs",), DRIVERS, 1.5),
    Pair(("show", WORKFLOW), DRIVERS, 1.5),
    Pair(("approvals",), DRIVERS, 1.5),
    Pair(("usage",), DRIVERS, 1.5),
    Pair(("resume", WORKFLOW, "--approve", "all"), DRIVERS, 1.5),
    Pair(("cancel", WORKFLOW), DRIVERS, 1.5),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    package = Path(timestep.__file__).parent
    compileall.compile_dir(package, quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        url = embedded_postgres.start(home).set(drivername="postgresql")
        os.environ["TIMESTEP_DB_URL"] = url.render_as_string(hide_password=False)
        try:
            _fill()
            is_kept = _measure(rounds)
        finally:
            embedded_postgres.stop(home)
    sys.exit(not is_kept)


@DBOS.workflow()
async def _tidying() -> int:
    result = await timestep.run_agent(deleter(), "tidy up", on_interruption="return")
    return len(result.interruptions)


def _fill() -> None:
    migrations.apply(engines.engine_for(engines.database_url()))
    system = os.environ["TIMESTEP_DB_URL"]
    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": system,
            "log_level": "ERROR",
            "serializer": timestep.JSONSerializer(),
        }
    )
    DBOS.launch()

    async def run() -> None:
        with SetWorkflowID(WORKFLOW):
            await _tidying()

    set_tracing_disabled(True)
    asyncio.run(run())
    DBOS.destroy()
    # It waits, as far as commands can see.
    with engines.engine_for(engines.database_url()).connect() as connection:
        connection.exec_driver_sql("UPDATE dbos.workflow_status SET status = 'PENDING'")


def _measure(rounds: int) -> bool:
    """Print each pair; whether every ratio is what was promised."""
    script = str(Path(sys.executable).with_name("timestep"))
    kept = True
    print(f"{'command':<34} {'seconds':>8} {'imports':>8} {'ratio':>6}")  # noqa: T201
    for pair in PAIRS:
        words = () if pair.environment else pair.words
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            taken[0].append(_seconds([sys.executable, script, *words], dict(pair.environment)))
            taken[1].append(_seconds([sys.executable, "-c", pair.imports], {}))
        command, imports = map(min, taken)
        ratio = command / imports
        kept &= ratio <= pair.most
        name = f"timestep {' '.join(pair.words)}"
        print(f"{name:<34} {command:8.3f} {imports:8.3f} {ratio:6.2f}")  # noqa: T201
    return kept


def _seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    env = {**os.environ, **environment}
    subprocess.run(
        command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
