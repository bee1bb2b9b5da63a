"""Decides which failures of a model call are worth another attempt, and when.

One layer tries again: `timestep.steps.model_attempts`, asked by the SDK's own rules for what may
be sent twice, unless `ModelSettings.retry` makes the SDK's runner that layer. The retries of the
provider's client are off in either case.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import openai
from agents import (
    Model,
    ModelRetryAdviceRequest,
    ModelRetryBackoffSettings,
    ModelRetrySettings,
    RetryPolicyContext,
)
from agents.exceptions import ModelBehaviorError
from agents.models._retry_runtime import (
    provider_managed_retries_disabled,
    should_disable_provider_managed_retries,
    websocket_pre_event_retries_disabled,
)
from agents.run_internal.model_retry import _evaluate_retry
from agents.tool import ProgrammaticToolCallingTool

from timestep import config
from timestep.errors import ConfigurationError
from timestep.sdk.models.whole_answers import NOT_WHOLE
from timestep.serialization.exceptions import told_by

NO_FINAL_RESPONSE = "Model did not produce a final response!"
_ENDED_EARLY = (
    NO_FINAL_RESPONSE,
    "Chat Completions stream ended before receiving a finish_reason for choice 0.",
    NOT_WHOLE,
)
"""What errors say first of an answer that ended before it was whole. The SDK's other errors of
this class are about what the model said."""

_BACKOFF = ModelRetryBackoffSettings(initial_delay=0.5, max_delay=8.0, multiplier=2.0, jitter=True)
"""That of the openai client, whose retries these replace."""

_LONGEST_PAUSE = 600.0
"""Seconds. A provider that asks for more is not waited for inside a step."""

_TRANSIENT_STATUS = {408, 409, 429}
_TRANSIENT_CODES = {"server_error", "rate_limit_exceeded"}
"""How a stream that has begun says 500 and 429."""

_BROKEN_OFF = (json.JSONDecodeError, UnicodeDecodeError)
"""What the openai client lets through of a body that ended within a value, or a character."""

_OTHER_LOOPS = (
    "Event loop is closed",
    "attached to a different loop",
    "bound to a different event loop",
)
"""What asyncio says of a connection that another loop made."""

_LOST = {"TimeoutException", "NetworkError", "RemoteProtocolError", "ConnectionClosed"}
_TRANSPORTS = {"httpx", "httpx2", "websockets"}
"""Whose errors these are; openai has used more than one of them."""


@dataclass(frozen=True)
class Request:
    """A call of a model, as far as it decides about attempts."""

    model: Model
    settings: ModelRetrySettings | None
    stream: bool
    previous_response_id: str | None
    conversation_id: str | None
    tools: list[Any]

    async def pause_after(self, error: Exception, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None: there is to be none.

        Args:
            error: What the attempt raised.
            attempt: Its number, counted from 1.
        """
        if self._is_retried_by_runner():
            return None
        try:
            decision = await self._decision(error, attempt)
        except Exception:  # noqa: BLE001  # what a model or an error answers must not replace it
            return None
        pause = decision.delay or 0.0
        return pause if decision.retry and pause <= _LONGEST_PAUSE else None

    async def _decision(self, error: Exception, attempt: int) -> Any:
        advice = self.model.get_retry_advice(
            ModelRetryAdviceRequest(
                error=error,
                attempt=attempt,
                stream=self.stream,
                previous_response_id=self.previous_response_id,
                conversation_id=self.conversation_id,
            )
        )
        return await _evaluate_retry(
            error=error,
            attempt=attempt,
            max_retries=config.read().model_retries,
            retry_policy=_is_transient,
            retry_backoff=_BACKOFF,
            stream=self.stream,
            replay_unsafe_request=any(
                isinstance(tool, ProgrammaticToolCallingTool) for tool in self.tools
            ),
            # Events of the attempt may be out already; the next attempt's follow them.
            emitted_retry_unsafe_event=False,
            provider_advice=advice,
            previous_response_id=self.previous_response_id,
            conversation_id=self.conversation_id,
        )

    def _is_retried_by_runner(self) -> bool:
        """Whether the SDK's runner decides; it does not with settings that have no policy."""
        given = self.settings
        if given is None or given.max_retries is None:
            return False
        return given.max_retries <= 0 or given.policy is not None


