"""The run of the crash matrix whose model refuses each request once, and answers the next."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
from agents import Agent, ModelResponse
from agents.testing import assistant_message, function_call
from dbos import DBOS

import timestep
from tests.crash import scenarios


class RefusingModel(scenarios.AnsweringModel):
    """Has too much to do the first time that it is asked for an answer; each is an effect."""

    def __init__(self, name: str, answer: scenarios.Answer) -> None:
        super().__init__(name, answer)
        self.refused: set[int] = set()

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        count = len(self._items(kwargs["input"]))
        if count not in self.refused:
            self.refused.add(count)
            scenarios.boundaries.effect(f"model {self.name} {count} refuses")
            request = httpx2.Request("POST", "http://provider.test")
            response = httpx2.Response(429, headers={"retry-after-ms": "1"}, request=request)
            raise openai.RateLimitError("too much to do", response=response, body=None)
        return await super().get_response(*args, **kwargs)


busy = Agent(
    name="Busy",
    model=RefusingModel(
        "busy",
        lambda items: (
            [assistant_message(" / ".join(scenarios.outputs(items).values()))]
            if scenarios.outputs(items)
            else [function_call("look_up", {"city": "Oslo"}, call_id="c1")]
        ),
    ),
    tools=[scenarios.look_up],
)


@DBOS.workflow()
async def retried(given: str) -> str:
    result = await timestep.DurableRunner.run(busy, given)
    return f"{result.final_output} after {result.context_wrapper.usage.requests} requests"
