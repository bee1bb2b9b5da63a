"""Decides who may call the API: bearer tokens with roles, or else this machine's own pages."""

from __future__ import annotations

import hmac
import re
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers

from timestep.config import Role, Settings, Token
from timestep.runtime.terminal import quoted

_RANKS: dict[Role, int] = {"viewer": 0, "operator": 1, "admin": 2}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_HOST = re.compile(
    r"(?P<name>[a-z0-9._-]+|\[(?P<address>[0-9a-f:.]+)\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)
"""A name or an address, and a port (RFC 9110, 7.2): no user, no zone, nothing that is escaped."""

_described = HTTPBearer(auto_error=False)
"""Only for the description of the API: `Gate` has looked at the token before."""


def require(role: Role) -> Callable[..., Awaitable[Token | None]]:
    """A dependency that lets a caller in who has at least this role, and tells who it is.

    None: no tokens are set, so everybody who reaches the host may.
    """

    async def caller(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_described)],
    ) -> Token | None:
        token: Token | None = request.state.caller
        if token is not None and _RANKS[token.role] < _RANKS[role]:
            raise HTTPException(
                403, f"the token of {token.name!r} is a {token.role}'s: this takes an {role}'s"
            )
        return token

    return caller


def token_of(settings: Settings, headers: Headers) -> Token | None:
    """The token that a request's `Authorization` has; None: none that is known."""
    sent = _bearer(headers)
    found = None
    # Every one is compared, so that the time tells nothing.
    for token in settings.api_tokens:
        secret = token.secret.get_secret_value().encode("utf-8", "surrogateescape")
        if sent is not None and hmac.compare_digest(secret, sent):
            found = token
    return found


def no_token(headers: Headers) -> str:
    """What to tell a caller without a known token."""
    what = "no bearer token" if _bearer(headers) is None else "an unknown bearer token"
    return (
        f"{what} was sent: send 'Authorization: Bearer <token>' with one that "
        "TIMESTEP_API_TOKENS lists"
    )


def _bearer(headers: Headers) -> bytes | None:
    given = headers.getlist("authorization")
    scheme, _, sent = (given[0] if len(given) == 1 else "").partition(" ")
    return sent.strip().encode("latin-1") if scheme.lower() == "bearer" and sent.strip() else None


def is_host(headers: Headers) -> bool:
    """Whether a request says at most once, and rightly spelled, which host it is for."""
    given = headers.getlist("host")
    return not given or (len(given) == 1 and _HOST.fullmatch(given[0]) is not None)


def foreign_page(settings: Settings, method: str, headers: Headers) -> str | None:
    """Why a request is of another site's page in a browser of this machine; None: it is not.

    A name of theirs may lead to this address (DNS rebinding), and their forms may be sent
    here: both show in a request's `Host` and `Origin`.
    """
    host = headers.get("host", "")
    if not _is_ours(settings, host):
        return f"the host {quoted(host)} is not this machine: use 127.0.0.1, or set tokens"
    own = (f"http://{host}", f"https://{host}")
    others = [origin for origin in headers.getlist("origin") if origin not in own]
    if method not in _SAFE and others:
        return f"a page of {quoted(others[0])} sent this: only this host's own pages may"
    return None


def _is_ours(settings: Settings, host: str) -> bool:
    spelled = _HOST.fullmatch(host)
    if spelled is None:
        return False
    name = (spelled["address"] or spelled["name"]).lower()
    if name in ("localhost", settings.host.strip("[]").lower()):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
