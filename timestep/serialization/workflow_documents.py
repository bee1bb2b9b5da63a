"""Reads what DBOS keeps of workflows as plain JSON, to be shown, and makes nothing of it.

A record is text and the name of the serializer that wrote it: ours, DBOS's portable JSON, a
pickle, or an application's own. Nothing here makes an instance of a class, or unpickles.
"""

from __future__ import annotations

import base64
import contextlib
import json
import pickletools
from collections.abc import Iterator, Set
from typing import Any

from timestep.errors import StepError
from timestep.serialization.documents.envelopes import short_type, summary
from timestep.serialization.documents.forms import (
    AS_DICT,
    ATTRIBUTES,
    EXTRA,
    FIELDS,
    LINK,
    SHOWN,
    is_encoded,
    is_state,
    unlinked,
)
from timestep.serialization.documents.forms import (
    NAME as NAME_OF_MEMBER,
)

NAME = "timestep_json"
"""How rows name the serializer that writes these documents; it never changes."""
PICKLE = "py_pickle"
PORTABLE = "portable_json"

# A document has one of these as its only key.
VALUE = "value"
ERROR = "error"
LIST = "list"
TUPLE = "tuple"
DICT = "dict"
WORKFLOW = "workflow"

_ENVELOPE = "opened"
"""The function that a pickle names which holds an error's envelope (see `timestep.envelopes`)."""

NOT_SHOWN = "(recorded as a pickle: not shown)"
"""What stands for a pickle, which only who runs it can read."""


def is_pickle(text: str, serialization: str | None = None) -> bool:
    """Whether a record is a pickle. Rows of old, and of schedules, have no serializer's name.

    Base64 of every pickle since protocol 2 begins so, and no JSON does.
    """
    return serialization == PICKLE or (serialization in (None, NAME) and text.startswith("gA"))


def shown(text: str | None, serialization: str | None) -> Any:
    """A recorded value as JSON; the text itself where another serializer wrote it."""
    if text is None:
        return None
    if is_pickle(text, serialization):
        return NOT_SHOWN
    document = _parsed(text, serialization)
    if serialization not in (None, NAME):
        return document
    try:
        return _plain_document(document)
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):  # It is not ours.
        return text


def shown_arguments(text: str | None, serialization: str | None) -> Any:
    """A workflow's arguments as JSON: those given by position, else those by name."""
    found = shown(text, serialization)
    if not isinstance(found, dict):
        return found
    if serialization == PORTABLE:
        return found.get("positionalArgs") or found.get("namedArgs") or {}
    return found.get("args") or found.get("kwargs") or {}


def shown_error(text: str | None, serialization: str | None) -> tuple[str, str] | None:
    """The name of a recorded error's class, and its message; None: there is no error."""
    if text is None:
        return None
    if is_pickle(text, serialization):
        return _class_of_pickled(text), NOT_SHOWN
    found = _parsed(text, serialization)
    if isinstance(found, dict):
        if serialization in (None, NAME) and isinstance(envelope := found.get(ERROR), dict):
            return short_type(str(envelope.get("type"))), str(envelope.get("message"))
        if serialization == PORTABLE:
            return str(found.get("name")), str(found.get("message"))
    return "Exception", text


def is_made_of(text: str | None, serialization: str | None, keys: Set[str]) -> bool:
    """Whether a recorded value is a mapping of texts with exactly these keys."""
    if text is None:
        return False
    if not is_pickle(text, serialization):
        found = shown(text, serialization)
        return isinstance(found, dict) and found.keys() == keys
    words = [argument for _, argument in _opcodes(text) if isinstance(argument, str)]
    has_class = any(name in ("STACK_GLOBAL", "GLOBAL") for name, _ in _opcodes(text))
    return set(words[::2]) == keys and len(words) == 2 * len(keys) and not has_class


def _class_of_pickled(text: str) -> str:
    """The name of the class whose instance a pickle is; it is not executed."""
    words: list[str] = [""]
    for code, argument in _opcodes(text):
        if isinstance(argument, str):
            words.append(argument)
            if words[-3:-1] == [_ENVELOPE, "type"]:
                return short_type(argument)
        elif code == "STACK_GLOBAL" and words[-1] != _ENVELOPE:
            return words[-1].rpartition(".")[2]
    return "Exception"


def _opcodes(text: str) -> Iterator[tuple[str, Any]]:
    """What a pickle is made of; it is not executed. It ends where it is none."""
    with contextlib.suppress(ValueError):
        for code, argument, _ in pickletools.genops(base64.b64decode(text)):
            yield code.name, argument


def _parsed(text: str, serialization: str | None) -> Any:
    if serialization not in (None, NAME, PORTABLE):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _plain_document(document: Any) -> Any:
    ((form, content),) = document.items()
    if form == VALUE:
        return _plain(unlinked(content))
    if form == ERROR:
        return summary(content)
    if form in (LIST, TUPLE):
        return [_plain_document(item) for item in content]
    return {key: _plain_document(item) for key, item in content.items()}


def _plain(encoded: Any) -> Any:
    """What `values.encode` made, without the names of classes."""
    if isinstance(encoded, list):
        return [_plain(item) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    if not is_encoded(encoded):
        return {key: _plain(item) for key, item in encoded.items()}
    named, value = encoded["$type"], encoded["value"]
    if named == SHOWN:
        return _plain(value[0])
    if named == LINK:
        return f"(the same as {''.join(f'[{key}]' for key in value)})"
    if named == "collections:deque":
        return _plain(value[1:])
    if named == "collections:defaultdict":
        value = value[1]
    if named in _OF_PAIRS:
        return {_key(_plain(key)): _plain(item) for key, item in value}
    if is_state(value):
        return _plain({**value[FIELDS], **value.get(ATTRIBUTES, {}), **(value.get(EXTRA) or {})})
    if isinstance(value, dict) and value.keys() == {NAME_OF_MEMBER}:
        return value[NAME_OF_MEMBER]
    return _plain(value)


_OF_PAIRS = (
    AS_DICT,
    "collections:Counter",
    "collections:OrderedDict",
    "collections:defaultdict",
    "types:SimpleNamespace",
)


def _key(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_REFERENCE = {"run_id", "table", "id"}


def is_of_run(step: dict[str, Any]) -> bool:
    """Whether a recorded step of DBOS is one of a run, whose own record tells its outcome.

    Args:
        step: Its `output`, `error` and `serialization`, as `store.dbos_step_outputs` reads them.
    """
    if is_made_of(step["output"], step["serialization"], _REFERENCE):
        return True
    told = shown_error(step["error"], step["serialization"])
    return told is not None and told[0] == StepError.__name__
