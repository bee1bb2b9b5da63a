"""`timestep sessions`, `agents` and `graph` tell what runs recorded, fit for a terminal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agents import Agent, function_tool, handoff
from agents.testing import ScriptedModel, assistant_message, function_call
from click.testing import CliRunner, Result

import timestep
from tests.support.dbos_app import App, run_it
from timestep import DatabaseSession
from timestep.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def items(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(*arguments, "--json").stdout)["items"]
    return found


@function_tool
def look(name: str) -> str:
    """Look at something."""
    return f"saw {name}"


def test_what_runs_recorded_is_listed(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)
    assert run("sessions").stdout == "No sessions.\n"
    assert run("agents").stdout == "No agents: no run is recorded.\n"
    assert run("graph", "run_it").exit_code == 1

    last = Agent(name="Last\x1b[31m", model=ScriptedModel([[assistant_message("bye\x07")]]))
    script = [
        [function_call("look", {"name": "a"}, call_id="c1")],
        [function_call("go_on", {}, call_id="c2")],
    ]
    first = Agent(
        name='First "one"',
        model=ScriptedModel(script),
        tools=[look],
        handoffs=[handoff(last, tool_name_override="go_on")],
    )

    async def body() -> Any:
        return (await timestep.run_agent(first, "hi", session=DatabaseSession("talk"))).final_output

    app.run(body, "w")

    (session,) = items("sessions")
    assert (session["session_id"], session["items"]) == ("talk", 6)
    assert "talk" in run("sessions").stdout
    inside = items("sessions", "talk")
    assert [one["item_type"] for one in inside].count("function_call") == 2
    assert inside[0]["item_data"]["content"] == "hi"
    text = run("sessions", "talk").stdout
    assert text.startswith("user: hi\n")
    assert "→ look(" in text
    assert text.endswith("assistant: bye\\x07\n")
    missing = run("sessions", "nope")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "there is no session 'nope'" in missing.stderr

    found = {one["name"]: one for one in items("agents")}
    assert found['First "one"']["tools"] == ["look"]
    assert found['First "one"']["handoffs"] == ["Last\x1b[31m"]
    listed = run("agents").stdout
    assert "Last\\x1b[31m" in listed
    assert "\x1b" not in listed

    name = run_it.__qualname__
    drawn = run("graph", name).stdout.splitlines()
    assert drawn[:2] == ["flowchart TD", f'    entrypoint(["{name}"])']
    nodes = dict(line.strip().removesuffix("]").split("[", 1) for line in drawn[2:4])
    by_label = {label: node for node, label in nodes.items()}
    one, other = by_label['"First #quot;one#quot;"'], by_label['"Last\\x1b[31m"']
    assert drawn[4:] == [f"    entrypoint --> {one}", f'    {one} -->|"go_on"| {other}']
    assert json.loads(run("graph", name, "--json").stdout)["mermaid"] == "\n".join(drawn)
    unknown = run("graph", "nope")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert "no run of an entrypoint 'nope' is recorded" in unknown.stderr
