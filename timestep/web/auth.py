"""Decides what a caller may do: by the role of its token, and whether a page of ours sent it."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import Scope

from timestep.addresses import is_loopback
from timestep.config import Role, Settings
from timestep.errors import InvalidInputError
from timestep.runtime.terminal import quoted
from timestep.web.callers import Caller, Callers

_RANKS: dict[Role, int] = {"viewer": 0, "operator": 1, "admin": 2}
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

_HOST = re.compile(
    r"(?P<name>[a-z0-9._-]+|\[(?P<address>[0-9a-f:.]+)\])(:[0-9]{1,5})?", re.ASCII | re.IGNORECASE
)
"""A name or an address, and a port (RFC 9110, 7.2): no user, no zone, nothing that is escaped."""

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="bearer",
    description="A token of `timestep tokens create`, or of TIMESTEP_API_TOKENS. Where there are "
    "none, this machine's own addresses need none.",
)
_cookie = APIKeyCookie(
    name="timestep",
    auto_error=False,
    scheme_name="cookie",
    description="The cookie of a login at /login; over TLS its name is `__Host-timestep`. What "
    "changes anything has the header `X-Form-Token`, too, with what a page of the login holds.",
)
"""Only for the description of the API: `Gate` has looked at both before."""

FORM_TOKEN = "form_token"
"""The field of a form, and with `-` the header, that says that a page of a login sent it."""
FORM_TOKEN_HEADER = "x-form-token"


def require(role: Role) -> Callable[..., Awaitable[Caller | None]]:
    """A dependency that lets a caller in who has at least this role, and tells who it is.

    None: no token is asked, so everybody who reaches the host may.
    """

    async def caller(
        request: Request,
        token: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
        cookie: Annotated[str | None, Depends(_cookie)],
    ) -> Caller | None:
        found: Caller | None = request.state.caller
        if found is not None and not reaches(found.role, role):
            raise HTTPException(
                403,
                f"the token of {found.name!r} is {_a(found.role)}'s: this takes {_a(role)}'s",
            )
        return found

    return caller


def reaches(own: Role, role: Role) -> bool:
    """Whether who has one role may do what takes another."""
    return _RANKS[own] >= _RANKS[role]


def _a(role: Role) -> str:
    return f"a {role}" if role == "viewer" else f"an {role}"


async def is_still_valid(request: Request) -> bool:
    """Whether the caller of a request that is still being answered may be told more.

    To be asked again and again by what streams: the database is asked once a second at most.
    """
    callers: Callers = request.app.state.callers
    return await callers.is_still(request.state.caller)


def no_token(headers: Headers) -> str:
    """What to tell a caller without a known token."""
    what = "no bearer token" if bearer(headers) is None else "an unknown bearer token"
    return (
        f"{what} was sent: send 'Authorization: Bearer <token>' with one that `timestep tokens "
        "create` made, or that TIMESTEP_API_TOKENS lists"
    )


def bearer(headers: Headers) -> str | None:
    """The token that a request's `Authorization` has; one that is no UTF-8 is a wrong one."""
    given = headers.getlist("authorization")
    scheme, _, sent = (given[0] if len(given) == 1 else "").partition(" ")
    if scheme.lower() != "bearer" or not sent.strip():
        return None
    return sent.strip().encode("latin-1").decode("utf-8", "surrogateescape")


def cookie_name(*, is_tls: bool) -> str:
    """The name of the cookie of a login; over TLS one that only this very host can set."""
    return "__Host-timestep" if is_tls else "timestep"


def is_tls(settings: Settings, scope: Scope) -> bool:
    """Whether browsers reach the host over TLS, of which a proxy before it may take care."""
    return scope.get("scheme") == "https" or (settings.public_url or "").startswith("https://")


def form_token(caller: Caller) -> str:
    """What each form of a page has in the field `form_token`: only pages of the login know it."""
    return hmac.digest(caller.secret.encode(), FORM_TOKEN.encode(), hashlib.sha256).hex()


def forged(
    settings: Settings, caller: Caller, method: str, headers: Headers, body: bytes
) -> str | None:
    """Why a request may be one that another site's page has a browser send; None: it is not.

    A browser adds the cookie to what any page asks for; a bearer token it adds to nothing.

    Raises:
        InvalidInputError: It has a form of more fields than are read.
    """
    if not caller.is_login or method in _SAFE:
        return None
    foreign = foreign_origin(settings, headers)
    if foreign is not None:
        return foreign
    if not headers.getlist("origin") and headers.get("sec-fetch-site") != "same-origin":
        return "nothing tells which page sent this: send 'Origin', or a bearer token"
    sent = headers.get(FORM_TOKEN_HEADER) or _field(headers, body)
    if not hmac.compare_digest(sent.encode(), form_token(caller).encode()):
        return (
            f"the form's token is missing, or of another login: send the field {FORM_TOKEN!r} of a "
            f"page, or the header {FORM_TOKEN_HEADER!r}; or load the page again"
        )
    return None


def _field(headers: Headers, body: bytes) -> str:
    if headers.get("content-type", "").partition(";")[0].strip() != _FORM:
        return ""
    return form(body).get(FORM_TOKEN, "")


_FORM = "application/x-www-form-urlencoded"
_FIELDS = 2_500
"""Fields of a form at most: of 1,000 runs that are forked at once it has two each."""


def form(body: bytes) -> dict[str, str]:
    """The fields of a form that a page has sent; none where it is no form.

    Raises:
        InvalidInputError: It has more than are read.
    """
    number = body.count(b"&") + 1
    if number > _FIELDS:
        raise InvalidInputError(
            f"the form has {number:,} fields, and no more than {_FIELDS:,} are read: send so many "
            "as JSON, over the HTTP API"
        )
    try:
        text = body.decode("ascii")
        given = parse_qs(text, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        return {}
    return {name: values[0] for name, values in given.items() if len(values) == 1}


def foreign_origin(settings: Settings, headers: Headers) -> str | None:
    """That a page of another site sent a request; None: it does not say so."""
    host = headers.get("host", "")
    own = {f"http://{host}", f"https://{host}"}
    if settings.public_url is not None:
        parts = urlsplit(settings.public_url)
        own.add(f"{parts.scheme}://{parts.netloc}")
    others = [origin for origin in headers.getlist("origin") if origin not in own]
    if others:
        return f"a page of {quoted(others[0])} sent this: only this host's own pages may"
    return None


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
    return None if method in _SAFE else foreign_origin(settings, headers)


def _is_ours(settings: Settings, host: str) -> bool:
    spelled = _HOST.fullmatch(host)
    if spelled is None:
        return False
    name = (spelled["address"] or spelled["name"]).lower()
    return name == settings.host.strip("[]").lower() or is_loopback(name)
