"""Raises what the Python calls raise, of the problem document that a host answers with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from timestep.errors import (
    ChangedQuestionError,
    InvalidInputError,
    InvalidQueryError,
    RemoteError,
    TimestepError,
)

_OURS = "urn:timestep:"
_NO_TOKEN = 401
_NOT_FOUND = 404
_UNFIT = f"{_OURS}invalid-request"
"""What does not fit the description of the request, and so came to no Python call."""


def error_of(status: int, body: bytes, method: str = "GET") -> TimestepError:
    """The error that an answer stands for.

    Args:
        status: Of HTTP, 300 or more.
        method: Of the request: its parameters are a query, or what is to be done.
        body: A problem document; or anything, of what is between here and the host.
    """
    document = _document(body)
    type_, detail = str(document.get("type", "about:blank")), str(document.get("detail", ""))
    kind = _kinds().get(type_)
    if type_ == _UNFIT:
        kind = InvalidQueryError if method == "GET" else InvalidInputError
    if kind is not None and issubclass(kind, InvalidInputError):
        return kind(detail, fields=document.get("errors") or ())
    if kind is ChangedQuestionError:
        return ChangedQuestionError(detail, changes=document.get("changes") or ())
    if kind is not None:
        return kind(detail)
    if status == _NOT_FOUND and detail:
        detail = f"{detail} (a host of an earlier version has fewer paths)"
    if status == _NO_TOKEN and detail:
        detail = f"{detail} (TIMESTEP_TOKEN is sent so, or what a client is given as its token)"
    told = detail or f"what answered is no host of Timestep's: {status} {_phrase(status)}"
    return RemoteError(told, status=status, type=type_, detail=detail)


def _document(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _kinds() -> dict[str, type[TimestepError]]:
    """The classes by the types of their problem documents, `urn:timestep:unknown-run`."""
    return {_OURS + _name(kind): kind for kind in _all(TimestepError)}


def _name(kind: type[TimestepError]) -> str:
    name = kind.__name__.removesuffix("Error")
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def _all(kind: type[TimestepError]) -> Iterator[type[TimestepError]]:
    """A class and those derived from it in `timestep.errors`; others may need arguments."""
    if kind.__module__ == TimestepError.__module__:
        yield kind
    for derived in kind.__subclasses__():
        yield from _all(derived)
