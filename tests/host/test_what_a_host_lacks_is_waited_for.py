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
