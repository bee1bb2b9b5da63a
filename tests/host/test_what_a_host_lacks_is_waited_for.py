"""A run of a host without its provider's key waits for a host that has it, and says so."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.conditions import until
from tests.support.host_process import Host, own_host
from tests.support.model_provider import Provider, answers, provider

__all__ = ["own_host", "provider"]

_JOB = '''\
from agents import Agent
from dbos import DBOS

import timestep


@DBOS.workflow()
async def chat(text: str) -> str:
    """Needs a provider's key."""
    result = await timestep.run_agent(Agent("Chatter", model="gpt-4.1"), text)
    return str(result.final_output)
'''
_TAKES = "async def chat(text: str) -> str:\n"


def put_back(host: Host, workflow_id: str) -> None:
    until(lambda: "lacks something" in (host.run(workflow_id)["obstacle"] or ""))


def test_a_key_that_comes_later_is_enough(own_host: Host, provider: Provider) -> None:
    Path(own_host.folder, "workflows", "chatting.py").write_text(_JOB)
    own_host.start()
    assert own_host.get("/readyz").json() == {"status": "ok"}
    chat = own_host.begin("chat", text="hello")
    put_back(own_host, chat)
    assert own_host.run(chat)["workflow"]["status"] == "DELAYED"
    assert (own_host.run(chat)["status"], own_host.run(chat)["is_stuck"]) == ("running", True)
    assert own_host.get("/readyz").json() == {"status": "ok", "set_back": 1}
    told = own_host.command("show", chat)
    assert "set OPENAI_API_KEY, or give the agent" in told
    assert f"or end it with `timestep cancel {chat}`" in told
    assert own_host.log.read_text().count("did not fail for good") == 1
    own_host.signal(signal.SIGKILL)
    own_host.ended()

    # Started without it once more, it is tried at once.
    own_host.start()
    assert "trying again 1 workflow whose version lacked something" in own_host.log.read_text()
    put_back(own_host, chat)
    own_host.signal(signal.SIGTERM)
    own_host.ended()

    provider.behaviours = [answers]
    own_host.environment |= {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.url}
    own_host.start()
    assert own_host.output(chat) == "Hello"
    assert len(own_host.rows("SELECT * FROM runs")) == 1
    assert own_host.get("/readyz").json() == {"status": "ok"}
    assert own_host.run(chat)["obstacle"] is None


def test_a_takeover_without_the_key_leaves_it_to_the_old_version(
    own_host: Host, provider: Provider
) -> None:
    job = Path(own_host.folder, "workflows", "chatting.py")
    job.write_text(_JOB)
    own_host.start()
    chat = own_host.begin("chat", text="hello")
    put_back(own_host, chat)
    own_host.signal(signal.SIGTERM)
    own_host.ended()
    before = own_host.rows("SELECT * FROM dbos.workflow_status")

    job.write_text(
        _JOB.replace(_TAKES, f'{_TAKES}    """In other code."""\n    text = text + "!"\n')
    )
    own_host.start()
    assert "goes on from" in own_host.command("resume", chat, "--from-checkpoint")
    until(lambda: "could not take it over" in (own_host.run(chat)["obstacle"] or ""))
    assert own_host.rows("SELECT * FROM dbos.workflow_status") == before
    own_host.signal(signal.SIGTERM)
    own_host.ended()

    # A version without the entrypoint finds that out when it is to execute it.
    job.unlink()
    own_host.start()
    assert "goes on from" in own_host.command("resume", chat, "--from-checkpoint")
    until(lambda: "not a registered workflow" in (own_host.run(chat)["obstacle"] or ""))
    assert own_host.rows("SELECT * FROM dbos.workflow_status") == before
    own_host.signal(signal.SIGTERM)
    own_host.ended()

    provider.behaviours = [answers]
    own_host.environment |= {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": provider.url}
    job.write_text(_JOB)
    own_host.start()
    # The delay that it had is kept.
    own_host.rows("UPDATE dbos.workflow_status SET delay_until_epoch_ms = 1 RETURNING 1")
    assert own_host.output(chat) == "Hello"


_KENNEL = "from dataclasses import dataclass\n\n@dataclass\nclass Dog:\n    name: str\n"
_LOOKING = '''\
import asyncio
from pathlib import Path
from typing import Any

from agents import Agent, RunHooks, function_tool
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS

import timestep
from workflows import kennel

if hasattr(kennel, "Dog"):
    timestep.register_type(kennel.Dog)

@function_tool
def look() -> Any:
    return kennel.Dog("Rex")

class Hooks(RunHooks[Any]):
    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        self.seen = getattr(self, "seen", result)

@DBOS.workflow()
async def looking(folder: str) -> str:
    """Looks at a dog, and holds."""
    @function_tool
    async def hold() -> str:
        Path(folder, "held").touch()
        while not Path(folder, "go").exists():
            await asyncio.sleep(0.01)
        return "held"

    turns = [[function_call(name, {}, call_id=name)] for name in ("look", "hold")]
    model = ScriptedModel([*turns, [assistant_message("ok")]])
    hooks = Hooks()
    await timestep.run_agent(Agent("Looker", model=model, tools=[look, hold]), "go", hooks=hooks)
    return f"{type(hooks.seen).__name__} {hooks.seen.name}"
'''


def test_a_class_that_is_missing_is_waited_for(own_host: Host, tmp_path: Path) -> None:
    kennel = Path(own_host.folder, "workflows", "kennel.py")
    kennel.write_text(_KENNEL)
    Path(own_host.folder, "workflows", "looking.py").write_text(_LOOKING)
    own_host.start()
    id_ = own_host.begin("looking", folder=str(tmp_path))
    until((tmp_path / "held").exists)
    own_host.signal(signal.SIGKILL)
    own_host.ended()

    (tmp_path / "go").touch()
    kennel.write_text("")
    own_host.start()
    put_back(own_host, id_)
    run = own_host.run(id_)
    assert "workflows.kennel:Dog" in run["obstacle"]
    assert (run["status"], run["is_stuck"]) == ("running", True)
    assert f"or end it with `timestep cancel {id_}`" in own_host.command("show", id_)
    assert "running (lacks something)" in " ".join(own_host.command("runs").split())
    assert own_host.get("/readyz").json() == {"status": "ok", "set_back": 1}
    own_host.signal(signal.SIGKILL)
    own_host.ended()

    kennel.write_text(_KENNEL)
    own_host.start()
    assert own_host.output(id_) == "Dog Rex"
    assert own_host.run(id_)["obstacle"] is None
