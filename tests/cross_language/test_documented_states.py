"""The documents' TypeScript programs go on with what Python saved: docs/run-states.md."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
from agents import Agent, Runner, function_tool
from agents.testing import ScriptedModel, function_call

import timestep
from tests.cross_language.documented_programs import SESSIONS, write_states
from tests.cross_language.javascript import compile_typescript, programs_path, ran
from tests.support.documented_examples import examples
from tests.support.model_provider import Provider, answers, provider
from timestep import DatabaseRunStateStore
from timestep.database import migrations

__all__ = ["provider"]


async def _ask(url: str, session: str) -> None:
    """Save the state of a run that has asked for an approval."""

    @function_tool(needs_approval=True)
    def refund(order: str) -> str:
        raise AssertionError("the call is the other language's")

    model = ScriptedModel([[function_call("refund", {"order": "7"}, call_id="c1")]])
    agent = Agent("assistant", model=model, tools=[refund])
    async with DatabaseRunStateStore(agent, session_id=session, connection_string=url) as store:
        await store.save((await Runner.run(agent, "It came broken.")).to_state())


def test_they_go_on_with_a_state_of_python(
    database_url: str, packages: Path, provider: Provider
) -> None:
    written = write_states(packages)
    # The types of the JavaScript SDK itself are not right with those of Node.
    compile_typescript(packages, *written, "--skipLibCheck")
    for session in SESSIONS.values():
        asyncio.run(_ask(database_url, session))
    provider.behaviours = [answers, answers]
    said = ran(
        packages,
        "--input-type=module",
        "--eval",
        "".join(f"await import('./made/{name[:-3]}.js');" for name in written),
        DATABASE=database_url,
        OPENAI_BASE_URL=provider.url,
        OPENAI_API_KEY="sk-test",
        OPENAI_AGENTS_DISABLE_TRACING="1",
    )
    assert [json.loads(line) for line in said.splitlines()] == ["Hello", "Hello"]
    for request in provider.requests:
        assert request["input"][-1]["output"] == "refunded 7"
    with psycopg.connect(database_url) as connection:
        saved = connection.execute(
            "SELECT session_key, sdk, state_type FROM run_states s "
            "JOIN runs r ON r.id = s.run_id JOIN sessions k ON k.id = r.session_id "
            "WHERE s.is_active"
        ).fetchall()
    assert sorted(saved) == sorted((name, "javascript", "final") for name in SESSIONS.values())


@pytest.mark.long
def test_the_package_is_installed_as_the_page_says(tmp_path: Path) -> None:
    """From a folder of packages that has Timestep, as it is where its wheel is installed."""
    installed = Path(timestep.__file__).parent
    shutil.copytree(installed, tmp_path / "timestep")
    shutil.copytree(migrations.directory(), tmp_path / "timestep" / "migrations")
    project = tmp_path / "project"
    project.mkdir()
    (project / "package.json").write_text('{"type": "module"}')
    (command,) = (
        text for text in examples("docs/run-states.md", "sh") if text.startswith("npm install")
    )
    environment = {**os.environ, "PATH": programs_path(tmp_path), "PYTHONPATH": str(tmp_path)}
    subprocess.run(["bash", "-euc", command], cwd=project, env=environment, check=True)
    code = """
        import { createRunStateStore } from '@timestep-ai/timestep';
        import { createClient } from '@timestep-ai/timestep/client';
        import { run } from '@openai/agents';
        console.log(typeof createRunStateStore, typeof createClient, typeof run);
    """
    assert ran(project, "--input-type=module", "--eval", code).split() == ["function"] * 3
    kept = project / "node_modules" / "@timestep-ai" / "timestep" / "migrations"
    assert sorted(kept.iterdir())[0].name.startswith("001_")
