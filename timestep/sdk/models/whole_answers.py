"""Tells a provider's answer that is whole from one that broke off.

What is recorded is never asked for again, so it has to be whole.
"""

from __future__ import annotations

from typing import Any

from agents.exceptions import ModelBehaviorError
from openai.types.chat import ChatCompletion

from timestep.dbos_internals import workflow_scope
from timestep.execution.current import current_step

NOT_WHOLE = "The model's provider did not answer in whole: "
_SHOWN = 200
"""Characters of a body that an error shows."""


def handle_stream(run: object, original: Any, *args: Any, **kwargs: Any) -> Any:
    """Read a stream of Chat Completions, whose provider has to say why it ended.

    The SDK asks that of OpenAI's own endpoint alone. What no step records may be read as it is.
    """
    if _is_recorded():
        kwargs["require_finish_reason"] = True
    return original(*args, **kwargs)


async def fetch_response(run: object, original: Any, *args: Any, **kwargs: Any) -> Any:
    """Fetch an answer of either API, or the stream of one.

    Raises:
        ModelBehaviorError: What came is text, as gateways say that they failed, or it says
            nothing, or not why it ended.
    """
    fetched = await original(*args, **kwargs)
    if not _is_recorded():
        return fetched
    # The SDK takes whatever is no ChatCompletion for the stream of one.
    body = fetched[1] if isinstance(fetched, tuple) else fetched
    if isinstance(body, str):
        raise ModelBehaviorError(f"{NOT_WHOLE}it sent {body[:_SHOWN]!r}")
    if isinstance(fetched, ChatCompletion):
        if fetched.choices and fetched.choices[0].finish_reason is None:
            raise ModelBehaviorError(f"{NOT_WHOLE}choice 0 has no finish_reason")
        if not fetched.choices:
            raise ModelBehaviorError(f"{NOT_WHOLE}it has no choices{_error_in(fetched)}")
    elif hasattr(fetched, "output") and fetched.output is None:
        raise ModelBehaviorError(f"{NOT_WHOLE}it has no output{_error_in(fetched)}")
    return fetched


def _is_recorded() -> bool:
    """Whether the caller is part of a step."""
    return current_step() is not None or workflow_scope.in_step()


def _error_in(answer: Any) -> str:
    error = getattr(answer, "error", None)
    return f"; its error: {str(error)[:_SHOWN]}" if error is not None else ""
