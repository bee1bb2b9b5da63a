"""Turns Python values into JSON that PostgreSQL can hold, and back, exactly.

Plain JSON stays plain, so that people can query it. What JSON cannot say is marked with
`$type`; what JSONB cannot hold (NUL characters, lone surrogates, NaN) is kept as text under
`$text`. A value that cannot be brought back is recorded as its text, and is that text in the
first execution too: a run and its replay see the same.

A document is data. Only what `encode` can have made is decoded: objects of exactly `$type` and
`value`, whose type is one of those below or of `serialization.registered_types`. Everything
else is what it is, whatever its keys. A document that is stored beside encoded ones, such as a
model's item, is put under `{"$type": "data"}` if it could be taken for one.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from timestep.errors import UnreadableValueError
from timestep.runtime import logs, process_state
from timestep.runtime.process_state import PerProcess
from timestep.serialization import leaf_types
from timestep.serialization.registered_types import (
    can_be_made,
    is_named_tuple,
    registered,
    type_path,
)

_log = logs.logger()

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_TYPE = "$type"
_VALUE = "value"
_TEXT = "$text"
_AS_TEXT = "text"
_AS_DATA = "data"
_AS_DICT = "builtins:dict"


# Made once: json.dumps makes one for each call that has such options.
_exact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def dumps(value: object) -> str:
    """JSON text of a value made of JSON's types, with what JSONB cannot hold set aside.

    Raises:
        TypeError: The value is not made of JSON's types.
    """
    try:
        text = _exact.encode(value)
        if "\\u0000" not in text and not _is_set_aside(value):
            text.encode()
            return text
    except ValueError:  # NaN, infinity, or a lone surrogate
        pass
    return json.dumps({_TEXT: json.dumps(value)})


def is_plain(text: str) -> bool:
    """Whether JSONB can hold what JSON text in ASCII says, as it is; False where it may not."""
    return not ("\\u0000" in text or "\\ud" in text or "NaN" in text or "Infinity" in text)


def storable(value: Any) -> Json:
    """The value, or what stands for it where JSONB cannot hold it.

    Raises:
        TypeError: The value is not made of JSON's types.
    """
    text = dumps(value)
    stored: Json = json.loads(text) if text.startswith('{"' + _TEXT + '"') else value
    return stored


def column_of(rows: list[dict[str, Any]]) -> str:
    """JSON text of rows whose values are storable, or have a text of their own."""
    try:
        return to_json(rows, fallback=str).decode()
    except PydanticSerializationError:  # such as a lone surrogate: PostgreSQL refuses it
        return json.dumps(rows, default=str)


def restored(value: Any) -> Any:
    """What `storable` or `dumps` was given."""
    if _is_set_aside(value):
        try:
            return json.loads(value[_TEXT])
        except (ValueError, RecursionError):
            return value  # Neither of them made it.
    return value


def _is_set_aside(value: Any) -> bool:
    """Whether a value is text that is JSON, or would be taken for it."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_TEXT), str)


def exact_text(value: Json) -> str | None:
    """The value's JSON text where JSONB would order its keys, or write its numbers, otherwise."""
    return json.dumps(value) if _is_changed_by_jsonb(value) else None


def kept_exactly(value: Json) -> Json:
    """What stands for the value in a JSONB column alone; `restored` gives exactly the value."""
    text = exact_text(value)
    return storable(value) if text is None else {_TEXT: text}


def _is_changed_by_jsonb(value: Json) -> bool:
    if isinstance(value, dict):
        keys = list(value)
        # JSONB orders keys by their length, then by their bytes.
        ordered = sorted(keys, key=lambda key: (len(key.encode("utf-8", "replace")), key))
        return keys != ordered or any(_is_changed_by_jsonb(item) for item in value.values())
    if isinstance(value, list):
        return any(_is_changed_by_jsonb(item) for item in value)
    return isinstance(value, float) and (value.is_integer() or "e" in repr(value))


def plain_text(text: str | None) -> str | None:
    """Text that a `text` column can hold: NUL and lone surrogates become U+FFFD."""
    if text is None:
        return None
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def encode(value: object) -> Json:
    """JSON for any value; see the module for how."""
    try:
        return _encode(value)
    except RecursionError:  # It refers to itself.
        return _typed(_AS_TEXT, str(value))


