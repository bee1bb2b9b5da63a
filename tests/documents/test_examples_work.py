"""The examples of the documents do what the documents say: Python and SQL."""

from __future__ import annotations

import ast
import asyncio
import os

import psycopg
import pytest

from tests.support import forked_processes
from tests.support.documented_examples import ROOT, all_examples, examples
from tests.support.host_process import Host, host

__all__ = ["host"]

URL = "postgresql://user:pass@localhost/"
"""Of the database in the examples, with its name."""

_PRELUDE = """
import asyncio, os
from agents import set_tracing_disabled
from agents.models.multi_provider import MultiProvider
from agents.testing import ScriptedModel, assistant_message, function_call
from dbos import DBOS, SetWorkflowID
import timestep

set_tracing_disabled(True)
MODEL = ScriptedModel({model})
MultiProvider.get_model = lambda self, name: MODEL
"""
_LAUNCH = """
timestep.install()
DBOS(config={"name": "examples", "system_database_url": os.environ["TIMESTEP_DB_URL"]})
"""
_LAUNCHED = "DBOS.launch()"


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    return {**os.environ, "TIMESTEP_DB_URL": database_url}


def ran(environment: dict[str, str], *parts: str, model: str = "[]") -> list[str]:
    """The lines that a program of these parts writes, with a model that says what is given."""
    program = "\n".join([_PRELUDE.format(model=model), *parts, "DBOS.destroy()"])
    done = forked_processes.run("-c", program, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


CALLS = "[[function_call({name!r}, {arguments!r}, call_id='c1')], [assistant_message('done')]]"


def test_a_tool_of_ones_own(environment: dict[str, str]) -> None:
    for page in ("README.md", "docs/embedding.md"):
        (example, *_) = examples(page, "python")
        ask = "print(asyncio.run(weather('How is Oslo?'))); print(MODEL.calls[-1].input[-1])"
        model = CALLS.format(name="get_weather", arguments={"city": "Oslo"})
        answer, shown = ran(environment, _LAUNCH, example, _LAUNCHED, ask, model=model)
        assert answer == "done"
        assert "It is sunny in Oslo." in shown


def test_an_application_of_dbos(environment: dict[str, str]) -> None:
    (_, example) = examples("docs/embedding.md", "python")
    assert URL + "support" in example
    example = example.replace(URL + "support", environment["TIMESTEP_DB_URL"])
    ask = """
with SetWorkflowID("w"):
    print(asyncio.run(answer("Where is it?")))
print([step["function_name"] for step in DBOS.list_workflow_steps("w")])
"""
    answer, steps = ran(environment, example, ask, model="[[assistant_message('here')]]")
    assert answer == "here"
    assert "turn 1: Support" in steps


def test_an_approval(environment: dict[str, str]) -> None:
    asks, decides = examples("docs/approvals.md", "python")
    work = """
async def work():
    with SetWorkflowID("w"):
        run = asyncio.create_task(support("My order 7 came broken."))
    while not await timestep.list_interruptions():
        await asyncio.sleep(0.01)
    await decide()
    return await run

print(asyncio.run(work()))
print(MODEL.calls[-1].input[-1]["output"])
"""
    arguments = {"order": "7", "cents": 500}
    told, answer, output = ran(
        environment, _LAUNCH, asks, decides, _LAUNCHED, work,
        model=CALLS.format(name="refund", arguments=arguments),
    )  # fmt: skip
    assert told == "Refund 500 cents of order 7"
    assert (answer, output) == ("done", "refunded 500 cents of order 7")


def test_a_tool_that_pays_once(environment: dict[str, str]) -> None:
    (example,) = examples("docs/tools.md", "python")
    around = """
from agents import Agent, Runner, function_tool

class payments:
    @staticmethod
    def refund(order, cents, idempotency_key):
        return f"{order} {cents} {len(idempotency_key) > 20}"
"""
    work = """
@DBOS.workflow()
async def work():
    return (await Runner.run(Agent("A", tools=[refund]), "go")).final_output

print(asyncio.run(work()))
print(MODEL.calls[-1].input[-1]["output"])
"""
    model = CALLS.format(name="refund", arguments={"order": "7", "cents": 5})
    assert ran(environment, _LAUNCH, around, example, _LAUNCHED, work, model=model) == [
        "done",
        "7 5 True",
    ]


def test_a_session_and_who_follows(environment: dict[str, str]) -> None:
    (chats,) = examples("docs/sessions.md", "python")
    (follows,) = examples("docs/models.md", "python")
    body = "\n".join(f"    {line}" for line in follows.splitlines())
    work = f"""
async def follow(workflow_id, last_cursor):
{body}

async def work():
    for message in ("I am Ann.", "Who am I?"):
        with SetWorkflowID(message[:3]):
            print(await chat("7", message))
    print([one["content"] for one in MODEL.calls[-1].input if one["role"] == "user"])
    await follow("Who", None)

asyncio.run(work())
"""
    model = "[[assistant_message('hello')], [assistant_message('Ann')]]"
    first, second, heard, *events = ran(environment, _LAUNCH, chats, _LAUNCHED, work, model=model)
    assert (first, second, heard) == ("hello", "Ann", "['I am Ann.', 'Who am I?']")
    assert [event.split()[2] for event in events[-2:]] == ["message_output_item", "run.completed"]


def test_a_fork(environment: dict[str, str]) -> None:
    (example,) = examples("README.md", "python")
    (forks,) = examples("docs/forks.md", "python")
    work = """
with SetWorkflowID("night-shift"):
    asyncio.run(weather("How is Oslo?"))
print(DBOS.retrieve_workflow(asyncio.run(try_again())).get_result())
print(MODEL.calls[-1].system_instructions)
print(len(MODEL.calls))
"""
    model = CALLS.format(name="get_weather", arguments={"city": "Oslo"})
    model = model[:-1] + ", [assistant_message('again')]]"
    assert ran(environment, _LAUNCH, example, forks, _LAUNCHED, work, model=model) == [
        "again",
        "Restart nothing that customers use.",
        "3",
    ]


def test_a_client(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = examples("docs/clients.md", "python")
    started = '"research", {"topic": "tides"}'
    assert started in example
    example = example.replace(started, '"greet", {"name": "tides"}')
    example = example.replace("https://runs.example.com", host.url)
    asking = host.begin("ask", target="moon")
    host.run_when(asking, "interrupted")
    code = compile(example, "clients.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    asyncio.run(eval(code, {"token": None}))
    *_, completed, answer = capsys.readouterr().out.splitlines()
    assert (completed, answer) == ("run.completed", "[offline model] hello tides")
    assert host.output(asking) == "[offline model] launched moon"


def test_queries_are_answered(database_url: str) -> None:
    queries = [one.text for one in all_examples() if one.language == "sql"]
    assert len(queries) >= 5
    with psycopg.connect(database_url) as connection:
        for query in queries:
            assert connection.execute(query.encode()).description
