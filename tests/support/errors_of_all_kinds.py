"""Errors as applications and libraries make them, and what is the same of two of them."""

from __future__ import annotations

import abc
import asyncio
import datetime
import decimal
import json
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx
import openai
import pydantic
from agents import MaxTurnsExceeded, ModelBehaviorError
from agents.exceptions import ToolTimeoutError
from hypothesis import strategies as st
from mcp.shared.exceptions import MCPError

from timestep.errors import RecordedError
from timestep.serialization.registered_types import imported, type_path


class Shop(Exception):
    """The base of an application's errors."""


class NeedsName(Shop):
    def __init__(self, *, name: Any) -> None:
        super().__init__(f"{name} is needed")
        self.name = name


class SaysTotal(Shop):
    """Its text is made of an attribute."""

    def __init__(self, total: Any = 0) -> None:
        self.total = total

    def __str__(self) -> str:
        return f"total {self.total}"


class CannotSay(Shop):
    def __str__(self) -> str:
        raise TypeError("no text")


class Slotted(ValueError):
    __slots__ = ("__hidden", "code")

    def __init__(self, code: Any) -> None:
        super().__init__("slots")
        self.code = code
        self.__hidden = [code]


class TakesTwo(KeyError, Shop):
    def __new__(cls, one: Any, two: Any) -> TakesTwo:
        return super().__new__(cls, one)

    def __init__(self, one: Any, two: Any) -> None:
        super().__init__(one)
        self.two = two


class OfFile(OSError):
    def __init__(self, number: int, path: str) -> None:
        super().__init__(number, "no such thing", path)


class Several(ExceptionGroup[Exception]):
    code = 7


@dataclass
class OfFields(Shop):
    code: int
    when: Any


class Abstract(Shop, metaclass=abc.ABCMeta):
    pass


