"""Keeps what an error holds: its arguments, attributes and slots, each as it was or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from types import MemberDescriptorType
from typing import Any, TypeGuard

from timestep.errors import UnreadableValueError
from timestep.serialization.values import Json, decode
from timestep.serialization.values.encoding import Encoding
from timestep.serialization.values.survival import comes_back

LONGEST = 1_000_000
"""Characters that one argument or attribute may have as JSON."""

_HEAP_TYPE = 1 << 9
"""The flag of such classes, as Python's C interface defines it."""
_SCALARS = (str, int, bool, type(None))

_NOT_KEPT = {
    # What was asked for an attribute: any object, with all that it holds.
    (AttributeError, "obj"),
    # Kept as the members, the message and whether a cause hides the context.
    (BaseExceptionGroup, "message"),
    (BaseExceptionGroup, "exceptions"),
    (BaseException, "__suppress_context__"),
}
"""Slots of Python's own errors that are no attributes of theirs."""


class Lost(Exception):
    """A value that would not come back as it was."""


def kept(value: object) -> Json:
    """JSON that a value comes back from as it was.

    Raises:
        Lost: It would not, or it is too long.
    """
    if type(value) in _SCALARS and (type(value) is not str or len(value) <= LONGEST):
        return value  # type: ignore[return-value]  # narrowed by its exact type
    try:
        encoding = Encoding()
        encoded = encoding.of(value)
        if encoding.lost or len(repr(encoded)) > LONGEST:
            raise Lost
        if comes_back(value, decode(encoded), encoded, encoding):
            return encoded
    except Lost:
        raise
    except Exception as error:  # of whatever a value's own code raises
        raise Lost from error
    raise Lost


def known(value: Any) -> Any:
    """What was encoded; where its class is not known here, as JSON."""
    try:
        return decode(value)
    except UnreadableValueError:
        return value


def is_linked(value: object) -> TypeGuard[BaseException | list[BaseException]]:
    """Whether what an error holds is another one, or a list of errors, as of a step's attempts."""
    if type(value) is list and value:
        return all(isinstance(item, BaseException) for item in value)
    return isinstance(value, BaseException)


def attributes_of(error: BaseException) -> Iterator[tuple[str, object]]:
    """The attributes of an error by their names, and those that are slots."""
    held = vars(error)
    yield from ((name, value) for name, value in held.items() if not name.startswith("__"))
    for name, owner in _slots(type(error)).items():
        if name in held or (owner, name) in _NOT_KEPT:
            continue
        try:
            value = vars(owner)[name].__get__(error)
        except AttributeError:  # It is not set.
            continue
        # One of Python's own that is not set is None.
        if value is not None or is_made_by_statement(owner):
            yield name, value


def set_attribute(error: BaseException, name: str, value: object) -> None:
    """Give an error an attribute, without its class's own code; none of Python's own names."""
    if name.startswith("__"):
        return
    owner = _slots(type(error)).get(name)
    if owner is None or (owner, name) in _NOT_KEPT:
        vars(error)[name] = value
    else:
        vars(owner)[name].__set__(error, value)


def _slots(kind: type) -> dict[str, type]:
    """Which class each slot is of."""
    found: dict[str, type] = {}
    for cls in kind.__mro__:
        for name, descriptor in vars(cls).items():
            if isinstance(descriptor, MemberDescriptorType):
                found.setdefault(name, cls)
    return found


def is_made_by_statement(cls: type) -> bool:
    """Whether a class was made while Python ran, and is not one of Python's own."""
    return bool(cls.__flags__ & _HEAP_TYPE)
