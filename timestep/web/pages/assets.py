"""Serves the files that pages name: a style and scripts of the project's own, and no other's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import Response

from timestep.web.gate import ASSETS

router = APIRouter(include_in_schema=False)

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FILES = {
    file.name: (file.read_bytes(), _TYPES[file.suffix])
    for file in sorted(Path(__file__).with_name("static").iterdir())
    if file.suffix in _TYPES
}
_TAGS = {
    name: f'"{hashlib.sha256(content).hexdigest()[:32]}"' for name, (content, _) in _FILES.items()
}


@router.get(ASSETS + "{name}")
async def asset(name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """A file; none again where the browser has it as it is."""
    if name not in _FILES:
        raise HTTPException(404)
    content, media_type = _FILES[name]
    headers = {"ETag": _TAGS[name], "Cache-Control": "no-cache"}
    if if_none_match == _TAGS[name]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media_type, headers=headers)