class Acts(Shop):
    """A class that does something when another is derived from it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise AssertionError("a class was derived")


class Model(pydantic.BaseModel):
    n: int
    items: list[float] = []

    @pydantic.field_validator("items")
    @classmethod
    def few(cls, value: list[float]) -> list[float]:
        if len(value) > 1:
            raise ValueError("too many")
        return value


def local(value: Any) -> Exception:
    class Local(NeedsName):
        pass

    return Local(name=value)


def invalid(value: Any) -> Exception:
    try:
        Model.model_validate({"n": value if value is not None else "x", "items": [1, 2]})
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


def invalid_json(_: Any) -> Exception:
    try:
        Model.model_validate_json('{"n": "x"}')
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


def unreadable(_: Any) -> Exception:
    try:
        b"\xff\xfe".decode()
    except UnicodeDecodeError as error:
        return error
    raise AssertionError


def no_syntax(_: Any) -> Exception:
    try:
        compile("a b\n", "f.py", "exec")
    except SyntaxError as error:
        return error
    raise AssertionError


def no_json(_: Any) -> Exception:
    try:
        json.loads("{x")
    except json.JSONDecodeError as error:
        return error
    raise AssertionError


def no_attribute(value: Any) -> Exception:
    try:
        value.no_such_attribute  # noqa: B018
    except AttributeError as error:
        return error
    raise AssertionError


_REQUEST = httpx.Request("POST", "https://x", headers={"authorization": "Bearer sk-secret-secret"})


def rate_limit(value: Any) -> Exception:
    response = httpx.Response(
        429, headers={"retry-after": "7", "x-request-id": "r1"}, json={"a": 1}, request=_REQUEST
    )
    return openai.RateLimitError("slow", response=response, body={"code": "slow"})


def http_status(_: Any) -> Exception:
    response = httpx.Response(503, text="busy", request=_REQUEST)
    try:
        response.raise_for_status()
    except httpx.HTTPStatusError as error:
        return error
    raise AssertionError


def with_attribute(value: Any) -> Exception:
    error: Any = ValueError("plain")
    error.thing = value
    return error  # type: ignore[no-any-return]


MADE: dict[str, Callable[[Any], Exception]] = {
    "builtin": lambda v: ValueError("a", v),
    "no arguments": lambda v: RuntimeError(),
    "key": lambda v: KeyError(v),
    "keyword only": lambda v: NeedsName(name=v),
    "text of an attribute": SaysTotal,
    "no text": lambda v: CannotSay(v),
    "slots": Slotted,
    "own __new__": lambda v: TakesTwo("one", v),
    "file": lambda v: FileNotFoundError(2, "no such file", "a.txt"),
    "own file": lambda v: OfFile(2, "a.txt"),
    "system": lambda v: OSError(5, "odd"),
    "fields": lambda v: OfFields(1, v),
    "abstract": lambda v: Abstract(v),
    "acts when derived": lambda v: Acts(v),
    "local": local,
    "validation": invalid,
    "validation of JSON": invalid_json,
    "decoding": unreadable,
    "encoding": lambda v: UnicodeEncodeError("ascii", "é", 0, 1, "not in range"),
    "syntax": no_syntax,
    "JSON": no_json,
    "attribute": no_attribute,
    "name": lambda v: NameError("n", name="n"),
    "import": lambda v: ImportError("no module", name="m", path="p"),
    "stop": lambda v: StopAsyncIteration(v),
    "process": lambda v: subprocess.CalledProcessError(3, ["ls", "x"], b"out"),
    "timeout": lambda v: TimeoutError("late"),
    "queue": lambda v: asyncio.QueueEmpty(),
    "rate limit": rate_limit,
    "connection": lambda v: openai.APIConnectionError(request=_REQUEST),
    "http": http_status,
    "connecting": lambda v: httpx.ConnectError("refused", request=_REQUEST),
    "mcp": lambda v: MCPError(-1, "gone", {"a": [1]}),
    "turns": lambda v: MaxTurnsExceeded("many"),
    "behavior": lambda v: ModelBehaviorError("odd"),
    "tool timeout": lambda v: ToolTimeoutError("t", 2.5),
    "added attribute": with_attribute,
    "nested error": lambda v: RuntimeError("outer", SaysTotal(v)),
    "held error": lambda v: with_attribute(SaysTotal(v)),
    "lost": lambda v: ValueError(object()),
}

VALUES = (
    st.none()
    | st.integers()
    | st.floats()
    | st.text(st.characters() | st.sampled_from("\x00\ud800\n"), max_size=5)
    | st.binary(max_size=4)
    | st.sampled_from(
        [
            decimal.Decimal("1.50"),
            datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
            uuid.UUID(int=1),
            (1, (2,)),
            {1, 2},
            {"a": {"b": [None]}},
            {1: 2},
            object,
            object(),
            lambda: None,
        ]
    )
)


def _linked(inner: st.SearchStrategy[Exception]) -> st.SearchStrategy[Exception]:
    def groups(errors: list[Exception], kind: Any) -> Exception:
        return kind("several", errors)  # type: ignore[no-any-return]

    def chained(error: Exception, cause: Any, context: Any, notes: list[str]) -> Exception:
        error.__context__ = context
        if cause is not error:
            error.__cause__ = cause
        for note in notes:
            error.add_note(note)
        return error

    return st.builds(
        groups, st.lists(inner, min_size=1, max_size=3), st.sampled_from([ExceptionGroup, Several])
    ) | st.builds(
        chained,
        inner,
        st.none() | inner,
        st.none() | inner,
        st.lists(st.text(max_size=5), max_size=2),
    )


ERRORS: st.SearchStrategy[Exception] = st.recursive(
    st.builds(lambda name, value: MADE[name](value), st.sampled_from(sorted(MADE)), VALUES),
    _linked,
    max_leaves=5,
)


def classes_of(error: BaseException) -> set[str]:
    """What may stand in an `except` clause that catches it, in any process."""
    paths = (type_path(base) for base in type(error).__mro__)
    return {path for path in paths if imported(path) is not None} - {type_path(RecordedError)}


_HELD_BY_LIBRARIES = ("request", "_request", "response", "run_data", "recorded_as", "type_name")


def told(error: BaseException | None, seen: tuple[int, ...] = ()) -> Any:
    """What can be seen of an error, comparable."""
    if error is None or id(error) in seen or len(seen) == 30:
        return error and "and so on"
    seen = (*seen, id(error))

    def one(value: object) -> Any:
        if isinstance(value, BaseException):
            return told(value, seen)
        if isinstance(value, list | tuple) and any(isinstance(v, BaseException) for v in value):
            return [one(item) for item in value]
        return (type(value), repr(value))

    slots = {
        name: one(getattr(error, name))
        for base in type(error).__mro__
        for name in ("code", "_Slotted__hidden", "errno", "filename", "start", "lineno", "reason")
        if hasattr(error, name) and base is type(error)
    }
    return {
        "classes": classes_of(error),
        "is_recorded": isinstance(error, RecordedError),
        "text": str(error),
        "args": one(error.args),
        "attributes": {
            name: one(value)
            for name, value in vars(error).items()
            if name not in _HELD_BY_LIBRARIES and not name.startswith("__")
        },
        "slots": slots,
        "notes": getattr(error, "__notes__", []),
        "cause": told(error.__cause__, seen),
        "context": told(error.__context__, seen),
        "hides": error.__suppress_context__,
        "members": [told(e, seen) for e in error.exceptions]
        if isinstance(error, BaseExceptionGroup)
        else None,
        "lines": repr(error.errors()) if isinstance(error, pydantic.ValidationError) else None,
    }
