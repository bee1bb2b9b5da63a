"""Keeps the HTTP response that an error holds, but no request: that has the provider's key."""

from __future__ import annotations

import sys
from typing import Any

from timestep.serialization.values import Json, plain_text

_LIBRARIES = ("httpx", "httpx2")
"""The libraries whose responses errors hold; openai has used more than one."""
_KEPT_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry", "x-request-id", "content-type")
_LONGEST_BODY = 1_000_000
"""Characters."""


def seal(response: Any) -> dict[str, Json] | None:
    """What is kept of a response; None: it is none of those libraries'."""
    if not is_message(response) or not isinstance(getattr(response, "status_code", None), int):
        return None
    return {
        "module": _library(response),
        "status": response.status_code,
        "headers": {
            name: value for name, value in response.headers.items() if name in _KEPT_HEADERS
        },
        "body": plain_text(response.text[:_LONGEST_BODY]) if hasattr(response, "_content") else "",
    }


def is_message(value: object) -> bool:
    """Whether a value is a request or a response of one of those libraries."""
    return _library(value) in _LIBRARIES


def held_by(attributes: dict[str, object]) -> dict[str, Json]:
    """Under which names an error holds its response, and its request."""
    return {
        name: {"module": _library(value), "is_response": hasattr(value, "status_code")}
        for name, value in attributes.items()
        if is_message(value)
    }


def restore(error: BaseException, sealed: dict[str, Any] | None, held: dict[str, Any]) -> None:
    """Give an error its response, and a request that says nothing.

    Args:
        error: The error.
        sealed: What was kept of the response.
        held: Under which names it held them.

    Raises:
        LookupError: Another library's made the response.
    """
    for name, one in held.items():
        if not one["is_response"]:
            vars(error)[name] = _request(one["module"])
        elif sealed is not None:
            vars(error)[name] = _response(sealed)


def restore_of_before(error: Any, sealed: dict[str, Any]) -> None:
    """The same of an envelope that does not tell the names.

    Raises:
        LookupError: As above.
    """
    response = _response(sealed)
    if type(error).__module__.partition(".")[0] in _LIBRARIES:
        # The library's own errors keep their request behind a property.
        error.request, error.response = response.request, response
    else:
        vars(error).update(request=response.request, response=response)


def _library(value: object) -> str:
    return type(value).__module__.partition(".")[0]


def _http(module: str) -> Any:
    if module not in _LIBRARIES:
        raise LookupError(module)
    return next(sys.modules[name] for name in (module, *_LIBRARIES) if name in sys.modules)


def _request(module: str) -> Any:
    return _http(module).Request("POST", "https://recorded.invalid")


def _response(sealed: dict[str, Any]) -> Any:
    headers = {name: sealed["headers"][name] for name in _KEPT_HEADERS if name in sealed["headers"]}
    return _http(sealed["module"]).Response(
        int(sealed["status"]),
        headers=headers,
        text=str(sealed["body"]),
        request=_request(sealed["module"]),
    )
