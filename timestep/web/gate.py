"""Lets requests in, before anything else reads of them: who sends them, how much, how long."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from timestep.config import Settings
from timestep.errors import DatabaseError, InvalidInputError
from timestep.operations.access.acting import acting
from timestep.runtime.terminal import quoted
from timestep.web import auth
from timestep.web.callers import Caller, Callers, Wrong, actor_of
from timestep.web.problems import Answer, answer_to, for_reader, problem, too_many

_ALIVE = "/healthz"
"""What the database is not asked for."""
OPEN = frozenset({_ALIVE, "/readyz"})
"""What is answered without a token, and however much else is asked."""

_RETRY_AFTER = "1"
"""Seconds."""


LOGIN = "/login"
"""What is answered without a token, so that one can be shown."""
LINKS = "/approve/"
"""Below it are one-time links, each of which is what lets one in, where they are switched on."""
ASSETS = "/assets/"
"""Below it are the style and the scripts of the pages, that of the login among them."""


class Gate:
    """Refuses a request by its head, then reads its body, and only then calls the application.

    A refused request's body is not read at all; one that is let in is held in memory, once, up
    to `TIMESTEP_BODY_LIMIT`. `request.state.caller` is the caller, or None.
    """

    def __init__(self, app: ASGIApp, settings: Settings, callers: Callers) -> None:
        self.app = app
        self.settings = settings
        self._callers = callers
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._under_way += 1
        is_counted = True

        def leave() -> None:
            nonlocal is_counted
            self._under_way -= is_counted
            is_counted = False

        # For those who stay, and have a limit of their own.
        scope.setdefault("state", {})["leave_gate"] = leave
        try:
            refusal = await self._refusal(scope)
            if refusal is not None:
                await for_reader(scope, refusal)(scope, receive, send)
                return
            body = await self._body(scope, receive)
            if isinstance(body, bytes):
                body = self._forged(scope, body) or body
            if isinstance(body, Answer):
                await for_reader(scope, body)(scope, receive, send)
            elif body is not None:
                actor = actor_of(scope["state"]["caller"], address_of(scope), scope["path"])
                with acting(actor):
                    await self.app(scope, _replayed(body, receive), send)
        finally:
            leave()

    async def _refusal(self, scope: Scope) -> Answer | None:
        """The answer to a request that is not let in."""
        settings, headers, path = self.settings, Headers(scope=scope), scope["path"]
        scope.setdefault("state", {})["caller"] = None
        if self._under_way > settings.connection_limit and path not in OPEN:
            text = f"{settings.connection_limit} requests are under way: ask again later"
            return problem(503, text, kind="busy", headers={"Retry-After": _RETRY_AFTER})
        if not auth.is_host(headers):
            hosts = " and ".join(map(quoted, headers.getlist("host")))
            return problem(400, f"the header 'Host' says {hosts}: it names one host")
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy that goes by the other one would take what follows for another's request.
            text = (
                "the headers 'Content-Length' and 'Transfer-Encoding' both say how long the body is"
            )
            return problem(400, f"{text}: send one of them", headers={"Connection": "close"})
        if not path.startswith("/"):
            return problem(
                400, f"the request is for {quoted(path)}: ask for a path, like /api/runs"
            )
        is_free = path == _ALIVE or path.startswith(ASSETS)
        if not is_free and (refusal := await self._stranger(scope, headers)) is not None:
            return refusal
        if not self._callers.are_asked:
            foreign = auth.foreign_page(settings, scope["method"], headers)
            if foreign is not None:
                return problem(403, foreign, kind="foreign-page")
        length = headers.get("content-length", "")
        return self._too_long() if length.isdigit() and self._is_too_long(int(length)) else None

    async def _stranger(self, scope: Scope, headers: Headers) -> Answer | None:
        """The answer to a caller without a token, where one is asked."""
        path = scope["path"]
        try:
            if not await self._callers.ask():
                return None
            caller = await self._caller(scope, headers)
        except DatabaseError as error:
            # Who it is, or whether that matters, cannot be known.
            return None if path in OPEN else answer_to(Request(scope), error)
        if isinstance(caller, Caller):
            scope["state"]["caller"] = caller
            return None
        is_link = self.settings.link_key is not None and path.startswith(LINKS)
        if path in OPEN or path == LOGIN or is_link:
            return None
        if caller is not None and caller.seconds is not None:
            return too_many(caller.seconds)
        return problem(401, auth.no_token(headers), headers={"WWW-Authenticate": "Bearer"})

    async def _caller(self, scope: Scope, headers: Headers) -> Caller | Wrong | None:
        sent = auth.bearer(headers)
        if sent is not None:
            return await self._callers.of_token(sent, address_of(scope), "bearer")
        # Who sends an 'Authorization' of another kind is no browser with a login.
        name = auth.cookie_name(is_tls=auth.is_tls(self.settings, scope))
        cookie = None if "authorization" in headers else HTTPConnection(scope).cookies.get(name)
        return await self._callers.of_cookie(cookie) if cookie else None

    def _forged(self, scope: Scope, body: bytes) -> Answer | None:
        caller: Caller | None = scope["state"]["caller"]
        if caller is None or scope["path"] == LOGIN:
            return None
        headers = Headers(scope=scope)
        try:
            forged = auth.forged(self.settings, caller, scope["method"], headers, body)
        except InvalidInputError as error:
            return answer_to(Request(scope), error)
        return None if forged is None else problem(403, forged, kind="foreign-page")

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Answer | None:
        """The whole body; an answer where it is not let in; None: the caller is gone."""
        body = bytearray()
        try:
            async with asyncio.timeout(self.settings.client_timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if self._is_too_long(len(body)):
                        return self._too_long()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            seconds = self.settings.client_timeout
            return problem(408, f"the body was not sent within {seconds:g} seconds")

    def _is_too_long(self, length: int) -> bool:
        return length > self.settings.body_limit

    def _too_long(self) -> Answer:
        return problem(
            413, f"the body is longer than {self.settings.body_limit} bytes (TIMESTEP_BODY_LIMIT)"
        )


def address_of(scope: Scope) -> str | None:
    """Where a request comes from; None: nothing that is an address tells."""
    client = scope.get("client") or ("",)
    try:
        return str(ip_address(client[0]))
    except ValueError:
        return None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body, once, as a server does; then what else comes from the server."""
    is_given = False

    async def replayed() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