def _encode(value: object) -> Json:
    if value is None or isinstance(value, bool):
        return value
    kind = type(value)
    if kind in (str, int, float):
        return value  # type: ignore[return-value]  # narrowed by exact type
    if kind is list:
        return [_encode(item) for item in value]  # type: ignore[attr-defined]
    if kind is dict:
        return _encode_dict(value)  # type: ignore[arg-type]
    return _encode_typed(value)


def _encode_dict(value: Mapping[object, object]) -> Json:
    if all(type(key) is str for key in value) and not ({_TYPE, _TEXT} & value.keys()):
        return {str(key): _encode(item) for key, item in value.items()}
    return _typed(_AS_DICT, [[_encode(k), _encode(v)] for k, v in value.items()])


def _typed(name: str, value: Json) -> Json:
    return {_TYPE: name, _VALUE: value}


def _encode_typed(value: object) -> Json:
    kind = type(value)
    path = type_path(kind)
    if kind in (OrderedDict, Counter):
        return _typed(path, [[_encode(k), _encode(v)] for k, v in value.items()])  # type: ignore[attr-defined]
    if kind is deque:
        return _typed(path, [value.maxlen, *map(_encode, value)])  # type: ignore[attr-defined,call-overload]
    if kind in (tuple, set, frozenset):
        return _typed(path, [_encode(item) for item in value])  # type: ignore[attr-defined]
    if (leaf := leaf_types.written(value)) is not None:
        return _typed(*leaf)
    if registered(path) is kind:
        if isinstance(value, enum.Enum):
            return _typed(path, _encode(value.value))
        if is_named_tuple(kind):
            return _typed(path, dict(zip(kind._fields, map(_encode, value), strict=True)))  # type: ignore[attr-defined,call-overload]
        if isinstance(value, BaseModel):
            return _encode_model(path, value)
        if dataclasses.is_dataclass(value):
            fields = [f.name for f in dataclasses.fields(value) if f.init]
            return _typed(path, {name: _encode(getattr(value, name)) for name in fields})
    return _typed(_AS_TEXT, str(value))


def _encode_model(path: str, value: BaseModel) -> Json:
    """A model by its aliases, if it can be made of that again."""
    try:
        document = _encode(value.model_dump(mode="json", by_alias=True))
        _made(type(value), decode(document))
    except (PydanticSerializationError, UnreadableValueError):
        return _typed(_AS_TEXT, str(value))
    return _typed(path, document)


def escaped(document: Json) -> Json:
    """A document as it is stored beside encoded values: as it is, unless it could be one."""
    return _typed(_AS_DATA, document) if is_encoded(document) else document


def unescaped(document: Any) -> Any:
    """The document that `escaped` was given."""
    if is_encoded(document) and document[_TYPE] == _AS_DATA:
        return document[_VALUE]
    return document


def is_encoded(document: Any) -> bool:
    """Whether `encode` or `escaped` may have made an object of this form."""
    return (
        isinstance(document, dict)
        and document.keys() == {_TYPE, _VALUE}
        and isinstance(named := document[_TYPE], str)
        and (named in (_AS_TEXT, _AS_DATA) or ":" in named)
    )


