"""Seals errors into envelopes, and tries whether they can be opened."""

from __future__ import annotations

import json
from typing import Any, cast

from agents.exceptions import AgentsException
from pydantic import BaseModel, ValidationError

from timestep.errors import RecordedError
from timestep.runtime.secrets import without_secrets
from timestep.serialization.documents.envelopes import short_type
from timestep.serialization.exceptions import http, tripwires, validation
from timestep.serialization.exceptions.classes import bases_of
from timestep.serialization.exceptions.opening import OF_LINKS, all_opened, opened
from timestep.serialization.exceptions.parts import Lost, attributes_of, is_linked, kept
from timestep.serialization.exceptions.texts import line_of, shortened, text_of, told_by
from timestep.serialization.registered_types import type_path
from timestep.serialization.values import Json

_MOST = 1000
"""Errors in one envelope: the error, its causes and contexts, members of groups, and theirs."""
_DEEPEST = 20
"""How deep groups may be in groups."""
_LONGEST_OF_OTHERS = 1_000_000
"""Characters that all errors but the first may have together as JSON; then their texts are cut."""
_LONGEST_OF_FIRST = 4_000_000
"""Characters that the first may have; then it is its text alone."""
_LONGEST_CUT = 500


def seal(error: BaseException) -> dict[str, Any]:
    """The envelope of an error: `type`, `message`, `args`, `attributes` and what belongs to it."""
    return _sealed(error).envelope


def survives(error: Exception) -> Exception:
    """The error as its replay will see it: itself, or one with what an envelope keeps of it.

    The class is the same, or else it is a `RecordedError` that the same `except` clauses catch. An
    HTTP error itself has more than its replay: all headers and the whole body of its response, and
    the request (see `http`).
    """
    sealing = _sealed(error)
    if sealing.is_exact:
        return error
    back = all_opened(sealing.envelope)
    for copy, original in zip(back, sealing.errors, strict=True):
        copy.__traceback__ = original.__traceback__
    first = back[0]
    return first if isinstance(first, Exception) else error


def lost(error: BaseException, back: BaseException) -> list[str]:
    """The attributes of an error that what comes back of its record has not."""
    left = {name for name, _ in attributes_of(back)}
    return [name for name, _ in attributes_of(error) if name not in left]


def stand_in(error: Exception) -> RecordedError:
    """What stands for an error that cannot come back; the same `except` clauses catch it."""
    back = opened({**seal(error), "recorded": True})
    back.__traceback__ = error.__traceback__
    return cast(RecordedError, back)


def _sealed(error: BaseException) -> _Sealing:
    try:
        return _Sealing(error)
    except Exception:  # noqa: BLE001  # of whatever an error's own code raises
        told = RecordedError(told_by(error), type_name=type_path(type(error)))
        told.__traceback__ = error.__traceback__
        sealing = _Sealing(told)
        sealing.is_exact = False
        return sealing


