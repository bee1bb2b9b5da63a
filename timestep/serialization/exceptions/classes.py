"""Makes instances of errors' classes without the classes' own code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from timestep.errors import RecordedError
from timestep.serialization.exceptions.parts import is_made_by_statement
from timestep.serialization.registered_types import imported, type_path


def error_class(path: object) -> type[BaseException] | None:
    """The class of a path, if it is one of errors and imported here."""
    kind = imported(path)
    return kind if kind is not None and issubclass(kind, BaseException) else None


def error_classes(path: object) -> list[type[BaseException]]:
    """The classes of a path: of one that a function makes, those that its calls have made."""
    if not isinstance(path, str) or "<locals>" not in path:
        kind = error_class(path)
        return [] if kind is None else [kind]
    found: dict[type[BaseException], None] = {}
    left: list[type[BaseException]] = [BaseException]
    while left:
        kind = left.pop()
        found[kind] = None
        left += [sub for sub in type.__subclasses__(kind) if sub not in found]
    return [kind for kind in found if type_path(kind) == path]


def bases_of(kind: type[BaseException]) -> Iterator[str]:
    """The classes that an error may be an instance of, the nearest first, but for the last two."""
    for base in kind.__mro__:
        if issubclass(base, BaseException) and base not in (Exception, BaseException):
            yield type_path(base)


def bare(
    kind: type[BaseException], message: str, members: Sequence[BaseException]
) -> BaseException:
    """An instance that holds nothing yet, but its members if it is a group.

    Raises:
        TypeError: Only the class's own code can make one.
        ValueError: A group has no members.
    """
    if issubclass(kind, BaseExceptionGroup):
        group: BaseException = BaseExceptionGroup.__new__(kind, message, members)
        return group
    native: Any = kind
    while is_made_by_statement(native):
        native = native.__base__
    made: BaseException = native.__new__(kind)
    return made


def recorded_class(of: Sequence[type[BaseException]]) -> type[RecordedError]:
    """A class of recorded errors that are instances of each of some classes, too.

    Raises:
        TypeError: One of them lets nothing derive from it, or acts when something does.
    """
    if any(issubclass(RecordedError, base) for base in of):
        return RecordedError
    for base in of:
        if type(base) is not type or any("__init_subclass__" in vars(c) for c in base.__mro__[:-1]):
            raise TypeError(f"{base.__qualname__} acts when a class is derived from it")
    bases: tuple[type, ...] = (RecordedError, *of)
    for known in type.__subclasses__(of[0]):
        if known.__bases__ == bases:
            return known  # type: ignore[return-value]  # its bases say so
    namespace = {"__module__": RecordedError.__module__, "__doc__": RecordedError.__doc__}
    made: Any = type(RecordedError.__name__, bases, namespace)
    return made  # type: ignore[no-any-return]  # a class made at run time
