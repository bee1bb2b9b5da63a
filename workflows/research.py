"""A researcher: searches three sources at once, then sums up what they say."""

from typing import Any

from agents import Agent, ModelSettings, function_tool
from dbos import DBOS

import timestep
from timestep.offline import Call, Conversation, call, fallback, pause


@function_tool
async def search_papers(topic: str) -> str:
    """Scientific papers on a topic."""
    await pause()
    return f"'A survey of {topic}' finds 214 studies, most of them of the last three years"


@function_tool
async def search_news(topic: str) -> str:
    """Recent news on a topic."""
    await pause()
    return f"'{topic.capitalize()} leaves the laboratory' reports first use in industry"


@function_tool
async def search_encyclopedia(topic: str) -> str:
    """What an encyclopedia says of a topic."""
    await pause()
    return f"'{topic.capitalize()}' gives its history and names open questions"


SOURCES = (search_papers, search_news, search_encyclopedia)


def search(seen: Conversation) -> list[Call]:
    return [call(source.name, topic=seen.text) for source in SOURCES]


def summarize(seen: Conversation) -> str:
    return f"{seen.text.capitalize()}: {'; '.join(seen.output(s.name) for s in SOURCES)}."


researcher = Agent(
    name="Researcher",
    instructions="Search every source at once for the topic, then sum up in a few sentences.",
    tools=list(SOURCES),
    model_settings=ModelSettings(parallel_tool_calls=True),
    model=fallback(search, summarize),
)


@DBOS.workflow()
async def research(topic: str) -> dict[str, Any]:
    """Search several sources for a topic and sum up what they say."""
    result = await timestep.run_agent(researcher, topic, stream=True)
    findings = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
    return {"topic": topic, "summary": result.final_output, "findings": findings}
