"""Answers only what a caller does not have yet: entity tags (RFC 9110, 8.8.3 and 13.1.2)."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any

from fastapi import Header
from starlette.responses import Response

from timestep.web.problems import Answer

IfNoneMatch = Annotated[
    str | None,
    Header(alias="If-None-Match", description="The `ETag` of the answer that the caller has."),
]

_HEADER: dict[str, Any] = {
    "ETag": {
        "description": "Names this answer; another one of the same bytes has the same.",
        "required": True,
        "schema": {"type": "string"},
    }
}
TAGGED: dict[int | str, dict[str, Any]] = {
    200: {"headers": _HEADER},
    304: {"description": "It is as the caller has it.", "headers": _HEADER},
}
"""What such an answer is described as."""

_TAG = re.compile(r'(?:W/)?("[^"]*")')


def tagged(content: Any, known: str | None) -> Response:
    """An answer with its entity tag; without the content where the caller has it.

    Args:
        content: What is answered.
        known: The header `If-None-Match`.
    """
    answer = Answer(content)
    tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
    if known is not None and (known.strip() == "*" or tag in _TAG.findall(known)):
        return Response(status_code=304, headers={"ETag": tag})
    answer.headers["ETag"] = tag
    return answer