class _Sealing:
    """One error and those that belong to it, as they are sealed."""

    def __init__(self, error: BaseException) -> None:
        self.errors = [error]
        self.is_exact = True
        """Whether all of it comes back as it is."""
        self._numbers = {id(error): 0}
        self._depths = [0]
        self._documents: list[dict[str, Any]] = []
        while len(self._documents) < len(self.errors):
            self._documents.append(self._document(len(self._documents)))
        self._hide_secrets()
        self._shorten()
        self._try()
        first, *others = self._documents
        self.envelope = {**first, "linked": others} if others else first

    def _number(self, error: BaseException, depth: int = 0) -> int | None:
        """Which of them another error is; None: there are too many."""
        if id(error) not in self._numbers:
            if len(self.errors) == _MOST or depth > _DEEPEST:
                self.is_exact = False
                return None
            self._numbers[id(error)] = len(self.errors)
            self.errors.append(error)
            self._depths.append(depth)
        return self._numbers[id(error)]

    def _numbers_in(self, held: BaseException | list[BaseException]) -> int | list[int] | None:
        """Which of them what an error holds is: another error, or a list of such."""
        if isinstance(held, BaseException):
            return self._number(held)
        return [one for error in held if (one := self._number(error)) is not None]

    def _document(self, number: int) -> dict[str, Any]:
        error = self.errors[number]
        recorded = error.recorded_as if isinstance(error, RecordedError) else None
        alone = _alone(error, is_first=number == 0) if recorded is None else dict(recorded)
        inside = alone.pop("inside", [])
        document = {**alone, **self._of_links(error, number, inside)}
        if recorded is None and document.get("recorded"):
            self.is_exact = False
        return document

    def _of_links(
        self, error: BaseException, number: int, inside: list[BaseException]
    ) -> dict[str, Any]:
        links: dict[str, Any] = {}
        found: dict[str, Any] = {}
        if isinstance(error, BaseExceptionGroup):
            depth = self._depths[number] + 1
            members = [self._number(member, depth) for member in error.exceptions]
            links["members"] = [n for n in members if n is not None]
            if None in members:
                found["recorded"] = True
        elif inside:
            links["lines"] = [self._number(cause, self._depths[number] + 1) for cause in inside]
        for kind, held in _errors_in(error).items():
            numbers = {key: self._numbers_in(value) for key, value in held.items()}
            links[kind] = {key: one for key, one in numbers.items() if one is not None}
        for name in ("cause", "context"):
            linked = vars(BaseException)[f"__{name}__"].__get__(error)
            if linked is not None and (one := self._number(linked)) is not None:
                links[name] = one
        if links := {name: numbers for name, numbers in links.items() if numbers not in ([], {})}:
            found["links"] = links
        if error.__suppress_context__:
            found["hides_context"] = True
        if notes := self._notes(error):
            found["notes"] = notes
        return found

    def _notes(self, error: BaseException) -> list[str]:
        notes = vars(error).get("__notes__", [])
        told = [note for note in notes if type(note) is str] if type(notes) is list else []
        hidden = [without_secrets(note) for note in told]
        if hidden != notes:
            self.is_exact = False
        return hidden

    def _hide_secrets(self) -> None:
        """Leave no secret in what only a traceback would tell otherwise, which hides them."""
        others = list(map(_told, self._documents[1:]))
        if not others or not _is_changed(others):
            return
        for number, told in enumerate(others, 1):
            if _is_changed(told):
                self._cut(number, without_secrets(told["text"]))

    def _shorten(self) -> None:
        if len(json.dumps(self._documents[0])) > _LONGEST_OF_FIRST:
            self._cut(0, self._documents[0]["text"])
        length = 0
        for number, document in enumerate(self._documents[1:], 1):
            length += len(json.dumps(document))
            if length > _LONGEST_OF_OTHERS:
                self._cut(number, shortened(document["text"], _LONGEST_CUT))

    def _cut(self, number: int, text: str) -> None:
        """Keep of an error only what it said, and which errors belong to it."""
        self.is_exact = False
        document = self._documents[number]
        stays = ("type", "bases", "title", *OF_LINKS)
        self._documents[number] = {
            **{name: document[name] for name in stays if name in document},
            **_said(text, short_type(document["type"])),
            **_NOTHING,
            "args": [text],
            "recorded": True,
        }

    def _try(self) -> None:
        """Open the envelope: what does not come back as it is, is recorded as such."""
        first, *others = self._documents
        back = all_opened({**first, "linked": others})
        for number, (copy, error) in enumerate(zip(back, self.errors, strict=True)):
            document = self._documents[number]
            if document.get("recorded"):
                continue
            if type(copy) is not type(error) or text_of(copy) != document["text"]:
                self.is_exact = False
                document["recorded"] = True


_NOTHING: dict[str, Json] = {"args": [], "attributes": {}, "response": None, "tripwire": None}


