"""Keeps pydantic's ValidationErrors, which have no arguments: they are made of their lines."""

from __future__ import annotations

import itertools
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import ErrorType

from timestep.serialization.exceptions.parts import Lost, kept, known
from timestep.serialization.values import Json

_PYDANTICS_OWN = frozenset(get_args(ErrorType))
"""Types of lines whose messages pydantic writes."""
_ERROR = "error"
"""What a line's context holds the validator's own error under."""


def seal(error: ValidationError) -> tuple[dict[str, Json], list[BaseException]]:
    """The title and the lines, and the validators' own errors that they hold.

    Raises:
        Lost: A value would not come back as it was.
    """
    lines: list[Json] = []
    causes: list[BaseException] = []
    for told in error.errors(include_url=False):
        line: dict[str, Json] = {
            "type": told["type"],
            "message": told["msg"],
            "loc": list(told["loc"]),
            "input": kept(told["input"]),
        }
        context = dict(told.get("ctx", {}))
        if isinstance(cause := context.pop(_ERROR, None), BaseException):
            line["cause"] = len(causes)
            causes.append(cause)
        elif cause is not None:
            context[_ERROR] = cause
        line["context"] = kept(context)
        lines.append(line)
    for from_json, hides in itertools.product((False, True), (False, True)):
        sealed: dict[str, Json] = {"title": error.title, "lines": lines}
        sealed |= {"from_json": from_json, "hides_input": hides, "has_args": bool(error.args)}
        if str(restored(sealed, causes)) == str(error):
            return sealed, causes
    raise Lost


def restored(sealed: dict[str, Any], causes: list[Any]) -> ValidationError:
    """The error again; pydantic makes it of data alone.

    Raises:
        Exception: Pydantic does not take it.
    """
    lines = [_line(line, causes) for line in sealed["lines"]]
    error = ValidationError.from_exception_data(
        str(sealed["title"]),
        lines,
        input_type="json" if sealed["from_json"] else "python",
        hide_input=bool(sealed["hides_input"]),
    )
    if not sealed["has_args"]:
        # Only what is made here has some.
        error.args = ()
    return error


def _line(line: dict[str, Any], causes: list[Any]) -> InitErrorDetails:
    context = known(line["context"])
    if (cause := line.get("cause")) is not None:
        context[_ERROR] = causes[cause]
    kind = line["type"]
    details = InitErrorDetails(
        type=kind
        if kind in _PYDANTICS_OWN
        else PydanticCustomError(kind, line["message"], context or None),
        loc=tuple(line["loc"]),
        input=known(line["input"]),
    )
    if context and kind in _PYDANTICS_OWN:
        details["ctx"] = context
    return details
