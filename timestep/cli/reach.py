"""Reaches what a command is about: through the host that TIMESTEP_URL names, or the database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from timestep import config
from timestep.cli.direct import Direct
from timestep.cli.group import fail, run_async
from timestep.errors import ConfigurationError

if TYPE_CHECKING:
    from timestep.client.client import Client

    Reached = Client | Direct

T = TypeVar("T")


def is_remote() -> bool:
    """Whether commands go through a host."""
    return config.read().url is not None


def ask(work: Callable[[Reached], Coroutine[Any, Any, T]]) -> T:
    """Await `work` with what it asks. What is away, or was not made, is an error at once."""
    if not is_remote():
        return run_async(lambda: work(Direct()))

    import asyncio

    from timestep.client.client import Client

    async def through_host() -> T:
        async with Client() as client:
            return await work(client)

    return asyncio.run(through_host())


def refuse_host(what: str) -> None:
    """Refuse a command that is about this machine, or about its database, while a host is named."""
    # Settings that cannot be read are told by the command, as it tells them.
    with contextlib.suppress(ConfigurationError):
        if (url := config.read().url) is not None:
            fail(f"{what} does not go through a host, and TIMESTEP_URL names {url}: unset it first")
