"""Serves /approve/…: one-time links of messages, where they are switched on.

Opening one changes nothing, as what looks through messages opens every link: it shows a page that
asks once more. The address is a secret until the call is decided.
"""

from __future__ import annotations

import dataclasses
import datetime

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from timestep.approvals.links import Link, opened
from timestep.config import Settings
from timestep.environment import key_of
from timestep.errors import InvalidInputError
from timestep.operations import resume
from timestep.operations.access.acting import acting
from timestep.operations.overview import inbox
from timestep.operations.overview.questions import Question
from timestep.web import auth
from timestep.web.callers import Caller, actor_of
from timestep.web.dependencies import database_answers
from timestep.web.gate import LINKS, address_of
from timestep.web.pages.approvals import laid_out
from timestep.web.pages.rendering import page

router = APIRouter(include_in_schema=False, dependencies=[Depends(database_answers)])

BY = "a one-time link"
"""Who decided, where nobody has logged in."""
_SEE_OTHER = 303


@router.get(LINKS + "{secret}")
async def ask(request: Request, secret: str) -> Response:
    """The page that asks once more, or says why the link is of no use any more."""
    link, question = await _opened(request, secret)
    why = None
    if question.resolved_at is None:
        why = _why_not(link, question)
    made = page(
        request,
        "link.html",
        200 if why is None else 409,
        question=question,
        link=link,
        why=why,
        is_followed=not await inbox.obstacles([question]),
        laid_out=laid_out.arguments,
    )
    made.headers["Cache-Control"] = "no-store"
    return made


@router.post(LINKS + "{secret}")
async def decide(request: Request, secret: str) -> Response:
    """Decide about the call of a link, once."""
    link, question = await _opened(request, secret)
    form = auth.form(await request.body())
    if form.get("action") not in ("approve", "reject"):
        raise InvalidInputError("the form does not say what is to be done: open the link anew")
    caller: Caller | None = request.state.caller
    if question.resolved_at is None:
        address = address_of(request.scope)
        actor = actor_of(caller, address, request.url.path)
        if caller is None:
            actor = dataclasses.replace(actor, name=BY)
        with acting(actor):
            await resume.decide_by_link(
                str(question.workflow_id),
                link,
                approve=form["action"] == "approve",
                message=form.get("message", "").replace("\r\n", "\n").strip() or None,
                by=actor.name,
            )
    # What was decided, by whomever, is told there.
    return RedirectResponse(LINKS + secret, _SEE_OTHER, headers={"Cache-Control": "no-store"})


async def _opened(request: Request, secret: str) -> tuple[Link, Question]:
    settings: Settings = request.app.state.settings
    if settings.link_key is None:
        raise HTTPException(404, "this host takes no one-time links (TIMESTEP_LINK_KEY)")
    # Before the database is asked anything.
    link = opened(secret, key_of(settings.link_key.get_secret_value()))
    if link is None:
        raise HTTPException(404, "this is no link of this host: log in, and see /approvals")
    (question,) = await inbox.questions([str(link.question)])
    return link, question


def _why_not(link: Link, question: Question) -> str | None:
    """Why a link decides nothing: for people, as the deciding statement looks by itself."""
    if link.until <= datetime.datetime.now(datetime.UTC):
        return "The time of this link is over: log in to decide."
    if link.hash != question.hash:
        return "What is asked is not what the message told of: it changed meanwhile. Log in to see."
    if question.ended is not None:
        return f"Its run is {question.ended}: nobody waits for the answer any more."
    return None
