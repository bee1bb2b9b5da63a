"""Gives a value as its replay will see it, and says what of it does not come back.

A value survives if what is decoded of its document has the same document, and is equal to it by
the value's own `==`, where that can tell. Else the first execution goes on with what a replay
will make of the document.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from typing import Any

from pydantic import SecretBytes, SecretStr

from timestep.errors import UnreadableValueError
from timestep.runtime import logs, process_state
from timestep.runtime.process_state import PerProcess
from timestep.serialization.documents.forms import TYPE, VALUE, Json, has_links
from timestep.serialization.registered_types import can_be_made, registered, type_path
from timestep.serialization.values.decoding import decode
from timestep.serialization.values.encoding import AS_THEY_ARE, HOSTILE, Encoding, encode, text_of

_log = logs.logger()


class ToldTypes(PerProcess):
    """Keeps the classes of which the log has said that their values do not come back."""

    def __init__(self) -> None:
        self.paths: set[str] = set()


def survives(value: object) -> object:
    """The value as its replay will see it: itself, or what its record gives back."""
    if type(value) in AS_THEY_ARE:
        return value
    encoding = Encoding()
    document = encoding.of(value)
    if encoding.is_plain:
        return value
    try:
        back = decode(document)
        is_same = comes_back(value, back, document, encoding)
    except (UnreadableValueError, *HOSTILE):
        _tell([type(value)])
        return text_of(value)
    if encoding.lost:
        _tell(encoding.lost)
        return back
    if is_same:
        return value
    _tell([type(value)], _reason_of_copy(type(value)), "what comes back of its record")
    return back


def comes_back(value: object, back: object, document: Json, encoding: Encoding) -> bool:
    """Whether what is made of a value's document is what the value was.

    Args:
        value: The value.
        back: What `decode` makes of its document.
        document: Its document.
        encoding: What made the document.
    """
    return (
        not encoding.lost
        and _same(encode(back), document)
        and (not encoding.is_comparable or has_links(document) or _equal(value, back))
    )


def text_instead(value: object) -> str:
    """The text of a value that no model can be shown as it is."""
    _tell([type(value)], "no text can be made of it")
    return text_of(value)


def _equal(value: Any, back: Any) -> bool:
    try:
        return bool(value == back)
    except HOSTILE:  # It cannot be compared.
        return True


def _same(again: Json, document: Json) -> bool:
    return json.dumps(again) == json.dumps(document) or (
        json.dumps(_unordered(again)) == json.dumps(_unordered(document))
    )


def _unordered(document: Json) -> Json:
    """A document whose sets are in one order, whichever they were in."""
    if isinstance(document, list):
        return [_unordered(item) for item in document]
    if not isinstance(document, dict):
        return document
    made = {key: _unordered(item) for key, item in document.items()}
    if made.get(TYPE) in ("builtins:set", "builtins:frozenset"):
        items = made.get(VALUE)
        if isinstance(items, list):
            made[VALUE] = sorted(items, key=json.dumps)
    return made


def _tell(lost: Iterable[type], reason: str | None = None, instead: str = "its text") -> None:
    told = process_state.of(ToldTypes).paths
    for kind in lost:
        if (path := type_path(kind)) not in told:
            told.add(path)
            _log.warning(
                "a value of the class %s is recorded, and goes on, as %s: %s",
                path,
                instead,
                reason or _reason(kind),
            )


def _reason_of_copy(kind: type) -> str:
    if kind in (datetime.datetime, datetime.time):
        return "its zone is none that every process knows"
    return "it is not equal to what comes back of it: see docs/values.md"


def _reason(kind: type) -> str:
    if kind in (list, dict, tuple, set, frozenset):
        return "it is nested too deeply, or refers to itself"
    if issubclass(kind, SecretStr | SecretBytes):
        return "no record holds secrets"
    if registered(type_path(kind)) is kind:
        return "it is not equal to what comes back of it: see docs/values.md"
    if can_be_made(kind):
        return "register the class with timestep.register_type, or annotate what returns it"
    return (
        "JSON, dataclasses, pydantic models and enums at the top level of a module are kept as "
        "they are, once timestep.register_type or an annotation names them"
    )
