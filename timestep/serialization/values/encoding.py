"""Encodes any Python object as JSON: a cyclic, deep or hostile one, too.

What a document cannot hold is its text in it. An object that is met again is a link to the
document of the first time, so two keys that share a list share one after a replay, and what
refers to itself has an end.
"""

from __future__ import annotations

import enum
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, TypeAlias

from timestep.serialization import leaf_types
from timestep.serialization.documents.forms import (
    AS_DICT,
    AS_TEXT,
    LINK,
    NAME,
    TYPE,
    VALUE,
    Json,
    typed,
)
from timestep.serialization.registered_types import is_named_tuple, registered, type_path
from timestep.serialization.values import object_state

_DEEPEST = 200
"""Levels of JSON. Decoding takes frames of Python's stack, of which the SDK needs some, too."""
_LONGEST_INT = 10_000
"""Bits. Python refuses to read, or write, numbers of more than 4,300 decimal digits."""

BIG_INT = "builtins:int"
FACTORIES = {cls.__name__: cls for cls in (bool, dict, float, int, list, set, str, tuple)}
"""What a defaultdict may make its values with, to come back."""

_Path: TypeAlias = "tuple[_Path, str | int, int] | None"
"""Where in the document something is: in what, under which key, and how deep."""

AS_THEY_ARE = frozenset({str, bool, type(None)})
"""Classes whose values are JSON, whatever they are."""

HOSTILE = (Exception, SystemExit)
"""What an object may answer with that is only looked at."""

_RESERVED = (TYPE, "$text")


def encode(value: object) -> Json:
    """JSON for any object; see the module for how."""
    if type(value) in AS_THEY_ARE:
        return value  # type: ignore[return-value]  # narrowed by exact type
    return Encoding().of(value)


def is_short(number: int) -> bool:
    """Whether a number may be written with its digits, which Python limits."""
    return number.bit_length() <= _LONGEST_INT


def encode_fields(values: Mapping[str, object], of: object) -> tuple[dict[str, Json], set[str]]:
    """JSON for named values that may share objects, and the names of those that would be text.

    Args:
        values: By their names. One that cannot be brought back has no document.
        of: What they are the parts of, which they may refer to.
    """
    encoding = Encoding()
    encoding.begin(of)
    fields: dict[str, Json] = {}
    lost: set[str] = set()
    for name, value in values.items():
        before, known = len(encoding.lost), encoding.known
        document = encoding.of(value, _in(None, name))
        if len(encoding.lost) > before:
            encoding.forget(known)
            lost.add(name)
        else:
            fields[name] = document
    return fields, lost


def text_of(value: object) -> str:
    """The text of any object, also of one that has none."""
    try:
        return str.__str__(str(value))  # Of a subclass of str: nothing but its characters.
    except HOSTILE:
        return f"<{type_path(type(value))} without a text>"


