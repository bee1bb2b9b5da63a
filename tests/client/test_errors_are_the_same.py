"""What a host refuses is raised as the Python calls raise it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import Request

from timestep import errors
from timestep.client.problems import error_of
from timestep.errors import (
    ChangedQuestionError,
    InvalidArgumentsError,
    InvalidInputError,
    InvalidQueryError,
    RemoteError,
    TimestepError,
)
from timestep.web import problems


def classes(kind: type[TimestepError]) -> Iterator[type[TimestepError]]:
    yield kind
    for derived in kind.__subclasses__():
        yield from classes(derived)


def answered(error: TimestepError) -> TimestepError:
    """The error that a client raises where a host's operation raised one."""
    known = SimpleNamespace(state=SimpleNamespace(caller="somebody"))
    answer = problems.answer_to(cast(Request, known), error)
    return error_of(answer.status_code, bytes(answer.body))


@pytest.mark.parametrize(
    "kind", [one for one in classes(TimestepError) if vars(errors).get(one.__name__) is one]
)
def test_every_class_comes_back(kind: type[TimestepError]) -> None:
    """As itself, or, where its type is not documented, as what the host's failures are."""
    again = answered(kind("what happened"))
    if any(one in problems._STATUSES for one in kind.__mro__):
        known = next(one for one in kind.__mro__ if one in problems._STATUSES)
        assert type(again) is known
        assert str(again) == "what happened"
    else:
        assert isinstance(again, RemoteError)
        assert again.status == 500


def test_what_is_told_of_each_part_comes_back() -> None:
    fields = [{"pointer": "/call/path", "detail": "is a number"}]
    again: Any = answered(InvalidArgumentsError("bad", fields=fields))
    assert again.fields == fields
    changes = [{"id": "q", "hash": "h", "expected": "e", "was": None}]
    again = answered(ChangedQuestionError("changed", changes=changes))
    assert again.changes == changes


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b'{"type": 3}'])
def test_what_is_no_problem_document_is_told_by_its_status(body: bytes) -> None:
    error = error_of(502, body)
    assert isinstance(error, RemoteError)
    assert error.status == 502
    assert "502 Bad Gateway" in error.message


def test_what_does_not_fit_the_request_is_what_python_calls_say_of_it() -> None:
    answer = problems.problem(422, "query.act: is odd", kind="invalid-request")
    assert type(error_of(422, bytes(answer.body))) is InvalidQueryError
    assert type(error_of(422, bytes(answer.body), "POST")) is InvalidInputError


def test_what_has_no_class_is_told_as_it_is() -> None:
    answer = problems.problem(503, "come again later", kind="busy")
    error = error_of(answer.status_code, bytes(answer.body))
    assert isinstance(error, RemoteError)
    assert (error.status, error.type) == (503, "urn:timestep:busy")
    assert error.detail == error.message == "come again later"


def test_who_sends_no_token_is_told_where_it_is_set() -> None:
    told = error_of(401, b'{"detail": "no bearer token was sent"}').message
    assert told.startswith("no bearer token was sent (TIMESTEP_TOKEN is sent so")
