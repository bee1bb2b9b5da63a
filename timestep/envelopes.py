"""Lets pickle carry errors of the SDK and of openai, as DBOS does with what a workflow raises.

Pickles that DBOS has recorded name `timestep.envelopes.opened`: neither may move.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterator
from typing import Any

import openai
from agents.exceptions import AgentsException

from timestep.errors import RecordedError
from timestep.serialization import exceptions


def opened(envelope: dict[str, Any]) -> BaseException:
    """The error that an envelope holds, for the pickle that names this function."""
    return exceptions.opened(envelope)


def make_picklable() -> None:
    """Let pickle carry the SDK's and openai's errors as envelopes, and recorded errors.

    They hold agents, responses and requests, which it cannot carry, or are of classes that are
    made at run time.
    """
    RecordedError.__reduce__ = _reduced  # type: ignore[method-assign,assignment]
    for kind in (*_family(AgentsException), *_family(openai.APIError)):
        copyreg.pickle(kind, _reduced)


def _family(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _family(child)


def _reduced(error: BaseException) -> tuple[Any, ...]:
    return opened, (exceptions.seal(error),)
