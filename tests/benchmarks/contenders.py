"""One contender in a process of its own, warm, that runs what it is told.

    python -m tests.benchmarks.contenders timestep URL

A line of JSON on standard input is a `Task`, and the line that it is answered with a `Done`, or
says why its runs `failed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import cProfile
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from agents import Agent, Runner, Tool, function_tool, set_tracing_disabled

from tests.benchmarks import agent

Run = Callable[[str, int], Awaitable[object]]
"""Runs an agent on an input, with so many turns at most; a final output."""


@dataclass(frozen=True)
class Task:
    """Runs that are alike."""

    runs: int
    turns: int
    size: int
    """Characters that the tool puts out."""
    concurrency: int
    profile: str | None = None
    """The file for a profile of the thread with the event loop."""


@dataclass(frozen=True)
class Done:
    """What a task cost its process."""

    seconds: list[float]
    """Of each run."""
    wall: float
    """Seconds of all of them."""
    cpu: float
    """Seconds of this process."""
    peak: int
    """Bytes resident, at most, while it ran."""


async def perform(task: Task, run: Run) -> Done:
    """Run them all, so many at once."""
    seconds: list[float] = []
    left = iter(range(task.runs))
    text = agent.asked(task.turns, task.size)

    async def work() -> None:
        for _ in left:
            began = time.perf_counter()
            answer = await run(text, task.turns + 1)
            seconds.append(time.perf_counter() - began)
            if answer != agent.DONE:
                raise RuntimeError(f"a run ended with {answer!r}")

    _forget_peak()
    profile = cProfile.Profile() if task.profile else None
    wall, cpu = time.perf_counter(), time.process_time()
    with profile or contextlib.nullcontext():
        ended = await asyncio.gather(
            *(work() for _ in range(task.concurrency)), return_exceptions=True
        )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    for error in ended:
        if error is not None:
            raise error
    if profile:
        profile.dump_stats(str(task.profile))
    return Done(seconds, wall, cpu, _peak())


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    (kib,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kib) * 1024


async def obey(run: Run) -> None:
    """Perform the tasks of standard input until it ends."""
    answers = _standard_output()
    await perform(Task(runs=12, turns=4, size=200, concurrency=2), run)
    print(json.dumps("ready"), file=answers, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            answer = asdict(await perform(Task(**json.loads(line)), run))
        except RuntimeError as error:
            answer = {"failed": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _standard_output() -> TextIO:
    """It, for the answers alone: what a library says goes to standard error from now on."""
    kept = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return kept


def _agent(tool: Tool) -> Agent[None]:
    return Agent(
        agent.NAME, instructions=agent.INSTRUCTIONS, model=agent.ScriptedModel(), tools=[tool]
    )


def plain() -> Run:
    """The SDK's runner, durable in no way."""

    @function_tool
    async def fetch(size: int) -> str:
        """Fetch so many characters."""
        return agent.fetched(size)

    it = _agent(fetch)

    async def run(text: str, max_turns: int) -> object:
        return (await Runner.run(it, text, max_turns=max_turns)).final_output

    return run


def timestep(url: str) -> Run:
    """Timestep, as its README says."""
    from dbos import DBOS

    import timestep

    os.environ["TIMESTEP_DB_URL"] = url

    @function_tool
    async def fetch(size: int) -> str:
        """Fetch so many characters."""
        return agent.fetched(size)

    it = _agent(fetch)

    @DBOS.workflow()
    async def run_it(text: str, max_turns: int) -> str:
        result = await timestep.DurableRunner.run(it, text, max_turns=max_turns)
        return str(result.final_output)

    return _workflow(run_it, url)


def dbos_openai_agents(url: str) -> Run:
    """dbos-openai-agents, as its README says: the tool is a step of DBOS."""
    from dbos import DBOS
    from dbos_openai_agents import DBOSRunner

    @function_tool
    @DBOS.step()
    async def fetch(size: int) -> str:
        """Fetch so many characters."""
        return agent.fetched(size)

    it = _agent(fetch)

    @DBOS.workflow()
    async def run_it(text: str, max_turns: int) -> str:
        result = await DBOSRunner.run(it, text, max_turns=max_turns)
        return str(result.final_output)

    return _workflow(run_it, url)


def _workflow(function: Callable[[str, int], Any], url: str) -> Run:
    from dbos import DBOS

    DBOS(config={"name": "benchmark", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()

    async def run(text: str, max_turns: int) -> object:
        handle = await DBOS.start_workflow_async(function, text, max_turns)
        return await handle.get_result()

    return run


CONTENDERS: dict[str, Callable[[str], Run]] = {
    "plain": lambda _: plain(),
    "timestep": timestep,
    "timestep-ordinary": timestep,
    "dbos-openai-agents": dbos_openai_agents,
}
"""By name; whoever starts `timestep-ordinary` sets its environment."""


def main() -> None:
    name, url = sys.argv[1:]
    set_tracing_disabled(True)
    asyncio.run(obey(CONTENDERS[name](url)))


if __name__ == "__main__":
    main()
