"""Decodes what was encoded, and only that, into what it was; other documents are data."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from timestep.errors import UnreadableValueError
from timestep.serialization import leaf_types
from timestep.serialization.documents.forms import (
    AS_DATA,
    AS_DICT,
    AS_TEXT,
    ATTRIBUTES,
    EXTRA,
    FIELDS,
    LINK,
    NAME,
    PRIVATE,
    TYPE,
    VALUE,
    Json,
    has_links,
    is_encoded,
    is_state,
    links,
)
from timestep.serialization.registered_types import is_named_tuple, registered
from timestep.serialization.values import earlier_forms, object_state
from timestep.serialization.values.encoding import BIG_INT, FACTORIES

_Path = tuple[Any, ...]
_NOT_WRITTEN = (ArithmeticError, TypeError, ValueError)
"""What a document of a built-in class leads to that `encode` did not make."""
_MAPPINGS: dict[str, Any] = {
    AS_DICT: dict,
    "collections:OrderedDict": OrderedDict,
    "collections:Counter": Counter,
}
_WHOLE: dict[str, Any] = {"builtins:tuple": tuple, "builtins:frozenset": frozenset}
"""What is made of all that it holds."""


class _NotMadeError(Exception):
    """What was decoded makes no value of its class: `encode` did not write that.

    Args:
        parts: What the document holds, decoded.
    """

    def __init__(self, parts: Any) -> None:
        self.parts = parts


def decode(document: Any) -> Any:
    """The value that `encode` was given, or its text.

    Raises:
        UnreadableValueError: Its class is not registered, or has other fields.
    """
    return _decoded(document, (), _Decoding(document, follows=has_links(document)))


def decode_fields(fields: Mapping[str, Json], of: Any, names: Iterable[str]) -> dict[str, Any]:
    """Values that `encode_fields` was given: of some names, and those linked with them.

    Args:
        fields: Their documents.
        of: What they are to be the parts of, which they may refer to.
        names: The names.

    Raises:
        UnreadableValueError: A class is not registered, or has other fields.
    """
    decoding = _Decoding(fields, follows=True)
    decoding.begin(of)
    return {
        name: _decoded(fields[name], (name,), decoding) for name in _closure(fields, set(names))
    }


def _decoded(document: Any, path: _Path, decoding: _Decoding) -> Any:
    try:
        return decoding.of(document, path)
    except RecursionError:
        raise UnreadableValueError("a recorded value is nested too deeply to be read") from None


def _closure(fields: Mapping[str, Json], names: set[str]) -> list[str]:
    """The names, and those that are linked with them."""
    linked = [(name, path[0]) for name in fields for path in links(fields[name]) if path]
    size = 0
    while size < len(names):
        size = len(names)
        for pair in linked:
            if not names.isdisjoint(pair):
                names.update(pair)
    return [name for name in fields if name in names]


class _Decoding:
    """Decodes one document.

    Args:
        root: The document, which links refer into.
        follows: Whether there are links.
    """

    def __init__(self, root: Any, *, follows: bool) -> None:
        self._root = root
        self._follows = follows
        self._made: dict[_Path, Any] = {}

    def begin(self, root: Any) -> None:
        """Let links refer to what the document is the parts of."""
        self._made[()] = root

    def of(self, document: Any, path: _Path) -> Any:
        if not isinstance(document, list | dict):
            return document
        if self._follows and path in self._made:
            return self._made[path]  # A link came first: JSONB has its own order of keys.
        if isinstance(document, list):
            return self._fill_list(self._keep(path, []), document, path)
        if not is_encoded(document):
            made = self._keep(path, {})
            for key, item in document.items():
                made[key] = self.of(item, self._in(path, key))
            return made
        named, held = document[TYPE], document[VALUE]
        if named == AS_TEXT:
            return held
        if named == AS_DATA:
            return self._as_it_is(named, held, path)
        if named == LINK and isinstance(held, list):
            return self._keep(path, self._linked(held))
        inside = self._in(path, VALUE)
        try:
            found = self._built_in(named, held, path, inside)
        except _NotMadeError as error:
            return self._keep(path, {TYPE: named, VALUE: error.parts})
        except _NOT_WRITTEN:
            return self._as_it_is(named, held, path)
        if found is not NotImplemented:
            return found
        try:
            return self._of_class(named, held, path, inside)
        except (RecursionError, UnreadableValueError):
            raise
        except Exception as error:
            # Not told to what is around it, which would decode it once more for each level.
            raise UnreadableValueError(
                f"a recorded {named!r} cannot be made again: {type(error).__name__}: {error}"
            ) from error

    def _in(self, path: _Path, key: Any) -> _Path:
        return (*path, key) if self._follows else path

    def _keep(self, path: _Path, made: Any) -> Any:
        if self._follows:
            self._made[path] = made
        return made

    def _as_it_is(self, named: str, held: Any, path: _Path) -> dict[str, Any]:
        """An object that `encode` did not make."""
        made: dict[str, Any] = self._keep(path, {TYPE: named})
        made[VALUE] = self.of(held, self._in(path, VALUE))
        return made

    def _fill_list(self, made: Any, items: list[Any], path: _Path, first: int = 0) -> Any:
        for n, item in enumerate(items[first:], first):
            made.append(self.of(item, self._in(path, n)))
        return made

    def _built_in(self, named: str, held: Any, path: _Path, inside: _Path) -> Any:
        """A value of a class that every process knows; NotImplemented of any other.

        Raises:
            _NotMadeError: Its parts make no such value.
            ArithmeticError, TypeError, ValueError: It is no such document; no part is decoded.
        """
        if (leaf := leaf_types.READERS.get(named)) is not None:
            written_as, read = leaf
            return read(_as(written_as, held))
        if named == BIG_INT:
            return int(_as(str, held), 16)
        if named in _MAPPINGS:
            return self._fill_pairs(self._keep(path, _MAPPINGS[named]()), held, inside)
        if named == "types:SimpleNamespace":
            namespace: Any = self._keep(path, SimpleNamespace())
            self._fill_pairs(vars(namespace), held, inside)
            return namespace
        if named in _WHOLE:
            items = self._fill_list([], _as(list, held), inside)
            return self._keep(path, _made_of(items, lambda: _WHOLE[named](items)))
        if named == "builtins:set":
            made: set[Any] = self._keep(path, set())
            items = self._fill_list([], _as(list, held), inside)
            _made_of(items, lambda: made.update(items))
            return made
        if named == "collections:deque":
            maxlen, *_ = _as(list, held)
            return self._fill_list(self._keep(path, deque(maxlen=maxlen)), held, inside, 1)
        if named == "collections:defaultdict":
            factory, pairs = _as(list, held)
            maker = None if factory is None else FACTORIES.get(_as(str, factory))
            with_default: defaultdict[Any, Any] = self._keep(path, defaultdict(maker))
            try:
                return self._fill_pairs(with_default, pairs, self._in(inside, 1))
            except _NotMadeError as error:
                raise _NotMadeError([factory, error.parts]) from None
        return NotImplemented

    def _fill_pairs(self, made: Any, pairs: Any, path: _Path) -> Any:
        for pair in _as(list, pairs):
            _key, _item = _as(list, pair)
        parts = []
        for n, (key, item) in enumerate(pairs):
            at = self._in(path, n)
            parts.append([self.of(key, self._in(at, 0)), self.of(item, self._in(at, 1))])
        _made_of(parts, lambda: _put(made, parts))
        return made

    def _of_class(self, named: str, held: Any, path: _Path, inside: _Path) -> Any:
        kind = registered(named)
        if kind is None:
            raise UnreadableValueError(
                f"a recorded value is of the class {named!r}, which is not registered here: "
                "register it with timestep.register_type, or name it in an annotation of the "
                "agent's tools, its output type or the context; a class that has moved is found "
                "where its old module imports it"
            )
        if issubclass(kind, enum.Enum):
            return _member(kind, named, self.of(held, inside))
        if is_named_tuple(kind) or not is_state(held):
            return self._keep(path, earlier_forms.made(kind, named, self.of(held, inside)))
        object_state.check(kind, held)
        made = self._keep(path, object_state.bare(kind))
        state = dict(held)
        for section in (FIELDS, ATTRIBUTES, EXTRA, PRIVATE):
            if isinstance(content := held.get(section), dict):
                at = self._in(inside, section)
                state[section] = {
                    name: self.of(item, self._in(at, name)) for name, item in content.items()
                }
        object_state.give(made, kind, state)
        return made

    def _linked(self, held: list[Any]) -> Any:
        path = tuple(held)
        try:
            if path in self._made:
                return self._made[path]
            found = self._root
            for key in path:
                found = found[key]
        except (LookupError, TypeError) as error:
            raise UnreadableValueError(
                f"a recorded value refers to {held}, which it has not"
            ) from (error)
        return self.of(found, path)


def _as(kind: type, held: Any) -> Any:
    if not isinstance(held, kind):
        raise TypeError(f"it is a {type(held).__name__}, and no {kind.__name__}")
    return held


def _put(made: Any, parts: list[list[Any]]) -> None:
    for name, item in parts:
        made[name] = item


def _made_of(parts: Any, make: Callable[[], Any]) -> Any:
    """What is made of parts, which are decoded once, whether it can be made or not.

    Raises:
        _NotMadeError: It cannot, such as a set of lists.
    """
    try:
        return make()
    except _NOT_WRITTEN:
        raise _NotMadeError(parts) from None


def _member(kind: Any, named: str, held: Any) -> Any:
    if isinstance(held, dict) and held.keys() == {NAME}:
        found = kind.__members__.get(held[NAME]) if isinstance(held[NAME], str) else None
        if found is None:
            raise UnreadableValueError(
                f"a recorded {named!r} cannot be made again: the enum has no {held[NAME]!r}"
            )
        return found
    return earlier_forms.made(kind, named, held)
