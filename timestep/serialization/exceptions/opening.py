"""Opens envelopes: whatever is in one, an error comes out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, NoReturn

from agents.exceptions import AgentsException

from timestep.errors import RecordedError
from timestep.serialization.documents.envelopes import part, summary
from timestep.serialization.exceptions import http, tripwires, validation
from timestep.serialization.exceptions.classes import (
    bare,
    error_class,
    error_classes,
    recorded_class,
)
from timestep.serialization.exceptions.parts import known, set_attribute

_RAISED = (Exception, asyncio.CancelledError)
"""What a record may have raised; a call ends in a CancelledError where a task inside it did."""
OF_LINKS = ("links", "linked", "notes", "hides_context")
"""What an envelope has of the errors that belong to one, and not of that alone."""


def opened(envelope: Any) -> BaseException:
    """The error that an envelope holds; a `RecordedError` where it cannot come back as it was."""
    return all_opened(envelope)[0]


def all_opened(envelope: Any) -> list[BaseException]:
    """That error, and those that belong to it, in the order of their documents."""
    linked = envelope.get("linked", []) if isinstance(envelope, dict) else []
    documents = [envelope, *(linked if isinstance(linked, list) else [])]
    opening = _Opening(documents)
    errors = [opening.made(number) for number in range(len(documents))]
    for number, error in enumerate(errors):
        _link(error, documents[number], errors)
    return errors


def raise_as_it_is(error: BaseException) -> NoReturn:
    """Raise an error that a record holds, or will hold: with its own context, wherever this is."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context


class _Opening:
    """Makes the errors of an envelope, those inside others first."""

    def __init__(self, documents: list[Any]) -> None:
        self._documents = documents
        self._made: dict[int, BaseException] = {}
        self._begun: set[int] = set()

    def made(self, number: int) -> BaseException:
        if number not in self._made:
            self._begun.add(number)
            document = self._documents[number]
            inside = self._inside(document)
            self._made[number] = _made(document, inside, is_raised=number == 0)
        return self._made[number]

    def _inside(self, document: Any) -> list[BaseException]:
        """The members of a group, or what a validator raised."""
        links = _links(document)
        numbers = links.get("members") or links.get("lines") or []
        with contextlib.suppress(TypeError, LookupError, RecursionError):
            # What has begun and is not made would be inside itself.
            return [self.made(n) for n in numbers if n not in self._begun or n in self._made]
        return []


def _links(document: Any) -> dict[str, Any]:
    found = document.get("links") if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}


def _made(document: Any, inside: list[BaseException], *, is_raised: bool) -> BaseException:
    try:
        if not document.get("recorded"):
            return _exact(document, inside, is_raised=is_raised)
    except Exception:  # noqa: BLE001  # whatever is wrong with an envelope is no error of its own
        pass
    for path in _bases(document):
        with contextlib.suppress(Exception):  # as above
            bases = error_classes(path)
            if bases and issubclass(bases[0], Exception | BaseExceptionGroup):
                return _recorded(recorded_class(bases), document, inside)
    return _recorded(RecordedError, document, [])


def _bases(document: Any) -> list[Any]:
    found = document.get("bases") if isinstance(document, dict) else None
    return found if isinstance(found, list) else []


def _exact(
    document: dict[str, Any], inside: list[BaseException], *, is_raised: bool
) -> BaseException:
    """The error as it was.

    Raises:
        Exception: It cannot come back.
    """
    kind = error_class(document["type"])
    if kind is None or (is_raised and not issubclass(kind, _RAISED)):
        raise LookupError(document["type"])
    if "text" not in document:
        return _of_before(kind, document)
    if "validation" in document:
        return validation.restored(document["validation"], inside)
    error = bare(kind, document.get("title", ""), inside)
    _fill(error, document, inside)
    for name, value in document["attributes"].items():
        set_attribute(error, name, known(value))
    return error


def _recorded(
    kind: type[RecordedError], document: Any, inside: list[BaseException]
) -> RecordedError:
    """What stands for an error that cannot come back as it was."""
    held = document if isinstance(document, dict) else {}
    error: Any = bare(kind, part(held, "title"), inside)
    _args.__set__(error, (part(held, "text") or summary(held),))
    with contextlib.suppress(Exception):  # of a document that no version wrote
        _fill(error, held, inside)
    attributes = held.get("attributes")
    for name, value in attributes.items() if isinstance(attributes, dict) else ():
        with contextlib.suppress(Exception):  # as above
            set_attribute(error, name, known(value))
    told = {"text": part(held, "text") or summary(held)}
    alone = {name: value for name, value in held.items() if name not in OF_LINKS}
    vars(error)["recorded_as"] = {**alone, **told, "recorded": True}
    vars(error)["type_name"] = part(held, "type")
    return error  # type: ignore[no-any-return]  # of a class made at run time


def _fill(error: BaseException, document: dict[str, Any], inside: Sequence[BaseException]) -> None:
    if isinstance(error, BaseExceptionGroup):
        _args.__set__(error, (error.message, list(inside)))
    else:
        _args.__set__(error, tuple(known(arg) for arg in document["args"]))
    if isinstance(error, AgentsException):
        vars(error)["run_data"] = None
    http.restore(error, document["response"], document.get("http", {}))
    if (told := document["tripwire"]) is not None:
        tripwires.restore(error, told)


def _of_before(kind: type[BaseException], document: dict[str, Any]) -> BaseException:
    """An error of an envelope as earlier versions wrote them."""
    args = tuple(known(arg) for arg in document["args"])
    # Errors of the system read their arguments when they are made. The class's own code is not run.
    base = OSError if issubclass(kind, OSError) else Exception
    error = base.__new__(kind, *args)
    if not isinstance(error, OSError) or error.filename is None:
        error.args = args
    if isinstance(error, AgentsException):
        error.run_data = None
    for name, value in document["attributes"].items():
        if not name.startswith("__"):
            vars(error)[name] = known(value)
    if (sealed := document["response"]) is not None:
        http.restore_of_before(error, sealed)
    if (told := document.get("tripwire")) is not None:
        tripwires.restore(error, told)
    return error


def _link(error: BaseException, document: Any, errors: list[BaseException]) -> None:
    """Give an error its notes, and those that belong to it; nothing of what is no envelope."""
    links = _links(document)
    with contextlib.suppress(Exception):
        if found := links.get("args"):
            args = list(error.args)
            for position, number in found.items():
                with contextlib.suppress(Exception):
                    args[int(position)] = _linked(number, errors)
            _args.__set__(error, tuple(args))
    with contextlib.suppress(Exception):
        for name, number in links.get("attributes", {}).items():
            set_attribute(error, name, _linked(number, errors))
    with contextlib.suppress(Exception):
        if "context" in links:
            _context.__set__(error, errors[links["context"]])
        if "cause" in links:
            _cause.__set__(error, errors[links["cause"]])
        if isinstance(document, dict) and "text" in document:
            _hides.__set__(error, document.get("hides_context") is True)
            if notes := document.get("notes"):
                vars(error)["__notes__"] = [str(note) for note in notes]


def _linked(number: Any, errors: list[BaseException]) -> BaseException | list[BaseException]:
    return [errors[n] for n in number] if isinstance(number, list) else errors[number]


# Not an error's own: its class may have others of these names.
_args: Any = BaseException.args
_context: Any = BaseException.__context__
_cause: Any = BaseException.__cause__
_hides: Any = vars(BaseException)["__suppress_context__"]
