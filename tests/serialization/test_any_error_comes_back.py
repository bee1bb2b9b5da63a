"""A replay sees the error that the first execution saw: as its class, or recorded in both."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import remarkable_values as rv
from tests.support.errors_of_all_kinds import (
    ERRORS,
    MADE,
    Abstract,
    Acts,
    Model,
    NeedsName,
    SaysTotal,
    Several,
    Shop,
    classes_of,
    told,
)
from tests.support.hostile_documents import PATHS, executed
from timestep.envelopes import make_picklable
from timestep.errors import RecordedError
from timestep.serialization import exceptions
from timestep.serialization.values import restored, storable

CASES = 100
"""Errors that are tried."""

NOTHING_DERIVES = {
    *(f"{cls.__module__}:{cls.__qualname__}" for cls in (Abstract, Acts)),
    "pydantic_core._pydantic_core:ValidationError",
}
"""Classes that let no other derive from them, or act when one does."""


def stored(error: BaseException) -> Any:
    return restored(json.loads(json.dumps(storable(exceptions.seal(error)))))


def check(error: Exception) -> Exception:
    """What the first execution goes on with; a replay is seen to do so, too."""
    first = exceptions.survives(error)
    back = exceptions.opened(stored(error))
    assert told(back) == told(first)
    assert first is error or first.__traceback__ is error.__traceback__
    # What is sealed once more, in an execution or in a replay, is the same document.
    # (As text: NaN is not equal to itself.)
    documents = {json.dumps(exceptions.seal(one), sort_keys=True) for one in (back, first, error)}
    assert len(documents) == 1
    assert classes_of(first) >= classes_of(error) - NOTHING_DERIVES
    return first


@settings(max_examples=CASES, deadline=None)
@given(ERRORS)
def test_a_replay_sees_the_error_of_the_first_execution(error: Exception) -> None:
    first = check(error)
    try:
        text = str(error)
    except TypeError:
        return
    assert str(first) == text


@pytest.mark.parametrize("kind", sorted(MADE))
def test_an_error_of_each_kind_comes_back(kind: str) -> None:
    error = MADE[kind]("x")
    is_recorded = check(error) is not error
    assert is_recorded == (kind in ("local", "lost", "no text"))


def test_what_an_error_holds_comes_back_whatever_its_order_and_its_text() -> None:
    gaps = set(range(100))
    gaps.difference_update(set(range(100)) - {3, 64})
    error: Any = ValueError("x")
    error.held = [gaps, math.nan, rv.ByIdentity("x")]
    assert exceptions.survives(error) is error
    back: Any = exceptions.opened(stored(error))
    assert (type(back), back.held[0]) == (ValueError, {3, 64})
    for text in ("finance", "money"):
        unequal: Any = ValueError("x")
        unequal.held = rv.NeverEqual(text)
        assert isinstance(check(unequal), RecordedError)


def test_what_cannot_come_back_is_caught_by_the_same_clauses() -> None:
    error = NeedsName(name=object())
    error.add_note("a note")
    for seen in (exceptions.survives(error), exceptions.opened(stored(error))):
        assert isinstance(seen, RecordedError)
        assert isinstance(seen, NeedsName)
        assert seen.type_name.endswith(":NeedsName")
        assert str(seen) == seen.message == str(error)
        assert seen.__notes__ == ["a note"]
        assert not hasattr(seen, "name")
        make_picklable()
        assert told(pickle.loads(pickle.dumps(seen))) == told(seen)  # our own
    assert classes_of(check(Acts(object()))) >= classes_of(Shop())


def test_an_error_of_a_class_that_a_function_makes_is_caught_by_its_name() -> None:
    """A workflow's body makes its class anew in each execution, and any of them may be meant."""
    errors = [MADE["local"]("x"), MADE["local"]("x")]
    for seen in (exceptions.survives(errors[0]), exceptions.opened(stored(errors[0]))):
        assert isinstance(seen, RecordedError)
        assert all(isinstance(seen, type(error)) for error in errors)
        assert str(seen) == str(errors[0])
        assert type(seen).__name__ == "RecordedError"


