"""An assistant that looks words up before it answers."""

from agents import Agent, function_tool
from dbos import DBOS

import timestep
from timestep.offline import Call, Conversation, call, fallback

MEANINGS = {"run": "one call of Runner.run", "turn": "one answer of a model, and what it calls"}


# A tool of the Agents SDK. Each of its calls is recorded, and is not made again after a crash. One
# whose effect must not happen twice is decorated with @timestep.tool_options(safe_to_repeat=False);
# one that a person has to allow is a @function_tool(needs_approval=True).
@function_tool
def look_up(word: str) -> str:
    """What a word means here."""
    return MEANINGS.get(word.lower(), "nobody has said what that means")


# What the offline model does, which answers where there is no OPENAI_API_KEY, as in the tests.
# Leave the agent's `model` out once there always is one.
def look_up_the_last_word(seen: Conversation) -> list[Call]:
    return [call("look_up", word=seen.text.split()[-1].strip("?."))]


def tell(seen: Conversation) -> str:
    return f"It is {seen.output('look_up')}."


assistant = Agent(
    name="Assistant",
    instructions="Look up the words that a question is about, then answer in one sentence.",
    tools=[look_up],
    model=fallback(look_up_the_last_word, tell),
)


# An entrypoint: `timestep start answer --input '{"question": "What is a turn?"}'`. Its parameters'
# annotations say what it may be given. What it does between its runs is repeated after a crash, so
# nothing in it may depend on the time, on chance or on other systems: that belongs into tools, or
# into functions that are decorated with @DBOS.step().
@DBOS.workflow()
async def answer(question: str) -> str:
    """Answer a question about the words of this application."""
    result = await timestep.run_agent(assistant, question)
    return str(result.final_output)
