"""A model's call that fails is made again by one layer, and no more often than that one says."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from agents import (
    Agent,
    Model,
    ModelRetrySettings,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    retry_policies,
)
from agents.testing import ScriptedModel, assistant_message
from openai import AsyncOpenAI

import timestep
from tests.integration.app import App
from tests.integration.provider import (
    Behaviour,
    Provider,
    answers,
    breaks_off,
    drops,
    ends_early,
    fails,
    hangs_until,
)
from tests.integration.provider import provider as provider
from timestep import attempts

KINDS: dict[str, type[Any]] = {
    "responses": OpenAIResponsesModel,
    "chat": OpenAIChatCompletionsModel,
}


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which take no time."""
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(attempts, "sleep", note)
    return pauses


class Seen:
    """What a caller saw of a run: in its first execution, and in a replay."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.requests = 0
        self.tokens = 0


async def ask(
    model: Model, streamed: bool, settings: ModelSettings | None = None, **options: Any
) -> tuple[str, Seen]:
    agent = Agent(name="A", model=model, model_settings=settings or ModelSettings())
    seen = Seen()
    if streamed:
        result = timestep.DurableRunner.run_streamed(agent, "hi", **options)
        async for event in result.stream_events():
            if event.type == "raw_response_event":
                seen.events.append(event.data)
        done: Any = result
    else:
        done = await timestep.DurableRunner.run(agent, "hi", **options)
    seen.requests = done.context_wrapper.usage.requests
    seen.tokens = done.context_wrapper.usage.total_tokens
    return str(done.final_output), seen


def run(
    app: App,
    provider: Provider,
    kind: str,
    streamed: bool,
    *behaviours: Behaviour,
    settings: ModelSettings | None = None,
    timeout: float = 20,
    **options: Any,
) -> tuple[str, list[Seen]]:
    """The answer or error of a run and of its replay, which asks nothing."""
    provider.behaviours = list(behaviours)
    seen: list[Seen] = []

    async def body() -> str:
        async with AsyncOpenAI(base_url=provider.url, api_key="k", timeout=timeout) as client:
            try:
                answer, one = await ask(
                    KINDS[kind](model="m", openai_client=client), streamed, settings, **options
                )
            except openai.APIError as error:
                return type(error).__name__
            seen.append(one)
            return answer

    first = app.run(body, "retried")
    asked = len(provider.requests)
    assert app.replay("retried") == first
    assert len(provider.requests) == asked
    if seen:
        before, after = seen
        assert after.events == before.events
        assert [type(e) for e in after.events] == [type(e) for e in before.events]
        assert (after.requests, after.tokens) == (before.requests, before.tokens)
    return first, seen


def outcomes(app: App) -> list[tuple[int, str | None]]:
    rows = app.rows("model_responses", "ordinal", "attempt")
    return [
        (row["attempt"], row["error"]["type"].partition(":")[2] if row["error"] else None)
        for row in rows
    ]


both = pytest.mark.parametrize("kind", KINDS)
ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@ways
@both
def test_what_may_pass_is_tried_again(
    app: App, provider: Provider, slept: list[float], kind: str, streamed: bool
) -> None:
    answer, seen = run(
        app, provider, kind, streamed, fails(429, retry_after="7"), fails(500), answers
    )
    assert answer == "Hello"
    assert len(provider.requests) == 3
    assert slept[0] == 7
    assert 0.8 <= slept[1] <= 1.2
    assert len(slept) == 2
    assert outcomes(app) == [(1, "RateLimitError"), (2, "InternalServerError"), (3, None)]
    assert seen[0].requests == 3
    (metrics,) = app.rows("usage_metrics")
    assert (metrics["requests"], metrics["total_tokens"]) == (3, 9)
    entries = app.rows("request_usage_entries")
    assert sorted(row["total_tokens"] for row in entries) == [0, 0, 9]
    assert {row["requests"] for row in entries} == {1}
    assert app.steps("retried") == ["turn 1: A"]


@ways
@both
def test_a_lost_connection_is_tried_again(
    app: App, provider: Provider, slept: list[float], kind: str, streamed: bool
) -> None:
    answer, seen = run(app, provider, kind, streamed, drops, breaks_off, answers)
    assert answer == "Hello"
    assert len(provider.requests) == 3
    assert [number for number, _ in outcomes(app)] == [1, 2, 3]
    assert seen[0].requests == 3
    if streamed:
        # What was said before the connection was lost stays said; then the answer begins anew.
        begun = [event.type for event in seen[0].events].count("response.created")
        assert begun == 2


def test_a_stream_that_ends_early_is_tried_again(
    app: App, provider: Provider, slept: list[float]
) -> None:
    answer, _ = run(app, provider, "responses", True, ends_early, answers)
    assert answer == "Hello"
    assert outcomes(app) == [(1, "ModelBehaviorError"), (2, None)]


@ways
@both
def test_a_silent_provider_is_asked_again(
    app: App, provider: Provider, slept: list[float], kind: str, streamed: bool
) -> None:
    release = threading.Event()
    answer, _ = run(app, provider, kind, streamed, hangs_until(release), answers, timeout=0.3)
    release.set()
    assert answer == "Hello"
    assert outcomes(app) == [(1, "APITimeoutError"), (2, None)]


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (fails(400), "BadRequestError"),
        (fails(401), "AuthenticationError"),
        (fails(403), "PermissionDeniedError"),
        (fails(404), "NotFoundError"),
        (fails(422), "UnprocessableEntityError"),
        (fails(429, "insufficient_quota"), "RateLimitError"),
        (fails(503, x_should_retry="false"), "InternalServerError"),
        (fails(429, retry_after="86400"), "RateLimitError"),
    ],
)
def test_what_cannot_succeed_is_asked_once(
    app: App, provider: Provider, slept: list[float], behaviour: Behaviour, error: str
) -> None:
    assert run(app, provider, "responses", True, behaviour)[0] == error
    assert len(provider.requests) == 1
    assert outcomes(app) == [(1, error)]
    assert slept == []


@ways
@both
def test_attempts_do_not_multiply(
    app: App, provider: Provider, slept: list[float], kind: str, streamed: bool
) -> None:
    answer, _ = run(app, provider, kind, streamed, *[fails(500, retry_after_ms="20")] * 20)
    assert answer == "InternalServerError"
    assert len(provider.requests) == 3
    assert slept == [0.02, 0.02]
    assert outcomes(app) == [(n, "InternalServerError") for n in (1, 2, 3)]
    assert app.rows("usage_metrics") == []


@ways
def test_the_sdks_own_retries_are_the_only_ones_where_they_are_set(
    app: App, provider: Provider, slept: list[float], streamed: bool
) -> None:
    policy = ModelRetrySettings(
        max_retries=1,
        policy=retry_policies.http_status([500]),
        backoff={"initial_delay": 0.0, "max_delay": 0.0},
    )
    answer, _ = run(
        app,
        provider,
        "responses",
        streamed,
        *[fails(500)] * 20,
        settings=ModelSettings(retry=policy),
    )
    assert answer == "InternalServerError"
    assert len(provider.requests) == 2
    assert slept == []
    # Each is a step of its own.
    assert outcomes(app) == [(1, "InternalServerError")] * 2
    assert app.steps("retried") == ["turn 1: A"] * 2


def test_the_number_of_retries_is_a_setting(
    app: App, provider: Provider, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_MODEL_RETRIES", "4")
    run(app, provider, "chat", False, *[fails(409)] * 20)
    assert len(provider.requests) == 5


@ways
@pytest.mark.parametrize(
    ("behaviour", "requests"),
    [(drops, 1), (breaks_off, 1), (fails(500), 2)],
    ids=["dropped", "broken off", "refused"],
)
def test_a_conversation_the_server_keeps_is_sent_again_only_if_it_was_refused(
    app: App,
    provider: Provider,
    slept: list[float],
    streamed: bool,
    behaviour: Behaviour,
    requests: int,
) -> None:
    run(app, provider, "responses", streamed, behaviour, answers, previous_response_id="resp_0")
    assert len(provider.requests) == requests


@pytest.mark.parametrize(
    "error", [RuntimeError("connection error"), ValueError("no"), KeyError("status")]
)
@ways
def test_an_error_of_a_models_own_is_raised_at_once(
    app: App, slept: list[float], streamed: bool, error: Exception
) -> None:
    model = ScriptedModel([error, [assistant_message("too late")]])

    async def body() -> str:
        try:
            return (await ask(model, streamed))[0]
        except type(error) as raised:
            return type(raised).__name__

    assert app.run(body) == type(error).__name__
    assert slept == []


@pytest.fixture(autouse=True)
def no_leftovers(provider: Provider) -> Iterator[None]:
    yield
    provider.behaviours.clear()
