"""Reads requests' bodies as JSON, strictly."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from timestep.runtime.terminal import quoted
from timestep.serialization import json_input


class StrictRoute(APIRoute):
    """A route whose body is JSON as `json_input` reads it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(received: Request) -> Response:
            request = _StrictRequest(received.scope, received.receive)
            # FastAPI would say that bytes are no object, and not why it did not read them.
            if self.body_field is not None and not request.says_json() and await request.body():
                raise HTTPException(
                    422,
                    f"the body comes {request.content_type()}: send JSON, with the header "
                    "'content-type: application/json'",
                )
            return await handle(request)

        return strict


class _StrictRequest(Request):
    def says_json(self) -> bool:
        """Whether FastAPI reads the body as JSON; it does not guess, for browsers' sake."""
        message = Message()
        message["content-type"] = self.headers.get("content-type", "")
        kind, subtype = message.get_content_maintype(), message.get_content_subtype()
        return kind == "application" and (subtype == "json" or subtype.endswith("+json"))

    def content_type(self) -> str:
        """The content type, for people."""
        given = self.headers.get("content-type")
        return f"as {quoted(given)}" if given else "without a content type"

    async def json(self) -> Any:
        try:
            return json_input.loads(await self.body())
        except ValueError as error:
            raise HTTPException(422, f"the body is not JSON that can be used: {error}") from error
