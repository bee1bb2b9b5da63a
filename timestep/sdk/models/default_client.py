"""Gives the SDK's own OpenAI clients connections of each event loop's own.

A connection belongs to the loop that made it, and a recovery runs on another loop than the
process's own code. A client that the user made is the user's: see `retry_policy.alone`.
"""

from __future__ import annotations

import asyncio
import functools
import weakref
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from openai import DefaultAsyncHttpx2Client


def shared_http_client(run: object, original: Any) -> httpx2.AsyncClient:
    """The HTTP client that all clients share which the SDK makes."""
    return _shared(original())


@functools.cache
def _shared(of_the_sdk: httpx2.AsyncClient) -> httpx2.AsyncClient:
    return _PerLoopClient(of_the_sdk)


class _PerLoopClient(httpx2.AsyncClient):
    """An HTTP client that sends through one of the running loop's own.

    Args:
        of_the_sdk: The SDK's, whose settings it has.
    """

    def __init__(self, of_the_sdk: httpx2.AsyncClient) -> None:
        super().__init__(timeout=of_the_sdk.timeout, follow_redirects=of_the_sdk.follow_redirects)
        self._of_loops: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, tuple[httpx2.AsyncClient, AsyncIterator[None]]
        ] = weakref.WeakKeyDictionary()

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        return await (await self._of_running_loop()).send(request, **options)

    async def _of_running_loop(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        found = self._of_loops.get(loop)
        if found is None:
            client = DefaultAsyncHttpx2Client()
            until_end = _closed_with_loop(client)
            found = self._of_loops[loop] = (client, until_end)
            await anext(until_end)
        return found[0]


async def _closed_with_loop(client: httpx2.AsyncClient) -> AsyncIterator[None]:
    """Close a client when its loop shuts its generators down; once begun, this is one of them."""
    try:
        yield
    finally:
        await client.aclose()