def _told(document: dict[str, Any]) -> dict[str, Any]:
    """What a document holds that an error says; the names of classes look like anything."""
    return {name: told for name, told in document.items() if name not in ("type", "bases", "links")}


def _said(text: str, name: str) -> dict[str, Json]:
    return {"message": line_of(text, name), "text": text}


def _alone(error: BaseException, *, is_first: bool) -> dict[str, Any]:
    """What is kept of one error, without those that belong to it.

    `recorded` where that is not all of it; `inside`, what validators raised.
    """
    kind = type(error)
    document: dict[str, Any] = {
        "type": type_path(kind),
        "bases": list(bases_of(kind)),
        **_said(told_by(error), kind.__name__),
        **_NOTHING,
    }
    is_whole = text_of(error) is not None
    try:
        if isinstance(error, ValidationError):
            sealed, inside = validation.seal(error)
            is_whole &= not _is_changed(sealed)
            if is_whole:
                document |= {"validation": sealed, "inside": inside}
        elif isinstance(error, BaseExceptionGroup):
            document["title"] = error.message
        else:
            is_whole &= _keep_args(error, document)
        is_whole &= _keep_attributes(error, document, is_first=is_first)
        document["tripwire"] = tripwires.seal(error)
    except Exception:  # noqa: BLE001  # of whatever an error's own code raises
        is_whole = False
    if not is_whole:
        document["recorded"] = True
    return document


def _keep_args(error: BaseException, document: dict[str, Any]) -> bool:
    """Keep the arguments; whether all are."""
    try:
        document["args"] = [None if is_linked(arg) else kept(arg) for arg in _args(error)]
    except Lost:
        document["args"] = [document["text"]]
        return False
    return True


def _keep_attributes(error: BaseException, document: dict[str, Any], *, is_first: bool) -> bool:
    """Keep the attributes, and what stands for those of libraries; whether all are."""
    is_whole = True
    found: dict[str, Json] = {}
    messages: dict[str, object] = {}
    for name, value in attributes_of(error):
        if _is_made_anew(error, name) or is_linked(value):
            continue
        if http.is_message(value):
            messages[name] = value
            continue
        try:
            found[name] = kept(value)
        except Lost:
            is_whole = False
            continue
        if is_first and not _is_told_anyway(value) and _is_changed(found[name]):
            del found[name]
            is_whole = False
    document["attributes"] = found
    if messages:
        document["http"] = http.held_by(messages)
        sealed = (http.seal(value) for value in messages.values())
        document["response"] = next((one for one in sealed if one is not None), None)
    return is_whole


def _is_made_anew(error: BaseException, name: str) -> bool:
    """Whether an attribute is one that the SDK gives its own errors."""
    if name == "run_data":
        return isinstance(error, AgentsException)
    return name in tripwires.ATTRIBUTES and tripwires.is_tripwire(error)


def _is_told_anyway(value: object) -> bool:
    """Whether earlier versions recorded an attribute, too: of JSON's types, or a model."""
    if isinstance(value, dict):
        return all(_is_told_anyway(key) and _is_told_anyway(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_told_anyway(item) for item in value)
    return value is None or isinstance(value, str | int | float | BaseModel)


def _errors_in(
    error: BaseException,
) -> dict[str, dict[str, BaseException | list[BaseException]]]:
    """The errors, and lists of them, among an error's arguments and attributes."""
    args = () if isinstance(error, BaseExceptionGroup) else _args(error)
    found = {
        "args": {str(n): arg for n, arg in enumerate(args) if is_linked(arg)},
        "attributes": {name: value for name, value in attributes_of(error) if is_linked(value)},
    }
    return {kind: errors for kind, errors in found.items() if errors}


def _is_changed(found: Any) -> bool:
    """Whether there is a secret in what is kept."""
    text = json.dumps(found, ensure_ascii=False)
    return without_secrets(text) != text


def _args(error: BaseException) -> tuple[Any, ...]:
    args: tuple[Any, ...] = vars(BaseException)["args"].__get__(error)
    return args