def test_members_of_groups_are_chosen_alike() -> None:
    error = Several("several", [KeyError("k"), SaysTotal(object())])
    for seen in (exceptions.survives(error), exceptions.opened(stored(error))):
        caught: list[Exception] = []
        try:
            raise seen
        except* SaysTotal as group:
            caught += group.exceptions
        except* LookupError as group:
            caught += group.exceptions
        assert list(map(type, caught))[1] is KeyError
        assert isinstance(caught[0], SaysTotal)


def chain(length: int) -> Exception:
    error: Exception = ValueError("0")
    for n in range(1, length):
        following = ValueError(str(n))
        following.__cause__ = error
        error = following
    return error


def test_size_and_depth_are_bounded() -> None:
    assert check(longest := chain(1000)) is longest
    longer = check(chain(1500))
    count = 0
    end: BaseException | None = longer
    while end is not None:
        end, count = end.__cause__, count + 1
    assert count == 1000
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__context__ = other, one
    back: Any = exceptions.opened(stored(one))
    assert back.__cause__.__context__ is back
    group = check(ExceptionGroup("many", [ValueError(str(n)) for n in range(10_000)]))
    assert isinstance(group, RecordedError)
    assert str(group) == "many (10000 sub-exceptions)"
    nested: Exception = ValueError("deep")
    for _ in range(100):
        nested = ExceptionGroup("one", [nested])
    check(nested)
    big = check(ValueError("x" * 5_000_000))
    assert len(str(big)) < 1_100_000
    big.__cause__ = ValueError("y" * 5_000_000)
    assert len(json.dumps(exceptions.seal(big))) < 5_000_000
    assert exceptions.one_line(MADE["no text"](1)).startswith("it cannot be told")


@pytest.mark.parametrize(
    "secret",
    ["sk-abcdefghijkl", "postgres://app:hunter2@db/app", "password='hunter2'", "token: abcdef"],
)
def test_what_only_tracebacks_told_has_no_secret(secret: str) -> None:
    cause: Any = SaysTotal(secret)
    held: Any = KeyError("held")
    held.headers = {"secret": secret}
    error: Any = ValueError("visible")
    error.held, error.__cause__ = held, cause
    error.__context__ = ExceptionGroup("g", [ValueError(secret)])
    error.raw = secret.encode()
    error.add_note(f"with {secret}")
    text = json.dumps(exceptions.seal(error))
    assert not {"hunter2", "abcdef"} & {word for word in ("hunter2", "abcdef") if word in text}
    seen: Any = check(error)
    assert str(seen) == "visible"
    assert isinstance(seen.__cause__, SaysTotal)
    assert isinstance(seen.held, KeyError)


