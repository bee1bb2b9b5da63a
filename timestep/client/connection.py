"""Sends requests to a host: its address and token, and what is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from timestep.addresses import is_loopback
from timestep.client.problems import error_of
from timestep.errors import (
    ConfigurationError,
    HostUnreachableError,
    InvalidInputError,
    RemoteError,
)

_PAUSES = (0.2, 1.0)
"""Seconds before a request is sent once more, and again."""
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""After these the host knows nothing of the request."""


class Connection:
    """Connections to one host.

    Args:
        url: The host's address, without a path or with the one that a proxy has it at.
        token: What is sent with each request; None: nothing.
        timeout: Seconds until a host is given up that does not connect, take or answer.
        plain_http: Whether the token may be sent over plain http to another machine.
        transport: Of httpx, for proxies, certificates of one's own, and tests.

    Raises:
        ConfigurationError: The address or the token cannot be used.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        timeout: float,
        plain_http: bool,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        address = _checked(url)
        if token is not None:
            _check_token(token, address, plain_http=plain_http)
        self.url = str(address).rstrip("/")
        self._http = httpx.AsyncClient(
            headers={} if token is None else {"Authorization": f"Bearer {token}"},
            timeout=timeout,
            transport=transport,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        is_repeatable: bool = True,
    ) -> Any:
        """What the host answers.

        Args:
            method: Of HTTP.
            path: Below the host's address.
            query: Parameters; those that are None are left out.
            body: Is sent as JSON; None: nothing is.
            is_repeatable: Whether the host may get the request twice: it is sent again where the
                answer is lost. What the host cannot have got is sent again in any case.

        Raises:
            HostUnreachableError: The host is away, or does not answer in time.
            InvalidInputError: The body is not made of JSON's types.
            TimestepError: What the host answered.
        """
        request = self._http.build_request(
            method,
            f"{self.url}{path}",
            params={name: one for name, one in (query or {}).items() if one is not None},
            content=None if body is None else _encoded(body),
            headers={} if body is None else {"Content-Type": "application/json"},
        )
        for pause in (*_PAUSES, None):
            try:
                answer = await self._http.send(request)
                break
            except httpx.TransportError as error:
                if pause is None or not (is_repeatable or isinstance(error, _NOT_SENT)):
                    raise self.unreachable(error) from error
            await asyncio.sleep(pause)
        if not answer.is_success:
            raise error_of(answer.status_code, answer.content, method)
        try:
            return answer.json()
        except ValueError:
            raise RemoteError(
                f"{self.url} answers with what is not JSON: is it a host of Timestep's?",
                status=answer.status_code,
            ) from None

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str], silence: float
    ) -> AsyncIterator[httpx.Response]:
        """An answer that is read as it comes; the host says something all `silence` seconds.

        Raises:
            TransportError: The host is away.
            TimestepError: What the host answered.
        """
        usual = self._http.timeout
        timeout = httpx.Timeout(
            connect=usual.connect, read=silence, write=usual.write, pool=usual.pool
        )
        async with self._http.stream(
            "GET", f"{self.url}{path}", headers=headers, timeout=timeout
        ) as answer:
            if not answer.is_success:
                raise error_of(answer.status_code, await answer.aread())
            yield answer

    def unreachable(self, error: httpx.TransportError) -> HostUnreachableError:
        """That the host is away, and how that shows."""
        how = str(error) or type(error).__name__
        return HostUnreachableError(f"{self.url} cannot be reached: {how}")

    def odd(self, how: object) -> RemoteError:
        """That what answers is no host, or one that says something else, and how that shows."""
        return RemoteError(f"{self.url} answers oddly: {how}")


def segment(name: str) -> str:
    """A name as a part of a path; httpx would obey one that is dots only.

    Raises:
        InvalidInputError: It is empty, and would make the path another one.
    """
    if not name:
        raise InvalidInputError("the id or name of what is asked about is empty: give one")
    text = quote(name.encode(errors="surrogatepass"), safe="")
    return text.replace(".", "%2E") if not name.strip(".") else text


def _encoded(body: Any) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"what is sent has to be made of JSON's types: {error}") from error


def _checked(url: str) -> httpx.URL:
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        found = httpx.URL("")
    if found.userinfo:
        # It is not repeated: what is written there is a secret.
        raise ConfigurationError("the host's URL has a user or a password: give a token instead")
    if found.scheme not in ("http", "https") or not found.host or found.query or found.fragment:
        raise ConfigurationError(f"{url!r} is not a URL like https://runs.example.com")
    return found


def _check_token(token: str, url: httpx.URL, *, plain_http: bool) -> None:
    """Refuse a token that cannot be sent, or that anybody on the way could read."""
    if not (token.isascii() and token.isprintable() and token) or " " in token:
        raise ConfigurationError(
            "the token has characters that no token has: copy it again, as one line"
        )
    if url.scheme == "http" and not is_loopback(url.host) and not plain_http:
        raise ConfigurationError(
            f"{url} is plain http to another machine, where others could read the token: use "
            "https, or set TIMESTEP_PLAIN_HTTP=true (in Python: plain_http=True)"
        )
