"""Names the forms that encoded values have, and tells them from other people's JSON.

| form | what it is |
| --- | --- |
| `{"$type": "text", "value": "…"}` | the text of what cannot come back |
| `{"$type": "data", "value": …}` | JSON of somebody else's that could be taken for one of these |
| `{"$type": "builtins:dict", "value": [[key, value], …]}` | a dict with keys that JSON has not |
| `{"$type": "module:Class", "value": …}` | a value of a class that every process knows |
| `{"$type": "module:Class", "value": {"$fields": {…}, …}}` | one of a registered class |
| `{"$type": "module:Enum", "value": {"$name": "…"}}` | a member of an enum whose value is no JSON |
| `{"$type": "timestep:same", "value": […]}` | the very object whose document is at that path |

Earlier versions wrote the fields of registered classes without `$fields`, and of models what their
validators take.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

TYPE = "$type"
VALUE = "value"
AS_TEXT = "text"
AS_DATA = "data"
AS_DICT = "builtins:dict"
LINK = "timestep:same"
SHOWN = "timestep:shown"
"""Around what a tool gave, and the item by which the model was shown it: `[document, item]`."""

_LARGEST = 10_000
"""Parts that a document for people has without its links, at most."""

FIELDS = "$fields"
ATTRIBUTES = "$attributes"
"""What an object has besides the fields of its class."""
UNSET = "$unset"
"""Fields without a default that the object does not have."""
FIELDS_SET = "$set"
"""The fields of a model that were given; left out where all were."""
EXTRA = "$extra"
PRIVATE = "$private"
NAME = "$name"
"""The name of an enum's member."""


def typed(name: str, value: Json) -> Json:
    return {TYPE: name, VALUE: value}


def is_encoded(document: Any) -> bool:
    """Whether `encode` or `escaped` may have made an object of this form."""
    return (
        isinstance(document, dict)
        and document.keys() == {TYPE, VALUE}
        and isinstance(named := document[TYPE], str)
        and (named in (AS_TEXT, AS_DATA) or ":" in named)
    )


def is_state(held: Any) -> bool:
    """Whether what an encoded object holds is the fields of a value of a registered class."""
    return isinstance(held, dict) and FIELDS in held


def unlinked(document: Json) -> Json:
    """A document for people: what is in an object more than once is written there each time.

    A link stays one to what it is inside of, and in a document that would be very large or deep.
    """
    if not has_links(document):
        return document
    try:
        expanded: Json = _Expansion(document).of(document, ((),))
    except (RecursionError, _TooLargeError):
        return document
    return expanded


class _TooLargeError(Exception):
    """A document has many more parts without its links than with them."""


class _Expansion:
    def __init__(self, root: Json) -> None:
        self._root = root
        self._left = _LARGEST

    def of(self, found: Any, places: tuple[tuple[Any, ...], ...]) -> Any:
        """A part without its links.

        Args:
            found: The part.
            places: Its path; and before that the paths at which the links were that led there.
        """
        self._left -= 1
        if self._left < 0:
            raise _TooLargeError
        *before, at = places
        if isinstance(found, list):
            return [self.of(item, (*before, (*at, n))) for n, item in enumerate(found)]
        if not isinstance(found, dict):
            return found
        if found.get(TYPE) == LINK and isinstance(found.get(VALUE), list):
            path = tuple(found[VALUE])
            if any(place[: len(path)] == path for place in places):
                return found
            target: Any = self._root
            for key in path:
                target = target[key]
            return self.of(target, (*places, path))
        return {key: self.of(item, (*before, (*at, key))) for key, item in found.items()}


def is_typed(document: Json) -> bool:
    """Whether anything in a document is more than the JSON that it is."""
    return any(TYPE in found for found in _objects(document))


def with_shown(document: Json, shown: Json) -> Json:
    """A value's document with what a model was shown of the value."""
    return typed(SHOWN, [document, shown])


def shown_of(document: Any) -> tuple[Any, Any]:
    """The two that `with_shown` was given; without it the document, and None."""
    if isinstance(document, dict) and document.get(TYPE) == SHOWN:
        held, shown = document[VALUE]
        return held, shown
    return document, None


def escaped(document: Json) -> Json:
    """A document as it is stored beside encoded values: as it is, unless it could be one."""
    return typed(AS_DATA, document) if is_encoded(document) else document


def unescaped(document: Any) -> Any:
    """The document that `escaped` was given."""
    if is_encoded(document) and document[TYPE] == AS_DATA:
        return document[VALUE]
    return document


def has_text(encoded: Json) -> bool:
    """Whether what was encoded cannot be brought back as a whole."""
    return any(found.get(TYPE) == AS_TEXT for found in _objects(encoded))


def has_links(encoded: Json) -> bool:
    """Whether something that was encoded is in it more than once."""
    return any(found.get(TYPE) == LINK for found in _objects(encoded))


def links(encoded: Json) -> Iterator[list[Any]]:
    """The path of each object that is in a document more than once."""
    for found in _objects(encoded):
        if found.get(TYPE) == LINK and isinstance(path := found.get(VALUE), list):
            yield path


def _objects(document: Json) -> Iterator[dict[str, Json]]:
    """Every object of JSON in a document, however deep."""
    waiting: list[Json] = [document]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
