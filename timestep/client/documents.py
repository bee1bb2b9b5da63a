"""Makes the records that Python's reads answer with of the JSON that a host answers with."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


def record(kind: type[T], document: Any) -> T:
    """A record of a class.

    What the class does not have, as a newer host may tell it, is left out.

    Args:
        kind: A dataclass, whose fields are of JSON's types, times, or dataclasses.
        document: Its fields by name.

    Raises:
        ValueError: The document is of no such record.
    """
    try:
        return cast(T, _made(kind, document))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"it is no {kind.__name__}: {error}") from error


def _made(kind: Any, value: Any) -> Any:
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        if value is None:
            return None
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
        return _made(kind, value)
    if origin is list:
        (inside,) = get_args(kind)
        return [_made(inside, one) for one in value]
    if kind is datetime.datetime:
        return datetime.datetime.fromisoformat(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        given = {name: _made(of, value[name]) for name, of in _fields(kind) if name in value}
        return kind(**given)
    return value


@functools.cache
def _fields(kind: type[Any]) -> list[tuple[str, Any]]:
    hints = get_type_hints(kind)
    return [(spec.name, hints[spec.name]) for spec in dataclasses.fields(kind)]
