"""Reads requests' bodies as JSON, strictly."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from timestep.serialization import json_input


class StrictRoute(APIRoute):
    """A route whose body is JSON as `json_input` reads it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict


class _StrictRequest(Request):
    async def json(self) -> Any:
        try:
            return json_input.loads(await self.body())
        except ValueError as error:
            raise HTTPException(422, f"the body is not JSON that can be used: {error}") from error
