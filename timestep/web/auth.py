"""Decides who may call the API: bearer tokens with roles, or else this machine's own pages."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from timestep.config import Role, Settings, Token
from timestep.web.problems import problem

_RANKS: dict[Role, int] = {"viewer": 0, "operator": 1, "admin": 2}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(auto_error=False)


def require(role: Role) -> Callable[..., Awaitable[Token | None]]:
    """A dependency that lets a caller in who has at least this role, and tells who it is.

    None: no tokens are set, so everybody who reaches the host may.
    """

    async def caller(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Token | None:
        settings: Settings = request.app.state.settings
        if not settings.api_tokens:
            return None
        token = _token(settings, given.credentials) if given is not None else None
        if token is None:
            what = "an unknown bearer token" if given is not None else "no bearer token"
            raise HTTPException(
                401,
                f"{what} was sent: send 'Authorization: Bearer <token>' with one that "
                "TIMESTEP_API_TOKENS lists",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if _RANKS[token.role] < _RANKS[role]:
            raise HTTPException(
                403, f"the token of {token.name!r} is a {token.role}'s: this takes an {role}'s"
            )
        return token

    return caller


def _token(settings: Settings, sent: str) -> Token | None:
    found = None
    # Every one is compared, so that the time tells nothing.
    for token in settings.api_tokens:
        if hmac.compare_digest(token.secret.get_secret_value().encode(), sent.encode()):
            found = token
    return found


class OwnPagesOnly:
    """Without tokens, keeps the pages of other sites in this machine's browsers out.

    A name of theirs may lead to this address (DNS rebinding), and their forms may be sent
    here: both show in a request's `Host` and `Origin`.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self.settings.api_tokens:
            headers = Headers(scope=scope)
            refusal = self._refusal(scope["method"], headers)
            if refusal is not None:
                await problem(403, refusal, kind="foreign-page")(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _refusal(self, method: str, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return f"the host {host!r} is not this machine: use 127.0.0.1, or set tokens"
        origin = headers.get("origin")
        if method not in _SAFE and origin is not None and urlsplit(origin).netloc != host:
            return f"a page of {origin!r} sent this: only this host's own pages may"
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in ("localhost", self.settings.host.strip("[]").lower()):
            return True
        try:
            return ip_address(name).is_loopback
        except ValueError:
            return False
