"""What workflows are given, return, raise and send comes back as it was."""

from __future__ import annotations

import collections
import enum
import json
import math
import re
from dataclasses import dataclass
from typing import Any

import pytest
from dbos import error as dbos_errors
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

import timestep
from tests.serialization.test_values_survive_json import PYTHON, Colour, Pair, Point
from tests.serialization.test_what_was_recorded_before_is_read import MAX_TURNS
from timestep.errors import (
    PickledRecordError,
    StepError,
    TimestepError,
    UnreadableValueError,
    UnrecordableError,
)
from timestep.serialization.registered_types import PROCESS, RegisteredTypes, known
from timestep.serialization.workflow_documents import (
    NAME,
    NOT_SHOWN,
    is_made_of,
    shown,
    shown_arguments,
    shown_error,
)

serializer = timestep.JSONSerializer()

VALUES = st.recursive(
    PYTHON | st.sampled_from(Colour) | st.builds(Point, x=st.integers()),
    lambda inner: st.builds(Pair, inner, inner) | st.lists(inner) | st.tuples(inner),
    max_leaves=10,
)
HOSTILE = st.dictionaries(
    st.sampled_from(["$type", "value", "$text", "error", "list", "workflow", "__class__"]),
    st.recursive(
        st.sampled_from(["subprocess:Popen", "builtins:dict", "text", "data", "os:system"]),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["$type", "value"]), inner),
    ),
)


def again(value: Any) -> Any:
    text = serializer.serialize(value)
    assert text.isascii()
    assert "\x00" not in text
    return serializer.deserialize(text)


@given(VALUES | HOSTILE)
def test_a_value_comes_back_equal_and_of_its_class(value: Any) -> None:
    found = again(value)
    assert (found, type(found)) == (value, type(value))


def test_a_number_of_more_digits_than_python_reads_comes_back() -> None:
    assert again([10**5000, -(10**20_000), 2**9_999]) == [10**5000, -(10**20_000), 2**9_999]


def test_json_that_holds_something_twice_does_so_again() -> None:
    line: list[int] = []
    first, second = again([line, {"again": line}])
    second["again"].append(1)
    assert first == [1]
    assert shown(serializer.serialize([line, [line]]), NAME) == [[], [[]]]


@given(st.lists(VALUES), st.dictionaries(st.text(), HOSTILE))
def test_arguments_come_back_and_are_shown(args: list[Any], kwargs: dict[str, Any]) -> None:
    given_ = {"args": tuple(args), "kwargs": kwargs}
    assert again(given_) == given_
    json.dumps(shown_arguments(serializer.serialize(given_), NAME))


@given(st.recursive(st.none() | st.text() | HOSTILE, st.lists))
def test_a_document_of_anybody_makes_nothing_but_json_or_an_error(document: Any) -> None:
    """Whoever writes into DBOS's tables chooses the text."""
    text = json.dumps({"value": document})
    shown(text, NAME)
    shown(json.dumps(document), NAME)
    shown_error(json.dumps({"error": document}), NAME)
    try:
        found = serializer.deserialize(text)
    except UnreadableValueError:
        return
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    "document",
    [
        [{"$type": "timestep:same", "value": [7]}],
        {"$type": "collections:defaultdict", "value": []},
        {"$type": "timestep:shown", "value": []},
    ],
)
def test_what_lacks_a_part_is_shown_as_its_text(document: Any) -> None:
    text = json.dumps({"value": document})
    assert shown(text, NAME) == text


def test_errors_come_back_as_their_class() -> None:
    error = StepError("ValueError: no tea")
    error.reference = {"table": "tool_calls"}
    found = again(error)
    assert (type(found), str(found), found.reference) == (StepError, str(error), error.reference)
    assert shown_error(serializer.serialize(error), NAME) == ("StepError", "ValueError: no tea")
    awaited = again(dbos_errors.DBOSAwaitedWorkflowCancelledError("w"))
    assert type(awaited) is dbos_errors.DBOSAwaitedWorkflowCancelledError
    assert awaited.workflow_id == "w"


def test_errors_among_values_come_back() -> None:
    """As `asyncio.gather(..., return_exceptions=True)` gives them, and DBOS its lists of steps."""
    first, second, third = again(["a", ValueError("no"), {"error": TimestepError("late")}])
    assert (first, type(second), second.args) == ("a", ValueError, ("no",))
    assert type(third["error"]) is TimestepError


def test_a_pickle_is_not_read() -> None:
    with pytest.raises(PickledRecordError, match="TIMESTEP_READ_PICKLES"):
        serializer.deserialize("gASVAQAAAAAAAABLAS4=")
    reading = timestep.JSONSerializer(read_pickles=True)
    assert reading.deserialize("gASVAQAAAAAAAABLAS4=") == 1
    assert serializer.deserialize("gAROLg==") is None


class Unknown(BaseModel):
    x: int = 1


@timestep.register_type
class Account(BaseModel):
    name: str = ""
    secret: SecretStr = SecretStr("")
    cache: dict[str, int] = Field(default_factory=dict, exclude=True)


