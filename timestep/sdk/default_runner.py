"""Chooses between the durable runner and the SDK's own, as the SDK's default runner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents.run import AgentRunner


class DispatchingRunner(AgentRunner):
    """The SDK's default runner: durable where `chooses` says so, else its own.

    Args:
        durable: Runs durably.
        chooses: Whether the caller's run is to be durable.
        replaced: The default runner of before, to put back.
    """

    def __init__(self, durable: Any, chooses: Callable[[], bool], replaced: AgentRunner) -> None:
        self.durable = durable
        self.chooses = chooses
        self.replaced = replaced

    async def run(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:  # noqa: A002
        if self.chooses():
            return await self.durable.run(starting_agent, input, **kwargs)
        return await super().run(starting_agent, input, **kwargs)

    def run_streamed(self, starting_agent: Any, input: Any, **kwargs: Any) -> Any:  # noqa: A002
        if self.chooses():
            return self.durable.run_streamed(starting_agent, input, **kwargs)
        return super().run_streamed(starting_agent, input, **kwargs)
