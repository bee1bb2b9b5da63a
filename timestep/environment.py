"""Makes values of what is written into environment variables, as a field's annotation says.

Commands read the settings before they do anything else, so this imports next to nothing.
"""

from __future__ import annotations

import base64
import math
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_YES = ("1", "on", "t", "true", "y", "yes")
_NO = ("0", "off", "f", "false", "n", "no")
_SECRET_PREFIX = "whsec_"
_SHORTEST_KEY = 32
"""Bytes of a key that nobody finds by trying."""
_LONGEST = 86400.0
"""The seconds of a day: a longer wait is a mistake."""


class Secret:
    """A text that is shown masked wherever its holder is printed or logged."""

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """The text."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)


def key_of(secret: str) -> bytes:
    """The bytes that a secret for signatures stands for (Standard Webhooks, "Secrets").

    Raises:
        ValueError: It begins with `whsec_` and does not go on with base64.
    """
    if not secret.startswith(_SECRET_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError(f"what follows {_SECRET_PREFIX!r} is not base64")
    return key


def signing_secret(text: str) -> Secret:
    """A secret for signatures.

    Raises:
        ValueError: As `key_of` raises it.
    """
    key_of(text)
    return Secret(text)


def link_key(text: str) -> Secret:
    """A secret for links that let in who has one.

    Raises:
        ValueError: As `key_of` raises it; or it is so short that it might be found.
    """
    if len(key_of(text)) < _SHORTEST_KEY:
        raise ValueError(
            f"is shorter than {_SHORTEST_KEY} bytes, and who has a link may look for it: use 32 "
            "random characters or more"
        )
    return Secret(text)


def seconds(text: str) -> float:
    """A time to wait.

    Raises:
        ValueError: It is none, or longer than a day.
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < _LONGEST:
        raise ValueError("is not a number of seconds like 0.5")
    return found


def parsed(text: str, annotation: Any) -> Any:
    """The value that a text stands for.

    Args:
        text: What is written into the variable.
        annotation: The field's: `str`, `int`, `float`, `bool`, `Path`, `Secret`, a `Literal` of
            texts (in small or large letters), `Annotated` with a function that reads the text and
            checks it, or one of these or None.

    Raises:
        ValueError: It stands for none. The text says what would be right, and not what was given.
    """
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not NoneType)
        return parsed(text, annotation)
    if origin is Annotated:
        return get_args(annotation)[1](text)
    if origin is Literal:
        return _chosen(text, get_args(annotation))
    if annotation is bool:
        return _truth(text)
    if annotation is int:
        try:
            return int(text)
        except ValueError:
            raise ValueError("should be a whole number") from None
    return annotation(text)


def check_range(
    value: float, *, ge: float | None = None, gt: float | None = None, le: float | None = None
) -> None:
    """Refuse a number that is out of range.

    Args:
        value: The number.
        ge: What it is at least.
        gt: What it is more than.
        le: What it is at most.

    Raises:
        ValueError: It is not.
    """
    if ge is not None and value < ge:
        raise ValueError(f"should be at least {ge:g}")
    if gt is not None and value <= gt:
        raise ValueError(f"should be more than {gt:g}")
    if le is not None and value > le:
        raise ValueError(f"should be at most {le:g}")


def _chosen(text: str, choices: tuple[str, ...]) -> str:
    if (chosen := text.lower()) not in choices:
        raise ValueError(f"should be {', '.join(choices[:-1])} or {choices[-1]}")
    return chosen


def _truth(text: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise ValueError("should be true or false")
    return text.lower() in _YES