def decode(value: Any) -> Any:
    """The value that `encode` was given, or its text.

    Raises:
        UnreadableValueError: Its class is not registered, or has other fields.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not is_encoded(value):
        return {key: decode(item) for key, item in value.items()}
    named, held = value[_TYPE], value[_VALUE]
    if named == _AS_TEXT:
        return held
    if named in _BUILT_IN:
        written_as, made = _BUILT_IN[named]
        if not isinstance(held, written_as):
            return _as_it_is(named, held)
        try:
            return made(held)
        except (ArithmeticError, TypeError, ValueError):
            return _as_it_is(named, held)
    if named == _AS_DATA:
        return _as_it_is(named, held)
    kind = registered(named)
    if kind is None:
        raise UnreadableValueError(
            f"a recorded value is of the class {named!r}, which is not registered here: register "
            "it with timestep.register_type, or name it in an annotation of the agent's tools, "
            "its output type or the context"
        )
    return _made(kind, decode(held))


def _as_it_is(named: str, held: Any) -> dict[str, Any]:
    """An object that `encode` did not make."""
    return {_TYPE: named, _VALUE: decode(held)}


def _parts(items: list[Any]) -> Iterator[Any]:
    return map(decode, items)


def _dict_of(pairs: list[Any]) -> dict[Any, Any]:
    if not all(isinstance(pair, list) for pair in pairs):
        raise TypeError
    return {decode(key): decode(item) for key, item in pairs}


def _deque_of(parts: list[Any]) -> deque[Any]:
    return deque(_parts(parts[1:]), parts[0] if parts else None)


_BUILT_IN: dict[str, tuple[type, Callable[[Any], Any]]] = {
    _AS_DICT: (list, _dict_of),
    type_path(OrderedDict): (list, lambda pairs: OrderedDict(_dict_of(pairs))),
    type_path(Counter): (list, lambda pairs: Counter(_dict_of(pairs))),
    type_path(deque): (list, _deque_of),
    type_path(tuple): (list, lambda items: tuple(_parts(items))),
    type_path(set): (list, lambda items: set(_parts(items))),
    type_path(frozenset): (list, lambda items: frozenset(_parts(items))),
    **leaf_types.READERS,
}
"""How values that JSON has no word for are written, and what makes them of that again."""


def _made(kind: Any, held: Any) -> Any:
    """A value of a registered class, of its own fields alone.

    Raises:
        UnreadableValueError: The class has no such fields, or does not take what they hold.
    """
    path = type_path(kind)
    try:
        if issubclass(kind, enum.Enum):
            return kind(held)
        known = _model_fields(kind) if issubclass(kind, BaseModel) else _init_fields(kind)
        if known is not None and isinstance(held, dict) and (unknown := held.keys() - known):
            raise UnreadableValueError(
                f"a recorded {path!r} has the fields {sorted(unknown)}, which the class does not "
                "have: give it fields of these names again"
            )
        if is_named_tuple(kind):
            return kind._make(map((kind._field_defaults | held).__getitem__, kind._fields))
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
            f"a recorded {path!r} cannot be made again ({'; '.join(problems)}): let the class take "
            "what its earlier versions held"
        ) from error


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


class ToldTypes(PerProcess):
    """Keeps the classes of which the log has said that their values become text."""

    def __init__(self) -> None:
        self.paths: set[str] = set()


def survives(value: object) -> object:
    """The value as its replay will see it: itself, or with text where nothing else is kept."""
    encoded = encode(value)
    if not has_text(encoded):
        return value
    told = process_state.of(ToldTypes).paths
    for kind in _lost(value):
        if (path := type_path(kind)) not in told:
            told.add(path)
            _log.warning(
                "a value of the class %s is recorded, and goes on, as its text: %s",
                path,
                "register the class with timestep.register_type, or annotate what returns it"
                if can_be_made(kind)
                else "JSON, dataclasses, pydantic models and enums at the top level of a module "
                "are kept as they are, once timestep.register_type or an annotation names them",
            )
    return decode(encoded)


def _lost(value: object) -> Iterator[type]:
    """The classes of the parts of a value that are kept as text."""
    kind = type(value)
    if kind in (list, tuple, set, frozenset):
        parts = list(value)  # type: ignore[call-overload]  # narrowed by exact type
    elif kind is dict:
        parts = [*value, *value.values()]  # type: ignore[misc,attr-defined]  # as above
    elif dataclasses.is_dataclass(value) and registered(type_path(kind)) is kind:
        parts = [getattr(value, field.name) for field in dataclasses.fields(value) if field.init]
    else:
        if has_text(encode(value)):
            yield kind
        return
    for part in parts:
        yield from _lost(part)


def has_text(encoded: Json) -> bool:
    """Whether what was encoded cannot be brought back as a whole."""
    if isinstance(encoded, list):
        return any(has_text(item) for item in encoded)
    if isinstance(encoded, dict):
        return encoded.get(_TYPE) == _AS_TEXT or any(has_text(i) for i in encoded.values())
    return False
