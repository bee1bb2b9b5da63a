"""Lets an id in a path have a slash, which a caller writes as %2F."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Path
from starlette.types import ASGIApp, Receive, Scope, Send

_SLASH = "\ud800"
"""What stands for a slash inside a segment of a path, where no decoding gives half of a pair."""


class Slashes:
    """Gives the application the path as its segments were written, one by one.

    A server decodes a path as a whole, after which a slash in an id divides it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"%" in scope.get("raw_path", b""):
            segments = scope["raw_path"].decode("ascii").split("/")
            path = "/".join(unquote(one).replace("/", _SLASH) for one in segments)
            scope = {**scope, "path": path}
        await self.app(scope, receive, send)


def written(text: str) -> str:
    """A path, or a part of one, as a caller writes it."""
    return text.replace(_SLASH, "%2F")


def _workflow(
    workflow_id: Annotated[str, Path(description="The workflow's id; a / as %2F.")],
) -> str:
    return workflow_id.replace(_SLASH, "/")


def _run(
    run_id: Annotated[str, Path(description="Of a run, or of a workflow; a / as %2F.")],
) -> str:
    return run_id.replace(_SLASH, "/")


def _entrypoint(name: Annotated[str, Path(description="The entrypoint's name.")]) -> str:
    return name.replace(_SLASH, "/")


def _session(
    session_id: Annotated[str, Path(description="The session's id; a / as %2F.")],
) -> str:
    return session_id.replace(_SLASH, "/")


def _token(name: Annotated[str, Path(description="The token's name, or its id.")]) -> str:
    return name.replace(_SLASH, "/")


EntrypointName = Annotated[str, Depends(_entrypoint)]
TokenName = Annotated[str, Depends(_token)]
SessionId = Annotated[str, Depends(_session)]
WorkflowId = Annotated[str, Depends(_workflow)]
RunName = Annotated[str, Depends(_run)]
