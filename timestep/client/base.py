"""What every call of a client stands on: its host, and answers as records."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from timestep import config
from timestep.client.connection import Connection
from timestep.client.documents import record
from timestep.errors import ConfigurationError
from timestep.operations.queries.pagination import LONGEST, Page

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

_TIMEOUT = 30.0


class Base:
    """A client of one host, as `Client` tells."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = _TIMEOUT,
        plain_http: bool | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        settings = config.read()
        if url is None and (url := settings.url) is None:
            raise ConfigurationError("no host is named: give Client its URL, or set TIMESTEP_URL")
        if token is None and settings.token is not None:
            token = settings.token.get_secret_value()
        self._connection = Connection(
            url,
            token,
            timeout=timeout,
            plain_http=settings.plain_http if plain_http is None else plain_http,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    def _record(self, kind: type[T], document: Any) -> T:
        try:
            return record(kind, document)
        except ValueError as error:
            raise self._connection.odd(error) from error

    def _text(self, document: Any, name: str) -> str:
        """What an answer says under a name."""
        if not isinstance(document, dict) or not isinstance(found := document.get(name), str):
            raise self._connection.odd(f"it has no {name}")
        return found

    async def _page(self, kind: type[T], path: str, query: Mapping[str, Any]) -> Page[T]:
        found = await self._connection.ask("GET", path, query=query)
        if not isinstance(found, dict) or not isinstance(found.get("items"), list):
            raise self._connection.odd(f"{path} is no list")
        items = [self._record(kind, one) for one in found["items"]]
        return Page(items, found.get("next_cursor"))

    async def _each(
        self, kind: type[T], path: str, query: Mapping[str, Any], *, limit: int | None = None
    ) -> AsyncIterator[T]:
        """Each of a list, whose pages are asked for as they are read."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = LONGEST if left is None else min(left, LONGEST)
            page = await self._page(kind, path, {**query, "limit": size, "cursor": cursor})
            for one in page.items:
                yield one
            left = None if left is None else left - len(page.items)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _list(
        self, kind: type[T], path: str, query: Mapping[str, Any] | None = None
    ) -> list[T]:
        return [one async for one in self._each(kind, path, query or {})]


def moment_text(moment: datetime.datetime | None) -> str | None:
    """A time as a parameter of a request has it."""
    return None if moment is None else moment.isoformat()
