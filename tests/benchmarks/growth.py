"""What a turn costs as its run gets longer: WAL, tables, and CPU beyond the plain runner's.

    python -m tests.benchmarks.growth --rounds 5

Runs of 205 turns with one tool call a turn, a durable one and a plain one in turn, in one
process and on an embedded PostgreSQL of its own. A figure of turn 100 is the mean of the
turns 96 to 105, and the median of the rounds. `--profile FILE` writes where the durable runs'
time goes, for `python -m pstats FILE`.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from agents import Agent, Runner, RunResult, function_tool, set_tracing_disabled
from agents.items import ModelResponse
from agents.models.interface import Model
from agents.usage import Usage
from dbos import DBOS, SetWorkflowID
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

import timestep
from timestep.database import engines, migrations, urls
from timestep.database.servers import embedded_postgres

TURNS = (10, 50, 100, 150, 200)
WINDOW = 10
LAST = max(TURNS) + WINDOW // 2

Sample = dict[str, float]


class Meter:
    """Reads the figures where a window of turns begins or ends; its own cost is not in them."""

    def __init__(self, connection: psycopg.Connection[Any] | None) -> None:
        self.connection = connection
        self.samples: dict[int, Sample] = {}
        self._own = 0.0

    def turn(self, number: int) -> None:
        if (number - 1 + WINDOW // 2) % WINDOW:
            return
        began = time.process_time()
        sample = {"cpu_ms": (began - self._own) * 1000}
        if self.connection is not None:
            row = self.connection.execute(
                "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, "
                "sum(pg_total_relation_size(c.oid)) "
                "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE c.relkind = 'r' AND n.nspname IN ('public', 'timestep', 'dbos')"
            ).fetchone()
            assert row is not None
            sample |= {"wal_bytes": float(row[0]), "table_bytes": float(row[1])}
        self.samples[number] = sample
        self._own += time.process_time() - began

    def figures(self) -> dict[int, Sample]:
        """Of each of `TURNS`, the mean of the turns around it."""
        found = {}
        for turn in TURNS:
            first, last = turn - WINDOW // 2 + 1, turn + WINDOW // 2 + 1
            before, after = self.samples[first], self.samples[last]
            found[turn] = {name: (after[name] - before[name]) / WINDOW for name in before}
        return found


class CallingModel(Model):
    """Calls the tool once a turn, and answers after the last."""

    def __init__(self, meter: Meter, turns: int) -> None:
        self.meter = meter
        self.turns = turns
        self.turn = 0

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        self.turn += 1
        self.meter.turn(self.turn)
        name = f"{id(self)}-{self.turn}"
        output: Any = ResponseFunctionToolCall(
            id=f"fc_{name}",
            call_id=f"call_{name}",
            name="look_up",
            type="function_call",
            arguments=json.dumps({"key": self.turn}),
        )
        if self.turn > self.turns:
            text = ResponseOutputText(text="done", type="output_text", annotations=[])
            output = ResponseOutputMessage(
                id=f"msg_{name}",
                role="assistant",
                status="completed",
                type="message",
                content=[text],
            )
        usage = Usage(requests=1, input_tokens=100, output_tokens=20, total_tokens=120)
        return ModelResponse(output=[output], usage=usage, response_id=f"resp_{name}")

    def stream_response(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


@function_tool
def look_up(key: int) -> str:
    """200 bytes."""
    return f"{key:0200d}"


MODELS: dict[str, CallingModel] = {}


def agent(model: Model) -> Agent[Any]:
    return Agent("Reader", instructions="Look up.", tools=[look_up], model=model)


@DBOS.workflow()
async def read(key: str) -> str:
    """One durable run."""
    result: RunResult = await timestep.DurableRunner.run(
        agent(MODELS[key]), "Go.", max_turns=LAST + 5
    )
    return str(result.final_output)


async def durable(key: str, connection: psycopg.Connection[Any]) -> dict[int, Sample]:
    meter = Meter(connection)
    MODELS[key] = CallingModel(meter, LAST)
    with SetWorkflowID(key):
        await read(key)
    return meter.figures()


async def plain() -> dict[int, Sample]:
    meter = Meter(None)
    await Runner.run(agent(CallingModel(meter, LAST)), "Go.", max_turns=LAST + 5)
    return meter.figures()


def states(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """How many states the ended runs keep, and how many bytes of them a run."""
    row = connection.execute(
        "SELECT count(*), sum(pg_column_size(s.*)) / count(DISTINCT run_id) FROM run_states s"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])


async def measure(url: str, rounds: int, profile: cProfile.Profile | None) -> dict[str, Any]:
    found: list[dict[int, Sample]] = []
    with psycopg.connect(url, autocommit=True) as connection:
        await plain()
        await durable("warm", connection)
        # What a page's first change after a checkpoint adds to the WAL is not the run's.
        connection.execute("CHECKPOINT")
        await durable("warm again", connection)
        for number in range(rounds):
            without = await plain()
            if profile is not None:
                profile.enable()
            with_it = await durable(f"run {number}", connection)
            if profile is not None:
                profile.disable()
            for turn in TURNS:
                with_it[turn]["plain_cpu_ms"] = without[turn]["cpu_ms"]
                with_it[turn]["own_cpu_ms"] = with_it[turn]["cpu_ms"] - without[turn]["cpu_ms"]
            found.append(with_it)
        kept, size = states(connection)
    table = {
        turn: {name: statistics.median(one[turn][name] for one in found) for name in found[0][turn]}
        for turn in TURNS
    }
    ratios = {name: table[TURNS[-1]][name] / table[TURNS[0]][name] for name in table[TURNS[0]]}
    return {
        "turns": table,
        "ratios": ratios,
        "states_kept_a_run": kept / (rounds + 2),
        "state_bytes_a_run": size,
    }


def in_process(rounds: int, profile: cProfile.Profile | None) -> dict[str, Any]:
    set_tracing_disabled(True)
    with tempfile.TemporaryDirectory(prefix="timestep-growth-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        started = embedded_postgres.start(folder / "postgres")
        url = started.set(drivername="postgresql").render_as_string(hide_password=False)
        os.environ["TIMESTEP_DB_URL"] = url
        migrations.apply(engines.engine_for(urls.parse_url(url)))
        with psycopg.connect(url, autocommit=True) as connection:
            for setting in (
                "max_wal_size = '4GB'",
                "checkpoint_timeout = '1h'",
                "autovacuum = off",
            ):
                connection.execute(f"ALTER SYSTEM SET {setting}")
            connection.execute("SELECT pg_reload_conf()")
        DBOS(config={"name": "growth", "system_database_url": url, "log_level": "ERROR"})
        DBOS.launch()
        try:
            return asyncio.run(measure(url, rounds, profile))
        finally:
            DBOS.destroy()
            engines.dispose_all()
            embedded_postgres.stop(folder / "postgres")


def shown(found: dict[str, Any], say: Callable[[str], None]) -> None:
    say(f"{'turn':>6} {'WAL bytes':>10} {'table bytes':>12} {'CPU ms':>8} {'plain':>8} {'own':>8}")
    for turn, row in found["turns"].items():
        say(
            f"{turn:>6} {row['wal_bytes']:>10.0f} {row['table_bytes']:>12.0f} "
            f"{row['cpu_ms']:>8.2f} {row['plain_cpu_ms']:>8.2f} {row['own_cpu_ms']:>8.2f}"
        )
    ratios = found["ratios"]
    say(
        f"{'ratio':>6} {ratios['wal_bytes']:>10.2f} {ratios['table_bytes']:>12.2f} "
        f"{ratios['cpu_ms']:>8.2f} {ratios['plain_cpu_ms']:>8.2f} {ratios['own_cpu_ms']:>8.2f}"
    )
    say(
        f"an ended run keeps {found['states_kept_a_run']:.1f} states, "
        f"{found['state_bytes_a_run']} bytes"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    profile = cProfile.Profile() if options.profile is not None else None
    found = in_process(options.rounds, profile)
    if profile is not None:
        profile.dump_stats(options.profile)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2))
    shown(found, print)


if __name__ == "__main__":
    main()
