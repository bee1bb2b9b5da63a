"""Runs side by side that end in a given order, and ways to use what they say as they complete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from agents import Agent, Model
from agents.testing import ScriptedModel, assistant_message

import timestep
from timestep import DurableRunner

Consume = Callable[[Sequence["asyncio.Task[str]"]], Awaitable[list[str]]]


class TurnsModel(Model):
    """Answers once it is its turn; what is said follows from what is asked."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    async def get_response(self, *args: Any, **kwargs: Any) -> Any:
        name = _asked(kwargs["input"])
        await self.turns.turn_of(name)
        if name.startswith("bad"):
            raise ValueError(name)
        return await ScriptedModel([[assistant_message(f"{name}!")]]).get_response(*args, **kwargs)

    async def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        name = _asked(args[1])
        await self.turns.turn_of(name)
        async for event in ScriptedModel([[assistant_message(f"{name}!")]]).stream_response(
            *args, **kwargs
        ):
            yield event


def _asked(given: Any) -> str:
    return given if isinstance(given, str) else str(given[-1]["content"])


class Turns:
    """Lets what is named come about in this order; what is not named does so at once."""

    def __init__(self, *names: str) -> None:
        self._left = list(names)
        self._changed = asyncio.Condition()

    async def turn_of(self, name: str) -> None:
        if name not in self._left:
            return
        async with self._changed:
            await self._changed.wait_for(lambda: self._left[0] == name)

    async def over(self, name: str) -> None:
        """The next one's turn."""
        if name in self._left:
            async with self._changed:
                self._left.remove(name)
                self._changed.notify_all()


class Team:
    """Runs agents whose runs end in a given order, and then one that is told that order."""

    def __init__(self, *order: str, stream: bool = False) -> None:
        self.turns = Turns(*order)
        self.agent = Agent(name="A", model=TurnsModel(self.turns))
        self.stream = stream

    async def one(self, name: str) -> str:
        try:
            result = await timestep.run_agent(self.agent, name, stream=self.stream)
            said = str(result.final_output)
        except ValueError as error:
            said = f"no {error}"
        await self.turns.over(name)
        return said

    async def then(self, said: list[str]) -> str:
        result = await DurableRunner.run(self.agent, f"after {said}")
        return str(result.final_output)


async def as_completed(tasks: Sequence[asyncio.Task[str]]) -> list[str]:
    return [await next_one for next_one in asyncio.as_completed(tasks)]


async def gathered(tasks: Sequence[asyncio.Task[str]]) -> list[str]:
    return await asyncio.gather(*tasks)


async def first_completed(tasks: Sequence[asyncio.Task[str]]) -> list[str]:
    said, pending = [], set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        said.extend(sorted(task.result() for task in done))
    return said


async def queued(tasks: Sequence[asyncio.Task[str]]) -> list[str]:
    queue: asyncio.Queue[str] = asyncio.Queue()

    async def put(task: asyncio.Task[str]) -> None:
        await queue.put(await task)

    putting = [asyncio.ensure_future(put(task)) for task in tasks]
    said = [await queue.get() for _ in tasks]
    await asyncio.gather(*putting)
    return said


async def called_back(tasks: Sequence[asyncio.Task[str]]) -> list[str]:
    said: list[str] = []
    for task in tasks:
        task.add_done_callback(lambda done: said.append(done.result()))
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    return said


def of_team(make: Callable[[], Team], consume: Consume) -> Callable[[], Coroutine[Any, Any, str]]:
    async def body() -> str:
        team = make()
        names = ["one", "two", "bad", "four"]
        said = await consume([asyncio.ensure_future(team.one(name)) for name in names])
        # A task of its own for each: which one begins is told by its number.
        more = [asyncio.ensure_future(team.one(f"more {text}")) for text in said]
        return f"{await team.then(said)} {await asyncio.gather(*more)}"

    return body
