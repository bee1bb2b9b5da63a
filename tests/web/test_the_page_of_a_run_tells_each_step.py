"""The page of a run that did a bit of everything."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    ToolGuardrailFunctionOutput,
    function_tool,
    input_guardrail,
    tool_input_guardrail,
)
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.usage import Usage
from fastapi import FastAPI

import timestep
from tests.support.api_client import asking, client_of
from tests.support.dbos_app import App

USED = Usage(requests=1, input_tokens=100, output_tokens=20, total_tokens=120)


@input_guardrail(run_in_parallel=False)
async def polite(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    return GuardrailFunctionOutput(output_info={"words": 3}, tripwire_triggered=False)


@tool_input_guardrail
def careful(data: Any) -> ToolGuardrailFunctionOutput:
    return ToolGuardrailFunctionOutput.reject_content("not that one")


@function_tool
def look(name: str) -> str:
    """Look at something."""
    return f"saw {name}"


@function_tool(tool_input_guardrails=[careful])
def touch(name: str) -> str:
    """Touch something."""
    return f"touched {name}"


@timestep.tool_options(retries=1, retry_delay=0.001)
@function_tool
def fail(name: str) -> str:
    """Fail."""
    raise OSError(f"no {name}")


def scripted(*steps: Any) -> ScriptedModel:
    return ScriptedModel([ModelStep(list(step), usage=USED) for step in steps])


def text_of(page: str) -> str:
    """What a person reads of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", re.sub("</?bdi>", "", page))).split())


def test_each_step_is_told(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", app.url)

    async def body() -> Any:
        inner = Agent(
            name="Inner",
            tools=[look],
            model=scripted(
                [function_call("look", {"name": "moon"}, call_id="m")], [assistant_message("round")]
            ),
        )
        last = Agent(name="Last", model=scripted([assistant_message("it is done")]))
        first = Agent(
            name="First",
            instructions="Do everything.",
            input_guardrails=[polite],
            tools=[inner.as_tool("ask_inner", "asks"), touch, fail],
            handoffs=[last],
            model=scripted(
                [
                    function_call("ask_inner", {"input": "what is it?"}, call_id="a"),
                    function_call("touch", {"name": "wire"}, call_id="b"),
                ],
                [function_call("fail", {"name": "luck"}, call_id="c")],
                [function_call("transfer_to_last", {}, call_id="d")],
            ),
        )
        return (await timestep.run_agent(first, "please do it")).final_output

    app.run(body, "everything")

    async def work(web: FastAPI) -> None:
        async with client_of(web, "127.0.0.1") as client:
            client.headers["accept"] = "text/html"
            page = (await client.get("/runs/everything")).text
            told = text_of(page)
            for expected in (
                "Completed",
                "it is done",
                "400 in, 80 out",
                "guardrail polite passed",
                "model First calls ask_inner, touch",
                "run of Inner inside",
                "careful of the input: rejected: not that one",
                'fail {"name": "luck"} answered with an error 2 attempts',
                "1 failed: OSError: no luck",
                "handoff hands over to Last",
                "model Last it is done",
                "so far 480",
                "Do everything.",
                "input please do it",
                'output of ask_inner "round"',
                "SELECT * FROM tool_calls WHERE id = '",
                "timestep show everything",
            ):
                assert expected in told, f"{expected!r} is not in {told}"
            assert told.index("model First hands over") < told.index("handoff hands over to Last")
            inside = re.search(r'data-load="(/runs/[^"]*)"', page)
            assert inside is not None
            nested = text_of((await client.get(html.unescape(inside[1]))).text)
            assert 'tool look {"name": "moon"}' in nested
            assert "another run" in nested
            assert "Fork from here" not in nested
            # Without a script a link asks for the page with its turns.
            link = re.search(r'<noscript><a href="([^"]*)"', page)
            assert link is not None
            opened = (await client.get(html.unescape(link[1]))).text
            assert 'tool look {"name": "moon"}' in text_of(opened)
            ids = re.findall(r' id="([^"]*)"', opened)
            assert len(ids) == len(set(ids))
            assert html.unescape(link[1]).partition("#")[2] in ids
            assert "<noscript>" not in opened
            # Each step has a place that a link leads to.
            for path, anchor in re.findall(r'href="(/runs/[^"#]*)#([a-z]+-[0-9a-f-]+)"', page):
                assert f'id="{anchor}"' in (await client.get(html.unescape(path))).text

    asking(work)
