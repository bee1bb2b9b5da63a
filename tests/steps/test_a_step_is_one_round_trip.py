"""What a step costs the database: counted, not timed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from agents import Agent, GuardrailFunctionOutput, function_tool, output_guardrail
from agents.testing import assistant_message, function_call

import timestep
from tests.store import test_step_commit_is_the_golden_file
from tests.support.conversational_model import AnsweringModel, outputs
from tests.support.dbos_app import App
from timestep.database.async_pool import Sender
from timestep.store import step_commit

TURNS = 5
"""Turns that the longer of two runs has more."""

POLLERS = ("Thread-", "dbos-background", "queue", "timestep-watch")
"""Threads that ask the database whether a workflow is executed or not."""


@function_tool
async def look(name: str) -> str:
    return f"saw {name}"


@output_guardrail
async def short(ctx: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


def agent_with(turns: int, calls: int) -> Agent[Any]:
    """Calls a tool some times in each turn but its last."""

    def answer(items: list[Any]) -> list[Any]:
        seen = len(outputs(items))
        if seen == (turns - 1) * calls:
            return [assistant_message("done")]
        names = [str(seen + number) for number in range(calls)]
        return [function_call("look", {"name": name}, call_id=f"c{name}") for name in names]

    model = AnsweringModel(answer)
    return Agent("Looker", model=model, tools=[look], output_guardrails=[short])


class Trips:
    """Counts what a workflow asks the database, in whichever thread."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.sent = 0
        self.statements: set[str] = set()
        self.asked: list[str] = []

    def of(self, turns: int, calls: int, *, stream: bool) -> tuple[int, int, int]:
        """Of a workflow: steps' round trips, other statements, and transactions that wrote.

        The fewest of three times: PostgreSQL's own upkeep writes, too, now and then.
        """
        return min(self._of(turns, calls, stream) for _ in range(3))

    def _of(self, turns: int, calls: int, stream: bool) -> tuple[int, int, int]:
        agent = agent_with(turns, calls)

        async def body() -> str:
            run = await timestep.run_agent(agent, "go", stream=stream, max_turns=turns)
            return str(run.final_output)

        self.sent = 0
        self.asked.clear()
        before = self._transactions()
        assert self.app.run(body) == "done"
        return self.sent, len(self.asked), self._transactions() - before

    def _transactions(self) -> int:
        """How many have written so far: one that only reads has no id."""
        with psycopg.connect(self.app.url) as connection:
            (row,) = connection.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
        return int(row[0])


@pytest.fixture
def trips(app: App, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trips]:
    monkeypatch.delenv("TIMESTEP_ORDINARY_STEPS", raising=False)
    found = Trips(app)
    execute = Sender.execute

    async def sent(sender: Sender, sql: str, parameters: Sequence[bytes | None]) -> Any:
        # A connection prepares each statement once, with a round trip of its own.
        found.sent += 1
        found.statements.add(sql)
        return await execute(sender, sql, parameters)

    def asked(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not threading.current_thread().name.startswith(POLLERS):
            found.asked.append(statement)

    monkeypatch.setattr(Sender, "execute", sent)
    sa.event.listen(sa.Engine, "before_cursor_execute", asked)
    yield found
    sa.event.remove(sa.Engine, "before_cursor_execute", asked)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("calls", [1, 3])
def test_a_step_is_one_round_trip_and_one_transaction(
    trips: Trips, calls: int, stream: bool
) -> None:
    trips.of(3, calls, stream=stream)  # What is prepared and defined once is there by now.
    for turns in (3, 3 + TURNS):
        # A turn is an answer and its calls; the last one has a check and no calls.
        steps = turns + (turns - 1) * calls + 1
        sent, asked, written = trips.of(turns, calls, stream=stream)
        assert sent == steps + 2, "a statement each, and for the run's beginning and its end"
        assert asked == 3, trips.asked  # DBOS's, for a workflow.
        assert written == sent + 2


def test_steps_are_committed_as_the_documentation_shows(trips: Trips) -> None:
    trips.of(3, 1, stream=False)
    for tables in test_step_commit_is_the_golden_file.STEPS.values():
        shown = step_commit.statement(tables, "dbos", is_joint=True, is_outcome=True)
        assert step_commit.numbered(shown)[0] in trips.statements
