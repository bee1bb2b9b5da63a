"""Tells who runs an agent without a key of its provider what the offline model is for."""

from __future__ import annotations

from typing import Any

from agents import Model
from openai import OpenAIError

from timestep import config

_HINT = (
    "Timestep's offline model answers only for agents that are made with it: set OPENAI_API_KEY, "
    "or give the agent model=timestep.offline.fallback(...)."
)


def resolved(original: Any, *args: Any, **kwargs: Any) -> Model:
    """The model that the SDK finds.

    Raises:
        OpenAIError: As the client raises it; where no key is set, with what may be done.
    """
    try:
        model: Model = original(*args, **kwargs)
    except OpenAIError as error:
        # Of this very class are only refusals of the client to be made.
        if type(error) is not OpenAIError or config.read().openai_api_key is not None:
            raise
        raise OpenAIError(f"{error} {_HINT}") from error
    return model
