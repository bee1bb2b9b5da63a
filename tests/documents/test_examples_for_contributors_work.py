"""The Python of CONTRIBUTING.md does what it says."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agents import Agent, RunContextWrapper
from agents.testing import ScriptedModel, assistant_message

import timestep
from tests.support import forked_processes
from tests.support.dbos_app import App
from tests.support.documented_examples import examples
from tests.support.host_process import Host, own_host
from timestep.execution.current import current_run
from timestep.execution.run import Rows, Run
from timestep.serialization.ids import derived
from timestep.serialization.values import encode, restored, storable
from timestep.steps.perform import perform
from timestep.steps.step import Step

__all__ = ["own_host"]


@pytest.mark.parametrize("is_right", [True, False])
def test_a_step_of_ones_own(app: App, is_right: bool) -> None:
    """Done once, whether it ends with a value or an error, and the same in a replay."""
    _, example = examples("CONTRIBUTING.md", "python")
    names: dict[str, Any] = {
        "Any": Any,
        "Awaitable": Awaitable,
        "Callable": Callable,
        "Rows": Rows,
        "Run": Run,
        "Step": Step,
        "derived": derived,
        "encode": encode,
        "restored": restored,
        "storable": storable,
    }
    exec(compile("from __future__ import annotations\n" + example, "a step", "exec"), names)
    asked = []

    async def ask() -> float:
        asked.append("box")
        if not is_right:
            raise ValueError("no scale")
        return 2.5

    async def instructions(context: RunContextWrapper[Any], agent: Agent[Any]) -> str:
        try:
            weight = await perform(names["_Weighing"](current_run(), "box", ask))
        except ValueError as error:
            return str(error)
        return f"{weight} kg"

    model = ScriptedModel([[assistant_message("done")]])

    async def body() -> str:
        agent = Agent("Weighing", instructions=instructions, model=model)
        return str((await timestep.run_agent(agent, "go")).final_output)

    assert app.run(body, "weighs") == "done"
    assert app.replay("weighs") == "done"
    assert asked == ["box"]
    recorded = app.execute("SELECT name, error IS NULL FROM timestep.step_values").fetchall()
    assert recorded == [("weigh: box", is_right)]
    assert app.steps("weighs")[0] == "weigh: box"
    assert model.calls[0].system_instructions == ("2.5 kg" if is_right else "no scale")


@pytest.mark.long
def test_a_replay_of_what_a_host_did(own_host: Host) -> None:
    program, _ = examples("CONTRIBUTING.md", "python")
    workflow_id = own_host.start().begin("greet", name="ann")
    answer = own_host.output(workflow_id)
    own_host.signal(signal.SIGTERM)
    own_host.ended()
    done = forked_processes.run(
        "-c", program, workflow_id, cwd=own_host.folder, env=own_host.environment
    )
    assert done.returncode == 0, done.stderr
    assert answer in done.stdout.splitlines()
