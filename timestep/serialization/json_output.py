"""Turns dataclasses and recorded values into JSON for programs to read."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Iterable
from typing import Any


def dumps(value: Any) -> str:
    """JSON, in ASCII, of dataclasses and of whatever was recorded; NaN and infinities are null."""
    try:
        return json.dumps(value, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(json.loads(json.dumps(value, default=_plain))))


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Not asdict: it would copy what may be large.
        return {spec.name: getattr(value, spec.name) for spec in dataclasses.fields(value)}
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return str(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def pointer(place: Iterable[object]) -> str:
    """The JSON pointer (RFC 6901) to a place in a document: its keys and indexes."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)


def arguments_text(arguments: Any) -> str:
    """A call's arguments as a model would write them."""
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
