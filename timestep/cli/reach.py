"""Reaches what a command is about: through the host that TIMESTEP_URL names, or the database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from timestep import config
from timestep.cli import output
from timestep.cli.direct import Direct
from timestep.cli.group import fail, run_async
from timestep.errors import ConfigurationError, HostUnreachableError

if TYPE_CHECKING:
    from timestep.client.client import Client

    Reached = Client | Direct

T = TypeVar("T")

_INTERRUPTED = 130
"""As a shell says that a program was ended by SIGINT."""
_PATIENCE = 10.0
"""Seconds until a host is given up."""


def is_remote() -> bool:
    """Whether commands go through a host."""
    return config.read().url is not None


def ask(work: Callable[[Reached], Coroutine[Any, Any, T]], *, left: str | None = None) -> T:
    """Await `work` with what it asks. What is away, or was not made, is an error at once.

    Args:
        work: Asks a host or the database.
        left: What is told where Ctrl-C ends it, with the exit status 130; None: as click tells it.
    """
    try:
        return _ask(work)
    except KeyboardInterrupt:
        if left is None:
            raise
        output.tell("")  # Behind the terminal's ^C.
        output.tell(left)
        raise SystemExit(_INTERRUPTED) from None


def _ask(work: Callable[[Reached], Coroutine[Any, Any, T]]) -> T:
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


def page_of_host(run: str | None) -> str:
    """The address of the page of a host, or of a run there.

    Of the host that TIMESTEP_URL names; else of this machine's, at TIMESTEP_HOST and TIMESTEP_PORT.

    Args:
        run: The id of a run, or of a workflow.

    Raises:
        ConfigurationError: The settings cannot work, or do not tell which port it is.
        HostUnreachableError: No host is there.
        RemoteError: What is there is none.
    """
    settings = config.read()
    url = settings.url or _own_address(settings)

    import asyncio

    from timestep.client.connection import Connection, segment

    async def base() -> str:
        connection = Connection(url, None, timeout=_PATIENCE, plain_http=False, transport=None)
        try:
            await connection.ask("GET", "/healthz")
        except HostUnreachableError as error:
            if settings.url is not None:
                raise
            raise HostUnreachableError(
                f"{error.message}: start a host with `timestep serve`, or name one with "
                "TIMESTEP_URL"
            ) from error
        finally:
            await connection.close()
        return connection.url

    return asyncio.run(base()) + ("/" if run is None else f"/runs/{segment(run)}")


def _own_address(settings: config.Settings) -> str:
    """Where a host of this machine listens, as a browser reaches it."""
    if settings.port == 0:
        raise ConfigurationError(
            "TIMESTEP_PORT=0 lets a host take any free port: set TIMESTEP_URL to the address that "
            "`timestep serve` told"
        )
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name := settings.host.strip("[]"), name)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
