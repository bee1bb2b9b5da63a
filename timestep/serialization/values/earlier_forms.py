"""Makes values of what earlier versions recorded of registered classes: what constructors take.

Enums by their value, and named tuples, are written so still: no code of the class is called. The
changes of contexts that earlier versions recorded are changes of what they made of a context.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from pydantic import BaseModel, ValidationError

from timestep.errors import UnreadableValueError
from timestep.serialization import leaf_types
from timestep.serialization.documents.forms import AS_DICT, AS_TEXT, Json, typed
from timestep.serialization.registered_types import (
    is_named_tuple,
    is_registered_itself,
    registered,
    type_path,
)


def made(kind: Any, named: str, held: Any) -> Any:
    """A value of a class, of its own fields alone.

    Args:
        kind: The class.
        named: Its path in the record.
        held: What was recorded of the value, decoded.

    Raises:
        UnreadableValueError: The class has no such fields, does not take what they hold, or is
            known only as derived from a registered one.
    """
    try:
        if issubclass(kind, enum.Enum):
            return kind(held)
        if not is_registered_itself(kind):
            raise UnreadableValueError(
                f"a recorded value is of the class {named!r}, which is not registered here: "
                "register it with timestep.register_type"
            )
        known = _model_fields(kind) if issubclass(kind, BaseModel) else _init_fields(kind)
        if known is not None and isinstance(held, dict) and (unknown := held.keys() - known):
            raise UnreadableValueError(
                f"a recorded {named!r} has the fields {sorted(unknown)}, which the class does not "
                "have: give it fields of these names again"
            )
        if is_named_tuple(kind):
            found = kind._field_defaults | held
            return tuple.__new__(kind, map(found.__getitem__, kind._fields))
        return kind.model_validate(held) if issubclass(kind, BaseModel) else kind(**held)
    except UnreadableValueError:
        raise
    except Exception as error:
        problems = (
            [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
            if isinstance(error, ValidationError)
            else [str(error)]
        )
        raise UnreadableValueError(
            f"a recorded {named!r} cannot be made again ({'; '.join(problems)}): let the class "
            "take what its earlier versions held"
        ) from error


def encoded_before(value: Any) -> Json:
    """What an earlier version made of a value, as far as it could come back."""
    try:
        return _encoded(value)
    except Exception:  # noqa: BLE001  # whatever the value's class answers
        return typed(AS_TEXT, "")


def _encoded(value: Any) -> Json:
    kind: Any = type(value)
    if value is None or kind in (bool, str, int, float):
        return value  # type: ignore[no-any-return]  # narrowed by exact type
    if kind is list:
        return [_encoded(item) for item in value]
    if kind is dict:
        if all(type(key) is str and key not in ("$type", "$text") for key in value):
            return {key: _encoded(item) for key, item in value.items()}
        return typed(AS_DICT, [[_encoded(key), _encoded(item)] for key, item in value.items()])
    name = type_path(kind)
    if kind in (tuple, set, frozenset):
        return typed(name, [_encoded(item) for item in value])
    if (leaf := leaf_types.written(value)) is not None:
        return typed(*leaf)
    found: Any = registered(name)
    if found is not kind:
        return typed(AS_TEXT, "")
    if issubclass(kind, enum.Enum):
        return typed(name, _encoded(value.value))
    if issubclass(kind, BaseModel):
        return typed(name, _encoded(value.model_dump(mode="json", by_alias=True)))
    fields = [field.name for field in dataclasses.fields(kind) if field.init]
    return typed(name, {field: _encoded(getattr(value, field)) for field in fields})


def _init_fields(kind: Any) -> set[str]:
    if is_named_tuple(kind):
        return set(kind._fields)
    return {field.name for field in dataclasses.fields(kind) if field.init}


def _model_fields(kind: type[BaseModel]) -> set[str] | None:
    """The names under which a model may dump its fields; None: any."""
    if kind.model_config.get("extra") == "allow" or kind.__pydantic_decorators__.model_serializers:
        return None
    names: set[str | None] = set()
    for name, field in kind.model_fields.items():
        names |= {name, field.alias, field.serialization_alias}
        names |= {field.validation_alias} if isinstance(field.validation_alias, str) else set()
    for name, computed in kind.model_computed_fields.items():
        names |= {name, computed.alias}
    return {name for name in names if name is not None}
