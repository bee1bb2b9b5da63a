"""A host that is killed goes on with what a tool gave, and shows the model and hooks the same."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.conditions import until
from tests.support.host_process import Host, lines, own_host

__all__ = ["own_host"]

MODELS = """\
from dataclasses import dataclass, field
from pydantic import BaseModel, PrivateAttr

class Animal(BaseModel):
    name: str

class Dog(Animal):
    breed: str
    _trick: str = PrivateAttr("sit")

class Zoo(BaseModel):
    animals: list[Animal]
    rest: int | str | Animal = 0

@dataclass
class Ticket:
    colours: set[str]
    number: int = field(init=False)

    def __post_init__(self) -> None:
        import os
        self.number = os.getpid()
"""

ZOOS = '''\
import asyncio
import json
from pathlib import Path

from agents import Agent, RunHooks, function_tool
from dbos import DBOS

import timestep
from timestep import offline
from models_of_zoos import Dog, Ticket, Zoo

@function_tool
def visit() -> tuple[Zoo, Ticket]:
    dog = Dog(name="Rex", breed="collie")
    dog._trick = "roll"
    return Zoo(animals=[dog, dog], rest=dog), Ticket({"red", "green", "blue", "white", "black"})

@function_tool
async def hold(folder: str) -> str:
    Path(folder, "held").touch()
    while not Path(folder, "go").exists():
        await asyncio.sleep(0.01)
    return "released"

class Notes(RunHooks):
    def __init__(self, folder):
        self.folder = folder

    async def on_tool_end(self, context, agent, tool, result):
        if tool.name == "visit":
            zoo, ticket = result
            what = [zoo.animals[0]._trick, zoo.animals[0] is zoo.rest, str(zoo), ticket.number]
            with Path(self.folder, "heard").open("a") as file:
                file.write(json.dumps([*what, sorted(ticket.colours)]) + "\\\\n")

keeper = Agent(
    "Keeper",
    tools=[visit, hold],
    model=offline.OfflineModel(
        lambda seen: [offline.call("visit")],
        lambda seen: [offline.call("hold", folder=seen.text)],
        lambda seen: seen.output("visit"),
    ),
)

@DBOS.workflow()
async def keep(folder: str) -> str:
    """Visit, hold, tell what was seen."""
    hooks = Notes(folder)
    return str((await timestep.DurableRunner.run(keeper, folder, hooks=hooks)).final_output)
'''


def test_the_model_and_hooks_are_shown_the_same(own_host: Host, tmp_path: Path) -> None:
    package = own_host.folder / "workflows"
    (own_host.folder / "models_of_zoos.py").write_text(MODELS)
    (package / "zoos.py").write_text(ZOOS.replace("\\\\n", "\\n"))
    own_host.environment["PYTHONHASHSEED"] = "1"
    own_host.start(is_forked=False)
    workflow_id = own_host.begin("keep", folder=str(tmp_path))
    until((tmp_path / "held").exists, seconds=60)
    (shown,) = own_host.rows(
        "SELECT item_data->>'output' AS text FROM run_items WHERE item_type LIKE '%output_item'"
    )
    own_host.signal(signal.SIGKILL)
    own_host.ended()

    # Sets of texts are in another order there.
    own_host.environment["PYTHONHASHSEED"] = "2"
    own_host.start(is_forked=False)
    (tmp_path / "go").touch()
    assert own_host.output(workflow_id) == f"[offline model] {shown['text']}"
    assert shown["text"].count("Dog(name='Rex', breed='collie')") == 3
    first, second = lines(tmp_path, "heard")
    assert first == second
    assert '["roll", true,' in first