def test_inputs_that_hold_secrets_are_not_recorded() -> None:
    with pytest.raises(ValueError, match="n") as failure:
        Model.model_validate({"password": "hunter2" * 20, "more": "x" * 100})
    assert "hunter2" * 20 not in json.dumps(exceptions.seal(failure.value))
    assert isinstance(check(failure.value), ValueError)


ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 5, -1, "x", "", [], {}, ["x"], [None], {"a": 1}, {"0": 0}, {"x": {}}),
        *({"$type": path, "value": {"x": 1}} for path in PATHS[-5:]),
        {"$type": "builtins:dict", "value": [[[], 1]]},
    ]
)
"""Parts of documents as nobody makes them."""
NUMBERS = st.integers(-1, 4) | ODD
PATHS_OF_ERRORS = [
    "builtins:ValueError",
    "builtins:SystemExit",
    "builtins:ExceptionGroup",
    "builtins:BaseExceptionGroup",
    "builtins:UnicodeDecodeError",
    "builtins:OSError",
    "pydantic_core._pydantic_core:ValidationError",
    "tests.support.errors_of_all_kinds:Acts",
    "tests.support.errors_of_all_kinds:Slotted",
    "agents.exceptions:InputGuardrailTripwireTriggered",
    "httpx2:HTTPStatusError",
    *PATHS,
]
DOCUMENTS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "type": st.sampled_from(PATHS_OF_ERRORS) | ODD,
        "args": st.lists(ODD, max_size=2) | ODD,
        "attributes": ODD
        | st.dictionaries(
            st.sampled_from(["code", "filename", "object", "start", "__dict__", "__cause__"]),
            ODD,
            max_size=3,
        )
        | ODD,
        "response": st.none() | ODD,
        "tripwire": st.none() | ODD,
    },
    optional={
        "message": st.text(max_size=3) | ODD,
        "text": st.text(max_size=3) | ODD,
        "title": st.text(max_size=3) | ODD,
        "bases": st.lists(st.sampled_from(PATHS_OF_ERRORS), max_size=3) | ODD,
        "recorded": st.booleans() | ODD,
        "notes": st.lists(st.text(max_size=3)) | ODD,
        "hides_context": st.booleans() | ODD,
        "http": st.dictionaries(
            st.text(max_size=3),
            st.fixed_dictionaries({"module": st.just("httpx2"), "is_response": st.booleans()}),
            max_size=2,
        )
        | ODD,
        "validation": ODD
        | st.fixed_dictionaries(
            {
                "title": ODD,
                "lines": st.lists(
                    st.fixed_dictionaries(
                        {"type": st.sampled_from(["missing", "value_error", "x"]), "input": ODD},
                        optional={"loc": ODD, "context": ODD, "message": ODD, "cause": NUMBERS},
                    ),
                    max_size=2,
                ),
                "from_json": ODD,
                "hides_input": ODD,
                "has_args": ODD,
            }
        ),
        "links": st.dictionaries(
            st.sampled_from(["cause", "context", "members", "lines", "args", "attributes"]),
            NUMBERS | st.lists(NUMBERS, max_size=3) | st.dictionaries(st.text(max_size=1), NUMBERS),
            max_size=4,
        )
        | ODD,
    },
)


@settings(max_examples=CASES, deadline=None)
@given(DOCUMENTS, st.lists(DOCUMENTS, max_size=3) | ODD)
def test_whatever_is_in_an_envelope_an_error_comes_out(first: Any, linked: Any) -> None:
    executed.clear()
    error = exceptions.opened({**first, "linked": linked})
    assert isinstance(error, Exception)
    assert not isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)
    assert isinstance(exceptions.opened(stored(error)), Exception)
    assert exceptions.one_line(error)
    assert executed == []


def test_errors_that_an_error_has_in_a_list_come_back() -> None:
    inner = KeyError("k")
    error = Shop([inner, NeedsName(name=1)])
    vars(error)["errors"] = [inner, SaysTotal(2)]
    assert check(error) is error
    back: Any = exceptions.opened(stored(error))
    assert [type(one) for one in back.errors] == [KeyError, SaysTotal]
    assert back.args[0][0] is back.errors[0]
    # Beside other things they are lost, and said to be.
    vars(error)["errors"] = [inner, "text"]
    assert isinstance(check(error), RecordedError)


def test_errors_among_the_arguments_are_put_in_place_one_by_one() -> None:
    count = 30_000  # With a copy of all of them for each, this takes minutes.
    envelope = exceptions.seal(ValueError(*[0] * count, KeyError("x")))
    links = dict.fromkeys(map(str, range(count)), 1)
    envelope["links"]["args"] = {"no number": 1, **links, str(count + 1): 1}
    found = exceptions.opened(envelope)
    assert len(found.args) == count + 1
    assert {id(arg) for arg in found.args[:-1]} == {id(found.args[0])}
    assert isinstance(found.args[0], KeyError)
