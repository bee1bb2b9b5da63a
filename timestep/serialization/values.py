"""Turns Python values into JSON that PostgreSQL can hold, and back, exactly.

Plain JSON stays plain, so that people can query it. What JSON cannot say is marked with
`$type`; what JSONB cannot hold (NUL characters, lone surrogates, NaN) is kept as text under
`$text`. A value that cannot be brought back is recorded as its text, and is that text in the
first execution too: a run and its replay see the same.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import importlib
import json
import uuid
from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

_TYPE = "$type"
_VALUE = "value"
_TEXT = "$text"
_AS_TEXT = "text"


# Made once: json.dumps makes one for each call that has such options.
_exact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def dumps(value: object) -> str:
    """JSON text of a value made of JSON's types, with what JSONB cannot hold set aside.

    Raises:
        TypeError: The value is not made of JSON's types.
    """
    try:
        text = _exact.encode(value)
        if "\\u0000" not in text:
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
    if isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_TEXT), str):
        return json.loads(value[_TEXT])
    return value


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


def type_path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def import_type(path: str) -> type | None:
    """The class a path names, or None where it is gone or was never importable."""
    module, _, qualname = path.partition(":")
    if "<locals>" in qualname:
        return None
    try:
        found: Any = importlib.import_module(module)
        for name in qualname.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError):
        return None
    return found if isinstance(found, type) else None


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
    return _typed("builtins:dict", [[_encode(k), _encode(v)] for k, v in value.items()])


def _typed(name: str, value: Json) -> Json:
    return {_TYPE: name, _VALUE: value}


def _encode_typed(value: object) -> Json:
    kind = type(value)
    path = type_path(kind)
    if kind in (tuple, set, frozenset):
        return _typed(path, [_encode(item) for item in value])  # type: ignore[attr-defined]
    if kind is bytes:
        return _typed(path, base64.b64encode(value).decode())  # type: ignore[arg-type]
    if kind in (datetime.datetime, datetime.date, datetime.time):
        return _typed(path, value.isoformat())  # type: ignore[attr-defined]
    if kind in (decimal.Decimal, uuid.UUID):
        return _typed(path, str(value))
    if import_type(path) is kind:
        if isinstance(value, enum.Enum):
            return _typed(path, _encode(value.value))
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
        type(value).model_validate(decode(document))
    except (PydanticSerializationError, ValidationError):
        return _typed(_AS_TEXT, str(value))
    return _typed(path, document)


def decode(value: Any) -> Any:
    """The value that `encode` was given, or its text.

    Raises:
        LookupError: The class of the value is gone.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if _TYPE not in value:
        return {key: decode(item) for key, item in value.items()}
    return _decode_typed(value[_TYPE], value[_VALUE])


def _decode_typed(path: str, value: Any) -> Any:
    if path == _AS_TEXT:
        return value
    if path == "builtins:dict":
        return {decode(k): decode(v) for k, v in value}
    kind = import_type(path)
    if kind is None:
        raise LookupError(f"the class {path!r} of a recorded value cannot be imported")
    if kind in (tuple, set, frozenset):
        return kind(decode(item) for item in value)
    if kind is bytes:
        return base64.b64decode(value)
    if issubclass(kind, datetime.date | datetime.time):
        return kind.fromisoformat(value)
    if kind in (decimal.Decimal, uuid.UUID):
        return kind(value)
    if issubclass(kind, BaseModel):
        return kind.model_validate(decode(value))
    if dataclasses.is_dataclass(kind):
        return kind(**{name: decode(item) for name, item in value.items()})
    rebuilt: Any = kind
    return rebuilt(decode(value))


def survives(value: object) -> object:
    """The value as its replay will see it: itself, or with text where nothing else is kept."""
    encoded = encode(value)
    return decode(encoded) if has_text(encoded) else value


def has_text(encoded: Json) -> bool:
    """Whether what was encoded cannot be brought back as a whole."""
    if isinstance(encoded, list):
        return any(has_text(item) for item in encoded)
    if isinstance(encoded, dict):
        return encoded.get(_TYPE) == _AS_TEXT or any(has_text(i) for i in encoded.values())
    return False
