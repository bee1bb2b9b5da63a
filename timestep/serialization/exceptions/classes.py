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


def recorded_class(base: type[BaseException]) -> type[RecordedError]:
    """A class of recorded errors that are instances of a class, too.

    Raises:
        TypeError: The class lets nothing derive from it, or acts when something does.
    """
    if issubclass(RecordedError, base):
        return RecordedError
    if type(base) is not type or any("__init_subclass__" in vars(c) for c in base.__mro__[:-1]):
        raise TypeError(f"{base.__qualname__} acts when a class is derived from it")
    bases = (RecordedError, base)
    for known in type.__subclasses__(base):
        if known.__bases__ == bases:
            return known  # type: ignore[return-value]  # its bases say so
    namespace = {"__module__": RecordedError.__module__, "__doc__": RecordedError.__doc__}
    made: Any = type(RecordedError.__name__, bases, namespace)
    return made  # type: ignore[no-any-return]  # a class made at run time
