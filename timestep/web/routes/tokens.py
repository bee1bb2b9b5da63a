"""Serves /api/tokens: make, list and revoke tokens."""

from __future__ import annotations

import datetime
from typing import Annotated

from fastapi import Body, HTTPException

from timestep.operations.access import tokens
from timestep.operations.access.records import ApiToken
from timestep.operations.queries.pagination import Page
from timestep.web.dependencies import CONFLICT, Admin, api_router
from timestep.web.problems import Answer
from timestep.web.schemas import CreatedToken, CreateToken
from timestep.web.slashes import TokenName

router = api_router()


@router.get("/tokens", response_model=Page[ApiToken])
async def list_tokens(caller: Admin) -> Answer:
    """The tokens, the oldest first, without what they are."""
    return Answer(Page(await tokens.list_tokens(), None))


@router.post("/tokens", status_code=201, response_model=CreatedToken, responses=CONFLICT)
async def create_token(caller: Admin, body: Annotated[CreateToken, Body()]) -> Answer:
    """Make a token; the answer has it, and nothing else ever does."""
    if caller is None:
        # From then on all would need one, and somebody else's page, or program, may have asked.
        raise HTTPException(
            403, "the first token is made at a terminal: timestep tokens create NAME --role admin"
        )
    expires = None if body.expires is None else datetime.timedelta(seconds=body.expires)
    token, secret = await tokens.create_token(body.name, role=body.role, expires=expires)
    answer = Answer({**vars(token), "token": secret}, status_code=201)
    answer.headers["Cache-Control"] = "no-store"
    return answer


@router.post("/tokens/{name}/revoke", response_model=ApiToken)
async def revoke_token(name: TokenName, caller: Admin) -> Answer:
    """Let a token, by its name or id, be none any more; its logins and streams end."""
    return Answer(await tokens.revoke_token(name))
