"""A run that no live host executes is told as such, with what to do, and nothing false is told."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from agents import Agent
from agents.testing import assistant_message
from click.testing import CliRunner
from dbos import DBOS

import timestep
from tests.support.conditions import until
from tests.support.conversational_model import AnsweringModel
from tests.support.dbos_app import App
from tests.support.host_process import Host, lines, own_host, project
from timestep.cli import main

__all__ = ["own_host"]


def said(*arguments: str) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_what_a_host_left_is_told_until_somebody_goes_on_with_it(
    own_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own_host.folder)
    monkeypatch.setenv("TIMESTEP_DB_URL", own_host.database)
    own_host.environment["DBOS__VMID"] = "first host"
    own_host.start()
    workflow_id = own_host.begin("work", folder=str(tmp_path))
    until(lambda: len(lines(tmp_path, "held")) == 1)
    executor = own_host.run(workflow_id)["executor"]
    assert (executor["id"], executor["is_live"]) == ("first host", True)
    assert "no live host" not in said("show", workflow_id) + said("runs")
    own_host.signal(signal.SIGKILL)
    own_host.ended()
    # At once, as its process is seen to have ended: its claim holds for some seconds more.
    told = (
        f"{workflow_id}: no live host executes it (executor first host): start that executor "
        "again, a host with DBOS__VMID='first host' or your own application as it was, or go on "
        f"in another with `timestep resume {workflow_id} --from-checkpoint`, or end it with "
        f"`timestep cancel {workflow_id}`"
    )
    show = ("show", workflow_id)
    assert told in said(*show)
    assert told in said("runs")
    assert "running (no live host)" in said("runs")
    # Who is connected in another way is not who executes; another application may be.
    for name, heard in {"": False, "dbos_transact": True, "renamed": True}.items():
        with psycopg.connect(own_host.database, application_name=name) as connection:
            if name == "renamed":
                connection.execute("LISTEN dbos_streams_channel")
            assert ("no live host is its executor first host; if no app" in said(*show)) == heard
            assert (told in said(*show)) == (told in said("runs")) == (not heard)

    other = Host(project(tmp_path / "other"), own_host.database, DBOS__VMID="second")
    try:
        other.start()
        greeting = other.log.read_text()
        assert "1 workflow of the executor first host, which no live host is: start" in greeting
        assert f"timestep resume {workflow_id} --from-checkpoint" in greeting
        assert other.run(workflow_id)["executor"]["is_live"] is False
        (listed,) = other.get("/api/runs", workflow_id=workflow_id).json()["items"]
        assert listed["executor"] == other.run(workflow_id)["executor"]
        schema = other.get("/openapi.json").json()["components"]["schemas"]
        assert "is_live" in schema["RunExecutor"]["properties"]

        said("resume", workflow_id, "--from-checkpoint")
        (tmp_path / "go").touch()
        assert other.output(workflow_id) == "[offline model] all done"
        assert other.run(workflow_id)["executor"] is None
        assert "no live host" not in said("show", workflow_id) + said("runs")
    finally:
        other.close()


def test_an_application_that_embeds_timestep_is_not_said_to_be_gone(app: App) -> None:
    seen: list[Any] = []

    async def look(items: list[Any]) -> None:
        seen.append(await timestep.get_run("w"))

    class Looking(AnsweringModel):
        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            await look([])
            with psycopg.connect(app.url) as connection:
                connection.execute("UPDATE dbos.workflow_status SET executor_id = 'another'")
            await look([])
            with psycopg.connect(app.url) as connection:
                connection.execute("UPDATE dbos.workflow_status SET executor_id = 'local'")
            return await super().get_response(*args, **kwargs)

    agent = Agent(name="A", model=Looking(lambda items: [assistant_message("done")]))

    async def body() -> str:
        return str((await timestep.run_agent(agent, "go")).final_output)

    app.run(body, workflow_id="w")
    assert [one.executor.is_live for one in seen] == [True, None]
    assert seen[0].executor.id == DBOS.executor_id
    assert asyncio.run(timestep.get_run("w")).executor is None
