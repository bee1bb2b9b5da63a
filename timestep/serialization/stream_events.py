"""Turns the events of a model's stream into JSON, and back into the objects they were."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from timestep.serialization.sdk_objects import encode_item, kinds_of, made
from timestep.serialization.values import Json, decode


def encode_event(event: object) -> Json:
    """An event as the provider's API writes it; another form where that would not give it back.

    What a model of the user's own yields is kept as any value is: an object that cannot be
    made of JSON again is replayed as its text.
    """
    if isinstance(event, BaseModel):
        with contextlib.suppress(PydanticSerializationError):
            # Unchecked, as the client makes events: a gateway's may not fit their types.
            document: Json = event.model_dump(
                mode="json", by_alias=True, exclude_unset=True, warnings=False
            )
            if _is_same(decode_event(document), event):
                return document
    return encode_item(event)


def decode_event(document: Any) -> Any:
    """The event that `encode_event` was given."""
    if not isinstance(document, dict) or "$type" in document:
        return decode(document)
    return made(document, _classes())


def _is_same(decoded: object, event: object) -> bool:
    return type(decoded) is type(event) and decoded == event


@functools.cache
def _classes() -> dict[str, type[BaseModel]]:
    return kinds_of(ResponseStreamEvent)
