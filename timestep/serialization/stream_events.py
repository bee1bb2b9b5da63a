"""Turns the events of a model's stream into JSON, and back into the objects they were."""

from __future__ import annotations

import contextlib
import functools
from typing import Any

from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from timestep.serialization import values
from timestep.serialization.registered_types import registered, type_path
from timestep.serialization.sdk_objects import (
    encode_item,
    encode_model,
    is_of_api,
    item_of,
    kinds_of,
)
from timestep.serialization.values import Json, escaped


def encode_event(event: object) -> Json:
    """An event as the provider's API writes it; another form where that would not give it back.

    What a model of the user's own yields is kept as any value is; an event of a class that is
    not known, or does not take its own JSON, as the API's event that it is.
    """
    if isinstance(event, BaseModel):
        with contextlib.suppress(PydanticSerializationError):
            # Unchecked, as the client makes events: a gateway's may not fit their types.
            document = escaped(
                event.model_dump(mode="json", by_alias=True, exclude_unset=True, warnings=False)
            )
            if _is_same(decode_event(document), event):
                return document
            kept = encode_model(event) if is_of_api(type(event)) else encode_item(event)
            return document if values.has_text(kept) else kept
    return encode_item(event)


def survives(event: object) -> object:
    """The event as its replay will see it: one of a class that is not known becomes the API's."""
    kind = type(event)
    if not isinstance(event, BaseModel):
        return values.survives(event)
    if registered(type_path(kind)) is kind:
        return event
    return decode_event(encode_event(event))


def decode_event(document: Any) -> Any:
    """The event that `encode_event` was given."""
    return item_of(document, _classes())


def _is_same(decoded: object, event: object) -> bool:
    return type(decoded) is type(event) and decoded == event


@functools.cache
def _classes() -> dict[str, type[BaseModel]]:
    return kinds_of(ResponseStreamEvent)
