"""The blocking form of the client, for code without an event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from timestep.client.client import Client

P = ParamSpec("P")
T = TypeVar("T")

_END = object()


def _blocking(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingClient, P], T]:
    """A method that waits for what one of `Client` gives."""

    @functools.wraps(method)
    def call(self: BlockingClient, /, *args: P.args, **options: P.kwargs) -> T:
        return self._wait(method(self._client, *args, **options))

    return call


def _iterated(
    method: Callable[Concatenate[Client, P], AsyncIterator[T]],
) -> Callable[Concatenate[BlockingClient, P], Iterator[T]]:
    """A method that iterates over what one of `Client` gives."""

    @functools.wraps(method)
    def call(self: BlockingClient, /, *args: P.args, **options: P.kwargs) -> Iterator[T]:
        return self._each(method(self._client, *args, **options))

    return call


class BlockingClient:
    """`Client` with the same calls, which block; a context manager.

    It is a class of its own, and no method of `Client`, because it has an event loop: in a thread
    of its own, so that it works where a loop runs already, as in a notebook, and its iterators may
    be left and gone on with.

    Args:
        url: As those of `Client`, and so are the others.
        options: See there.
    """

    def __init__(self, url: str | None = None, token: str | None = None, **options: Any) -> None:
        self._client = Client(url, token, **options)
        self._loop = asyncio.new_event_loop()
        # Of a client that nobody closes, the process does not wait for the end.
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="timestep-client", daemon=True
        )
        self._thread.start()

    def __repr__(self) -> str:
        return repr(self._client).replace("Client", "BlockingClient", 1)

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and end the thread; to do so again does nothing."""
        if self._loop.is_closed():
            return
        self._wait(self._client.close())
        self._wait(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        found = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return found.result()
        finally:
            # Where it is left, as by Ctrl-C, what is asked for is not waited for any more.
            found.cancel()

    def _each(self, found: AsyncIterator[T]) -> Iterator[T]:
        reading: asyncio.Task[Any] | None = None

        async def following() -> Any:
            nonlocal reading
            reading = asyncio.current_task()
            return await anext(found, _END)

        async def leave() -> None:
            if reading is not None and not reading.done():
                # It is left in the middle, and does not end at once.
                if not reading.cancelling():
                    reading.cancel()
                await asyncio.wait({reading})
            await found.aclose()  # type: ignore[attr-defined]  # those of Client are generators

        try:
            while (one := self._wait(following())) is not _END:
                yield one
        finally:
            self._wait(leave())

    workflows = _blocking(Client.workflows)
    start = _blocking(Client.start)
    get_run = _blocking(Client.get_run)
    list_runs = _iterated(Client.list_runs)
    page_of_runs = _blocking(Client.page_of_runs)
    list_items = _blocking(Client.list_items)
    list_tool_calls = _blocking(Client.list_tool_calls)
    traceback = _blocking(Client.traceback)
    graph = _blocking(Client.graph)
    events = _iterated(Client.events)
    interruptions = _blocking(Client.interruptions)
    resume = _blocking(Client.resume)
    cancel = _blocking(Client.cancel)
    fork = _blocking(Client.fork)
    usage = _blocking(Client.usage)
    sessions = _blocking(Client.sessions)
    session_items = _blocking(Client.session_items)
    agents = _blocking(Client.agents)
    audit = _iterated(Client.audit)
    tokens = _blocking(Client.tokens)
    create_token = _blocking(Client.create_token)
    revoke_token = _blocking(Client.revoke_token)
