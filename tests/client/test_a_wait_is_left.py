"""A blocking call that is left, as by Ctrl-C, is not waited for any more."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator

import httpx
import pytest

from timestep import BlockingClient


class Silent(httpx.AsyncByteStream):
    """A stream that says nothing, and takes a while to be closed."""

    def __init__(self) -> None:
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        await asyncio.Event().wait()
        yield b""

    async def aclose(self) -> None:
        await asyncio.sleep(0.05)
        self.is_closed = True


def test_events_that_are_left_in_the_middle_are_closed() -> None:
    silent = Silent()
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=silent)
    network = httpx.MockTransport(lambda request: answer)
    with BlockingClient("http://127.0.0.1", transport=network) as client:
        with pytest.raises(KeyboardInterrupt):
            list(client.events("w"))
        assert silent.is_closed