class Plain:
    pass


class UserId(str):
    __slots__ = ()


@timestep.register_type
@dataclass
class Box:
    held: Any


class Crate(Box):
    pass


def local() -> enum.Enum:
    class Local(enum.Enum):
        A = 1

    return Local.A


def cycle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "where", "why"),
    [
        (Unknown(), "what is to be recorded is of", "Unknown, .* to timestep.register_type"),
        ([1, Unknown()], r"the part \[1\] of", "Unknown, which is not registered"),
        ({1: [Unknown()]}, r"the part \[1\]\[0\] of", "Unknown, which is not registered"),
        ({Plain(): 1}, r"the part .keys\(\)\[0\] of", "Plain, which is none of .* dataclass"),
        ([ValueError("no"), Unknown()], r"the part \[1\] of", "Unknown, which is not registered"),
        (Box(ValueError("no")), "the part .held of", "an error inside .*: use its text"),
        (Box([UserId("a")]), r"the part .held\[0\] of", "UserId, which is a subclass of str"),
        (local(), "what is", "inside a function, .* move it to the top level of its module"),
        (collections.UserDict(), "what is", "UserDict, which is none of the classes"),
        (collections.defaultdict(local), "what is", "makes its values with .* or use dict"),
        (iter([1]), "what is", "list_iterator, which can be read only once: .* make a list"),
        (int, "what is", "type, which is a class: use its name"),
        (local, "what is", "function, which is code: use its name"),
        (cycle(), "what is to be recorded refers to itself", "take the parts"),
        (
            {"args": (), "kwargs": {"line": Box([Plain()])}},
            r"the argument line.held\[0\] is of",
            "Plain",
        ),
        ({"args": (1, [Plain()]), "kwargs": {}}, r"the argument number 2\[0\] is of", "Plain"),
        ([Account(secret=SecretStr("sesame"))], r"the part \[0\].secret", "no record may hold"),
    ],
)
def test_what_would_come_back_otherwise_is_refused_with_its_place(
    value: Any, where: str, why: str
) -> None:
    with pytest.raises(UnrecordableError, match=f"^{where}") as refused:
        serializer.serialize(value)
    assert re.search(why, refused.value.message)
    assert not re.search("sesame|0x", refused.value.message)


def test_what_is_like_nothing_else_is_recorded() -> None:
    assert again(Account(name="Ada")) == Account(name="Ada")
    assert again(Account(name="Ada", cache={"a": 1})).cache == {"a": 1}
    assert type(again(Crate(1))) is Crate
    (found,) = again((math.nan,))
    assert math.isnan(found)


def test_a_class_that_nobody_registered_is_not_made() -> None:
    with pytest.raises(UnreadableValueError, match="os:system"):
        serializer.deserialize('{"value":{"$type":"os:system","value":"true"}}')


def test_what_other_serializers_wrote_is_shown_and_not_made() -> None:
    portable = '{"positionalArgs":[1],"namedArgs":{"a":2}}'
    assert shown_arguments(portable, "portable_json") == [1]
    error = '{"name":"ValueError","message":"no","code":null}'
    assert shown_error(error, "portable_json") == ("ValueError", "no")
    assert shown("gASVAQAAAAAAAABLAS4=", "py_pickle") == NOT_SHOWN
    assert shown_arguments("gASVAQAAAAAAAABLAS4=", None) == NOT_SHOWN
    assert shown("<x/>", "the application's own") == "<x/>"
    assert shown_error("<x/>", "the application's own") == ("Exception", "<x/>")


PICKLED_ERROR = "gASVJAAAAAAAAACMCGJ1aWx0aW5zlIwKVmFsdWVFcnJvcpSTlIwCbm+UhZRSlC4="
PICKLED_REFERENCE = (
    "gASVMAAAAAAAAAB9lCiMBnJ1bl9pZJSMAXKUjAV0YWJsZZSMCnRvb2xfY2FsbHOUjAJpZJSMAWmUdS4="
)


def test_the_class_of_a_pickled_error_is_told() -> None:
    assert shown_error(PICKLED_ERROR, "py_pickle") == ("ValueError", NOT_SHOWN)
    assert shown_error(MAX_TURNS, "py_pickle") == ("MaxTurnsExceeded", NOT_SHOWN)
    assert is_made_of(PICKLED_REFERENCE, "py_pickle", {"run_id", "table", "id"})
    assert not is_made_of(PICKLED_REFERENCE, "py_pickle", {"run_id"})
    assert not is_made_of(PICKLED_ERROR, "py_pickle", {"run_id"})
    reference = serializer.serialize({"run_id": "r", "table": "t", "id": "i"})
    assert is_made_of(reference, NAME, {"run_id", "table", "id"})


def test_what_only_a_run_declares_is_refused() -> None:
    """Another workflow reads it, which knows no class of that run."""
    types = RegisteredTypes(PROCESS)
    types.add(OfARun)
    with known(types), pytest.raises(UnrecordableError, match="OfARun"):
        timestep.JSONSerializer().serialize(OfARun(4))


@dataclass
class OfARun:
    weight: int
