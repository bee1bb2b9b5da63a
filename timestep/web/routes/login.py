"""Serves /login and /logout: a browser shows a token once, and a cookie from then on."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from timestep.config import Settings
from timestep.operations.access import logins
from timestep.operations.access.acting import acting
from timestep.web import auth
from timestep.web.callers import Caller, Callers, Wrong, actor_of
from timestep.web.gate import LOGIN, address_of
from timestep.web.pages.rendering import page
from timestep.web.problems import problem, too_many

router = APIRouter(include_in_schema=False)

_SEE_OTHER = 303
HOME = "/"
"""Where a login leads to that was asked for by itself."""
_LONGEST_PATH = 2000


@router.get(LOGIN)
async def login_page(request: Request, next: str = HOME) -> Response:  # noqa: A002
    """The page that asks for a token, or says whose login it is."""
    return _page(request, next)


@router.post(LOGIN)
async def log_in(request: Request) -> Response:
    """Show a token: the answer has the cookie, and leads to where the caller was going."""
    settings, callers = _state(request)
    foreign = auth.foreign_origin(settings, request.headers)
    if foreign is not None:
        return problem(403, foreign, kind="foreign-page")
    if not callers.are_asked:
        return RedirectResponse(LOGIN, _SEE_OTHER)
    given, address = auth.form(await request.body()), address_of(request.scope)
    caller = await callers.of_token(given.get("token", "").strip(), address, "form")
    target = given.get("next", HOME)
    if isinstance(caller, Wrong):
        if caller.seconds is not None:
            return too_many(caller.seconds)
        return _page(request, target, status=401, problem="This is no token of this host.")
    earlier: Caller | None = request.state.caller
    replaced = earlier.secret if earlier is not None and earlier.is_login else None
    with acting(actor_of(caller, address, LOGIN)):
        cookie = await asyncio.to_thread(logins.log_in, callers.shown(caller), replaced)
    if replaced is not None:
        callers.forget(replaced)
    answer = RedirectResponse(own_path(target), _SEE_OTHER)
    _set_cookie(request, answer, cookie, logins.LASTS)
    return answer


@router.post("/logout")
async def log_out(request: Request) -> Response:
    """End the login: its cookie is none any more, in any browser."""
    caller: Caller | None = request.state.caller
    if caller is not None and caller.is_login:
        await asyncio.to_thread(logins.log_out, caller.secret)
        _state(request)[1].forget(caller.secret)
    answer = RedirectResponse(LOGIN, _SEE_OTHER)
    _set_cookie(request, answer, "", 0)
    return answer


def _state(request: Request) -> tuple[Settings, Callers]:
    return request.app.state.settings, request.app.state.callers


def _page(
    request: Request,
    target: str,
    *,
    status: int = 200,
    problem: str | None = None,
) -> Response:
    answer = page(
        request,
        "login.html",
        status,
        is_asked=_state(request)[1].are_asked,
        next=own_path(target),
        problem=problem,
    )
    answer.headers["Cache-Control"] = "no-store"
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


def own_path(path: str) -> str:
    """Where a page may lead to: a path of this host, whatever a link to the page says."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\"))
    is_plain = path.isascii() and path.isprintable() and len(path) <= _LONGEST_PATH
    return path if is_own and is_plain else HOME


def _set_cookie(request: Request, answer: Response, value: str, seconds: int) -> None:
    is_tls = auth.is_tls(_state(request)[0], request.scope)
    answer.headers["Cache-Control"] = "no-store"
    answer.set_cookie(
        auth.cookie_name(is_tls=is_tls),
        value,
        max_age=seconds,
        path="/",
        secure=is_tls,
        httponly=True,
        # Not strict: messages about questions link to the host. What changes anything is checked
        # by `auth.forged`.
        samesite="lax",
    )