def request_of(model: Model, args: Any, kwargs: Any, *, stream: bool) -> Request:
    """The request that a model's method is called with."""
    settings = argument_of(args, kwargs, "model_settings")
    return Request(
        model=model,
        settings=settings.retry if settings is not None else None,
        stream=stream,
        previous_response_id=kwargs.get("previous_response_id"),
        conversation_id=kwargs.get("conversation_id"),
        tools=argument_of(args, kwargs, "tools") or [],
    )


_PLACES = {"model_settings": 2, "tools": 3, "handoffs": 5}


def argument_of(args: Any, kwargs: Any, name: str) -> Any:
    """What a model's method is given under a name, by name or by place; None without it."""
    if name in kwargs:
        return kwargs[name]
    return args[_PLACES[name]] if len(args) > _PLACES[name] else None


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Switch off the retries below: those of the provider's client.

    Raises:
        ConfigurationError: The client has connections of another event loop.
    """
    with (
        provider_managed_retries_disabled(True),
        websocket_pre_event_retries_disabled(True),
        on_own_loop(),
    ):
        yield


def get_client(run: object, original: Any, model: Model) -> Any:
    """The client that a model asks: the caller's own, whatever was put around its methods.

    The SDK takes a copy without retries where they are to be off; `get_max_retries` needs none.
    """
    with provider_managed_retries_disabled(False):
        client = original(model)
    return client if isinstance(client, openai.AsyncOpenAI) else original(model)


def get_max_retries(run: object, original: Any, options: Any, max_retries: int) -> int:
    """How often the openai client tries a request again."""
    if should_disable_provider_managed_retries():
        return 0
    retries: int = original(options, max_retries)
    return retries


@contextlib.contextmanager
def on_own_loop() -> Iterator[None]:
    """Say of a model's client that has connections of another event loop what to do.

    Raises:
        ConfigurationError: It has.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_of_other_loop(error):
            raise
        raise ConfigurationError(
            f"the model's client has connections that another event loop made ({error}), and "
            "a recovery runs on another loop than the process's own code: make the client in "
            "the workflow, or leave it to the SDK (OPENAI_API_KEY, OPENAI_BASE_URL)"
        ) from error


def _is_transient(context: RetryPolicyContext) -> bool:
    normalized, advice = context.normalized, context.provider_advice
    if normalized.error_code == "insufficient_quota":
        return False
    if isinstance(context.error, ModelBehaviorError):
        return told_by(context.error).startswith(_ENDED_EARLY)
    if advice is not None and advice.suggested is not None:
        return advice.suggested
    status = normalized.status_code
    if status is not None:
        return status in _TRANSIENT_STATUS or status >= 500
    error = context.error
    if isinstance(error, openai.APIError) and error.code in _TRANSIENT_CODES:
        return True
    return _is_lost_connection(error)


def _is_of_other_loop(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and any(said in told_by(error) for said in _OTHER_LOOPS)


def _is_lost_connection(error: BaseException | None) -> bool:
    if error is None:
        return False
    if _is_of_other_loop(error):
        # The answer cannot be read any more, and the client lets go of that connection.
        return True
    if isinstance(error, (openai.APIConnectionError, ConnectionError, TimeoutError, *_BROKEN_OFF)):
        return True
    if type(error).__module__.partition(".")[0] in _TRANSPORTS:
        return not _LOST.isdisjoint(kind.__name__ for kind in type(error).__mro__)
    return _is_lost_connection(error.__cause__)
