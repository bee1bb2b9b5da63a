"""The runs of the crash matrix that have the structure of the Agents SDK's own examples.

They use the SDK's plain runner, as those do: `input_guardrails` of its agent patterns, its
research bot, and its session in memory. What ends first is what the structure says, by events.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from agents import (
    Agent,
    GuardrailFunctionOutput,
    InputGuardrailTripwireTriggered,
    ModelResponse,
    RunContextWrapper,
    Runner,
    SQLiteSession,
    WebSearchTool,
    input_guardrail,
)
from agents.testing import assistant_message
from dbos import DBOS
from pydantic import BaseModel

from tests.crash import scenarios


class SayingModel(scenarios.AnsweringModel):
    """Says something about the newest thing that it is told.

    Args:
        name: Its name.
        say: What it says.
        ready: Waited for before it answers, with what it is told.
    """

    def __init__(self, name: str, say: Callable[[str, int], Any], ready: Any = None) -> None:
        super().__init__(name, lambda items: [])
        self._base, self._say, self._ready = name, say, ready

    def _items(self, given: Any) -> list[Any]:
        items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        said = self._say(str(items[-1]["content"]), len(items))
        text = json.dumps(said) if isinstance(said, dict) else str(said)
        self.name = f"{self._base}: {items[-1]['content']}"
        self.answer = lambda _: [assistant_message(text)]
        return items

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        if self._ready is not None:
            asked = kwargs["input"]
            await self._ready(asked if isinstance(asked, str) else asked[-1]["content"])
        return await super().get_response(*args, **kwargs)


class MathHomeworkOutput(BaseModel):
    reasoning: str
    is_math_homework: bool


CAPITAL, HOMEWORK = "What's the capital of California?", "Can you help me solve 2x + 5 = 11?"


@DBOS.workflow()
async def input_guardrails(given: str) -> str:
    """Two questions; the second trips a guardrail while the model is being asked."""
    is_asked = asyncio.Event()

    async def ready(question: str) -> None:
        if question == HOMEWORK:
            is_asked.set()
            await asyncio.Event().wait()

    guardrail_agent = Agent(
        name="Guardrail check",
        model=SayingModel(
            "guardrail",
            lambda text, _: {"reasoning": text, "is_math_homework": text == HOMEWORK},
        ),
        output_type=MathHomeworkOutput,
    )

    @input_guardrail
    async def math_guardrail(
        context: RunContextWrapper[None], agent: Agent[Any], asked: Any
    ) -> GuardrailFunctionOutput:
        result = await Runner.run(guardrail_agent, asked, context=context.context)
        said = result.final_output_as(MathHomeworkOutput)
        if said.is_math_homework:
            await is_asked.wait()
        return GuardrailFunctionOutput(said, tripwire_triggered=said.is_math_homework)

    agent = Agent[None](
        name="Customer support agent",
        model=SayingModel("support", lambda text, count: f"answer {count}", ready),
        input_guardrails=[math_guardrail],
    )
    input_data: list[Any] = []
    for question in (CAPITAL, HOMEWORK):
        input_data.append({"role": "user", "content": question})
        try:
            result = await Runner.run(agent, input_data)
            input_data = result.to_input_list()
        except InputGuardrailTripwireTriggered:
            input_data.append({"role": "assistant", "content": "Sorry, no homework."})
    return " / ".join(map(_text, input_data))


class WebSearchItem(BaseModel):
    reason: str
    query: str


class WebSearchPlan(BaseModel):
    searches: list[WebSearchItem]


class ReportData(BaseModel):
    short_summary: str
    follow_up_questions: list[str]


SEARCHES = ["last", "first", "refused"]
ENDS = ["first", "refused", "last"]


@DBOS.workflow()
async def research(given: str) -> str:
    """A plan, searches beside each other that are used as they complete, a streamed report."""
    over = {query: asyncio.Event() for query in ENDS}

    async def ready(asked: str) -> None:
        query = asked.split()[0]
        if (before := ENDS.index(query) - 1) >= 0:
            await over[ENDS[before]].wait()

    def search(asked: str, count: int) -> str:
        if asked.startswith("refused"):
            raise ValueError("nothing is found")
        return f"found {asked}"

    searches = [{"reason": "to know", "query": query} for query in SEARCHES]
    planner = Agent(
        name="PlannerAgent",
        model=SayingModel("planner", lambda *_: {"searches": searches}),
        output_type=WebSearchPlan,
    )
    searcher = Agent(
        name="Search agent",
        model=SayingModel("search", search, ready),
        tools=[WebSearchTool()],
    )
    writer = Agent(
        name="WriterAgent",
        model=SayingModel(
            "writer", lambda text, _: {"short_summary": text, "follow_up_questions": ["why?"]}
        ),
        output_type=ReportData,
    )

    async def one(item: WebSearchItem) -> str | None:
        try:
            return str((await Runner.run(searcher, f"{item.query} {item.reason}")).final_output)
        except ValueError:
            return None
        finally:
            over[item.query].set()

    plan = (await Runner.run(planner, f"Query: {given}")).final_output_as(WebSearchPlan)
    tasks = [asyncio.create_task(one(item)) for item in plan.searches]
    found = [await task for task in asyncio.as_completed(tasks)]
    result = Runner.run_streamed(writer, f"{given}: {found}")
    async for _ in result.stream_events():
        pass
    report = result.final_output_as(ReportData)
    return f"{report.short_summary} {report.follow_up_questions}"


@DBOS.workflow()
async def remembered(given: str) -> str:
    """Three runs of one session, which is gone with its process."""
    agent = Agent(
        name="Assistant",
        model=SayingModel("assistant", lambda text, count: f"{text} is item {count}"),
    )
    session = SQLiteSession("conversation_123")
    for question in ("city", "state", "population"):
        await Runner.run(agent, question, session=session)
    latest = [_text(item) for item in await session.get_items(limit=2)]
    count = len(await session.get_items())
    session.close()
    return f"{latest} of {count}"


def _text(item: Any) -> str:
    content = item["content"]
    return content if isinstance(content, str) else str(content[0]["text"])