class Encoding:
    """Encodes one document."""

    def __init__(self) -> None:
        self.lost: list[type] = []
        """The classes of what is text in the document."""
        self.is_plain = True
        """Whether it is nothing but the JSON that it was made of."""
        self.is_comparable = True
        """Whether a copy of what was encoded is equal to it, as of NaN none is."""
        self._paths: dict[int, _Path] = {}
        self._open: set[int] = set()
        self._met: list[object] = []
        """Kept, so that an `id()` is not given to another object."""

    @property
    def known(self) -> int:
        """How many objects may be linked to."""
        return len(self._met)

    def begin(self, value: object, path: _Path = None) -> None:
        """Let what follows link to a value, which is being encoded."""
        self._paths[id(value)] = path
        self._met.append(value)
        self._open.add(id(value))

    def forget(self, known: int) -> None:
        """Let nothing link to what was met since so many objects were known."""
        for found in self._met[known:]:
            self._paths.pop(id(found), None)
            self._open.discard(id(found))
        # They stay alive: another object of the same id would be taken for them.

    def of(self, value: Any, path: _Path = None) -> Json:
        kind = type(value)
        if kind in AS_THEY_ARE:
            return value  # type: ignore[no-any-return]  # narrowed by exact type
        if kind is int and is_short(value):
            return value  # type: ignore[no-any-return]  # as above
        if kind is float:
            self.is_comparable &= not math.isnan(value)
            return value  # type: ignore[no-any-return]  # as above
        if id(value) in self._paths:
            return self._again(value)
        if path is not None and path[2] > _DEEPEST:
            return self._text(value)
        known = self.known
        try:
            if kind is not dict and kind is not list and (leaf := _leaf(value)) is not None:
                self.is_plain = False
                self.is_comparable &= _is_like_itself(value)
                return typed(*leaf)
            if kind is dict or kind is list or not _is_the_only_one(value):
                self.begin(value, path)
            document = self._inside(value, kind, path)
            self._open.discard(id(value))
        except HOSTILE:
            self.forget(known)
            return self._text(value)
        return document

    def _inside(self, value: Any, kind: type, path: _Path) -> Json:
        if kind is list:
            return self._list(value, path)
        if kind is dict and all(type(key) is str and key not in _RESERVED for key in value):
            return {key: self.of(item, _in(path, key)) for key, item in list(value.items())}
        self.is_plain = False
        inside = _in(path, VALUE)
        if kind is dict:
            return typed(AS_DICT, self._pairs(value, inside))
        name = type_path(kind)
        if kind in (tuple, set, frozenset):
            return typed(name, self._list(value, inside))
        if kind in (OrderedDict, Counter):
            return typed(name, self._pairs(value, inside))
        if kind is SimpleNamespace:
            return typed(name, self._pairs(vars(value), inside))
        if kind is deque:
            return typed(name, [value.maxlen, *self._list(value, inside, 1)])
        if kind is defaultdict:
            return typed(name, [_factory(value), self._pairs(value, _in(inside, 1))])
        if registered(name) is kind:
            return typed(name, self._held(value, kind, inside))
        raise TypeError(f"{name} is not registered")

    def _list(self, items: Any, path: _Path, first: int = 0) -> list[Json]:
        return [self.of(item, _in(path, n)) for n, item in enumerate(list(items), first)]

    def _pairs(self, value: Any, path: _Path) -> list[Json]:
        pairs: list[Json] = []
        for n, (key, item) in enumerate(list(value.items())):
            at = _in(path, n)
            pairs.append([self.of(key, _in(at, 0)), self.of(item, _in(at, 1))])
        return pairs

    def _held(self, value: Any, kind: Any, path: _Path) -> Json:
        """What is recorded of a value of a registered class."""
        if issubclass(kind, enum.Enum):
            return _member(value, kind)
        if is_named_tuple(kind):
            fields = zip(kind._fields, tuple.__iter__(value), strict=True)
            return {key: self.of(item, _in(path, key)) for key, item in fields}
        if kind.__eq__ is object.__eq__:
            self.is_comparable = False
        held: dict[str, Json] = {}
        for section, content in object_state.taken(value, kind).items():
            if isinstance(content, list):
                held[section] = [*content]
                continue
            at = _in(path, section)
            held[section] = {key: self.of(item, _in(at, key)) for key, item in content.items()}
        return held

    def _again(self, value: Any) -> Json:
        kind = type(value)
        if id(value) in self._open and (kind in (tuple, frozenset) or is_named_tuple(kind)):
            # It can only be made once all that it holds is there.
            return self._text(value)
        self.is_plain = False
        path: list[Json] = []
        at = self._paths[id(value)]
        while at is not None:
            at, key, _ = at
            path.append(key)
        return typed(LINK, path[::-1])

    def _text(self, value: object) -> Json:
        self.is_plain = False
        self.lost.append(type(value))
        return typed(AS_TEXT, text_of(value))


def _in(path: _Path, key: str | int) -> _Path:
    return (path, key, 1 if path is None else path[2] + 1)


def _leaf(value: Any) -> tuple[str, Any] | None:
    return (BIG_INT, hex(value)) if type(value) is int else leaf_types.written(value)


def _is_the_only_one(value: Any) -> bool:
    """Whether there is one such object in any process, so that a link would say nothing."""
    kind = type(value)
    return issubclass(kind, enum.Enum) or (kind in (tuple, frozenset) and len(value) == 0)


def _is_like_itself(value: Any) -> bool:
    """Whether a value is equal to itself: NaN is not, and a signalling one refuses to tell."""
    try:
        return bool(value == value)  # see above
    except ArithmeticError:
        return False


def _factory(value: defaultdict[Any, Any]) -> str | None:
    factory = value.default_factory
    if factory is None:
        return None
    name = getattr(factory, "__name__", "")
    if FACTORIES.get(name) is not factory:
        raise TypeError(f"{factory!r} is not known everywhere")
    return str(name)


def _member(value: Any, kind: Any) -> Json:
    """A member of an enum: by its value, where that is JSON and tells it, else by its name."""
    content = value._value_
    if type(content) in (str, int) and kind(content) is value:
        return content  # type: ignore[no-any-return]  # narrowed by exact type
    name = value._name_
    if kind.__members__[name] is not value:
        raise TypeError(f"{kind} has no member {name!r}")
    return {NAME: name}
