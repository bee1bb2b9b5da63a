"""A model's call that fails is made again by one layer, and no more often than that one says."""

from __future__ import annotations

import itertools
import threading
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
from agents.exceptions import ModelTimeoutError
from agents.testing import ScriptedModel, assistant_message
from openai import AsyncOpenAI

import timestep
from tests.support.dbos_app import App
from tests.support.model_provider import (
    Behaviour,
    Provider,
    answers,
    answers_in_part,
    breaks_off,
    drops,
    ends_after,
    ends_early,
    fails,
    fails_speaking,
    hangs_until,
    says,
    says_no_finish_reason,
)
from tests.support.model_provider import provider as provider
from timestep.steps import model_attempts

KINDS: dict[str, type[Any]] = {
    "responses": OpenAIResponsesModel,
    "chat": OpenAIChatCompletionsModel,
}


clients: list[AsyncOpenAI] = []
"""That of the trial under way."""


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which take no time."""
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        for client in clients:
            # Only the first attempt is one that must fail, however slow the machine is.
            client.timeout = 60

    monkeypatch.setattr(model_attempts, "sleep", note)
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


class Trial:
    """A run, and its replay, with a provider that behaves as it is told."""

    def __init__(
        self,
        app: App,
        provider: Provider,
        kind: str,
        streamed: bool,
        *behaviours: Behaviour,
        settings: ModelSettings | None = None,
        timeout: float = 20,
        **options: Any,
    ) -> None:
        self.app = app
        self.seen: list[Seen] = []
        self.id = f"trial {next(_numbers)}"
        provider.behaviours = list(behaviours)
        provider.requests.clear()

        async def body() -> str:
            async with AsyncOpenAI(base_url=provider.url, api_key="k", timeout=timeout) as client:
                clients[:] = [client]
                model = KINDS[kind](model="m", openai_client=client)
                try:
                    answer, one = await ask(model, streamed, settings, **options)
                except (openai.APIError, ModelTimeoutError) as error:
                    return type(error).__name__
                self.seen.append(one)
                return answer

        self.answer = app.run(body, self.id)
        self.requests = len(provider.requests)
        assert app.replay(self.id) == self.answer
        assert len(provider.requests) == self.requests
        if self.seen:
            before, after = self.seen
            assert after.events == before.events
            assert [type(e) for e in after.events] == [type(e) for e in before.events]
            assert (after.requests, after.tokens) == (before.requests, before.tokens)

    def rows(self, table: str, *order: str) -> list[dict[str, Any]]:
        (run,) = [row for row in self.app.rows("runs") if row["workflow_id"] == self.id]
        return [row for row in self.app.rows(table, *order) if row["run_id"] == run["id"]]

    @property
    def attempts(self) -> list[tuple[int, str | None]]:
        """The number of each recorded attempt, and the class of its error."""
        return [
            (row["attempt"], row["error"]["type"].partition(":")[2] if row["error"] else None)
            for row in self.rows("model_responses", "ordinal", "attempt")
        ]


WAYS = list(itertools.product(KINDS, [False, True]))
_numbers = itertools.count()


def test_what_may_pass_is_tried_again(app: App, provider: Provider, slept: list[float]) -> None:
    for kind, streamed in WAYS:
        slept.clear()
        refusals = fails(429, retry_after="7"), fails(500)
        trial = Trial(app, provider, kind, streamed, *refusals, answers)
        assert trial.answer == "Hello"
        assert trial.requests == 3
        assert slept[0] == 7
        assert 0.8 <= slept[1] <= 1.2
        assert len(slept) == 2
        assert trial.attempts == [(1, "RateLimitError"), (2, "InternalServerError"), (3, None)]
        assert trial.seen[0].requests == 3
        (metrics,) = trial.rows("usage_metrics")
        assert (metrics["requests"], metrics["total_tokens"]) == (3, 9)
        entries = trial.rows("request_usage_entries")
        assert sorted(row["total_tokens"] for row in entries) == [0, 0, 9]
        assert {row["requests"] for row in entries} == {1}
        assert app.steps(trial.id) == ["turn 1: A"]


def test_a_lost_connection_is_tried_again(app: App, provider: Provider, slept: list[float]) -> None:
    for kind, streamed in WAYS:
        trial = Trial(app, provider, kind, streamed, drops, breaks_off, answers)
        assert trial.answer == "Hello"
        assert trial.requests == 3
        assert [number for number, _ in trial.attempts] == [1, 2, 3]
        assert trial.seen[0].requests == 3
        if streamed:
            # What was said before the connection was lost stays said; then it begins anew.
            said = [event.type for event in trial.seen[0].events]
            assert said.count("response.created") == 2


def test_a_stream_that_ends_early_is_tried_again(
    app: App, provider: Provider, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_MODEL_RETRIES", "20")
    ends = [
        ends_after(0),  # Nothing came.
        ends_early,
        ends_after(0, rest=b"data: [DONE]\n\n"),
        ends_after(3, rest=b"data: [DONE]\n\n"),  # Said to be whole, but without its end.
        ends_after(2, 0.5),  # In the middle of an event, which nothing closes.
        ends_after(2, 0.5, rest=b"\n\n"),  # In the middle of its JSON.
        ends_after(3, 0.9, rest=b"\n\n"),
    ]
    for kind in KINDS:
        trial = Trial(app, provider, kind, True, *ends, answers)
        assert trial.answer == "Hello"
        assert trial.attempts == [
            *((number, "ModelBehaviorError") for number in range(1, 6)),
            (6, "JSONDecodeError"),
            (7, "JSONDecodeError"),
            (8, None),
        ]
        assert trial.seen[0].tokens == 9


def test_a_body_that_is_no_whole_answer_is_a_lost_connection(
    app: App, provider: Provider, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_MODEL_RETRIES", "20")
    parts = [answers_in_part(0.0), answers_in_part(0.5), answers_in_part(0.9)]
    others = [says("<html>overloaded", "text/html"), says("{}"), says('{"error": {"code": 502}}')]
    for kind in KINDS:
        unfinished = [says_no_finish_reason] if kind == "chat" else []
        trial = Trial(app, provider, kind, False, *parts, *others, *unfinished, answers)
        assert trial.answer == "Hello"
        errors = [error for _, error in trial.attempts]
        no_answers = len(others) + len(unfinished)
        assert errors == [*["JSONDecodeError"] * 3, *["ModelBehaviorError"] * no_answers, None]


def test_a_stream_that_tells_of_a_failure_that_may_pass_is_tried_again(
    app: App, provider: Provider, slept: list[float]
) -> None:
    for kind in KINDS:
        trial = Trial(app, provider, kind, True, fails_speaking, answers)
        assert trial.answer == "Hello"
        assert trial.attempts == [(1, "APIError"), (2, None)]


def test_a_silent_provider_is_asked_again(app: App, provider: Provider, slept: list[float]) -> None:
    for kind, streamed in WAYS:
        release = threading.Event()
        silent = hangs_until(release)
        trial = Trial(app, provider, kind, streamed, silent, answers, timeout=0.3)
        release.set()
        assert trial.answer == "Hello"
        assert trial.attempts == [(1, "APITimeoutError"), (2, None)]


def test_what_cannot_succeed_is_asked_once(
    app: App, provider: Provider, slept: list[float]
) -> None:
    for behaviour, error in [
        (fails(400), "BadRequestError"),
        (fails(401), "AuthenticationError"),
        (fails(403), "PermissionDeniedError"),
        (fails(404), "NotFoundError"),
        (fails(422), "UnprocessableEntityError"),
        (fails(429, "insufficient_quota"), "RateLimitError"),
        (fails(503, x_should_retry="false"), "InternalServerError"),
        (fails(429, retry_after="86400"), "RateLimitError"),
    ]:
        trial = Trial(app, provider, "responses", True, behaviour, answers)
        assert trial.answer == error
        assert trial.requests == 1
        assert trial.attempts == [(1, error)]
    assert slept == []


def test_attempts_do_not_multiply(app: App, provider: Provider, slept: list[float]) -> None:
    for kind, streamed in WAYS:
        slept.clear()
        trial = Trial(app, provider, kind, streamed, *[fails(500, retry_after_ms="20")] * 20)
        assert trial.answer == "InternalServerError"
        assert trial.requests == 3
        assert slept == [0.02, 0.02]
        assert trial.attempts == [(n, "InternalServerError") for n in (1, 2, 3)]
        assert trial.rows("usage_metrics") == []


def test_the_sdks_own_retries_are_the_only_ones_where_they_are_set(
    app: App, provider: Provider, slept: list[float]
) -> None:
    policy = ModelRetrySettings(
        max_retries=1,
        policy=retry_policies.http_status([500]),
        backoff={"initial_delay": 0.0, "max_delay": 0.0},
    )
    settings = ModelSettings(retry=policy)
    for kind, streamed in WAYS:
        trial = Trial(app, provider, kind, streamed, *[fails(500)] * 20, settings=settings)
        assert trial.answer == "InternalServerError"
        assert trial.requests == 2
        # Each is a step of its own.
        assert trial.attempts == [(1, "InternalServerError")] * 2
        assert app.steps(trial.id) == ["turn 1: A"] * 2
    none = ModelSettings(retry=ModelRetrySettings(max_retries=0))
    assert Trial(app, provider, "chat", True, fails(500), answers, settings=none).requests == 1
    assert slept == []


def test_the_number_of_retries_is_a_setting(
    app: App, provider: Provider, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_MODEL_RETRIES", "4")
    assert Trial(app, provider, "chat", False, *[fails(409)] * 20).requests == 5


def test_a_conversation_the_server_keeps_is_sent_again_only_if_it_was_refused(
    app: App, provider: Provider, slept: list[float]
) -> None:
    for streamed in (False, True):
        for behaviour, requests in [(drops, 1), (breaks_off, 1), (fails(500), 2)]:
            trial = Trial(
                app,
                provider,
                "responses",
                streamed,
                behaviour,
                answers,
                previous_response_id="resp_0",
            )
            assert trial.requests == requests


def test_an_error_of_a_models_own_is_raised_at_once(app: App, slept: list[float]) -> None:
    for error in (RuntimeError("connection error"), ValueError("no"), KeyError("status")):
        for streamed in (False, True):
            model = ScriptedModel([error, [assistant_message("too late")]])

            async def body(model: Model = model, streamed: bool = streamed) -> str:
                try:
                    return (await ask(model, streamed))[0]
                except (RuntimeError, ValueError, KeyError) as raised:
                    return type(raised).__name__

            assert app.run(body) == type(error).__name__
    assert slept == []


@pytest.mark.parametrize(("kind", "streamed"), WAYS)
def test_a_model_that_takes_too_long_took_too_long_in_a_replay_too(
    app: App, provider: Provider, kind: str, streamed: bool
) -> None:
    release = threading.Event()
    try:
        settings = ModelSettings(timeout=0.3)
        trial = Trial(app, provider, kind, streamed, hangs_until(release), settings=settings)
    finally:
        release.set()
    assert trial.answer == "ModelTimeoutError"
    assert trial.attempts == [(1, "ModelTimeoutError")]
    assert [row["status"] for row in app.rows("runs")] == ["failed"]


@pytest.mark.parametrize(("kind", "streamed"), [("responses", False), ("chat", True)])
def test_a_model_that_takes_too_long_is_asked_again_where_the_settings_say_so(
    app: App, provider: Provider, kind: str, streamed: bool
) -> None:
    release = threading.Event()
    retry = ModelRetrySettings(
        max_retries=1, policy=lambda given: isinstance(given.error, ModelTimeoutError)
    )
    settings = ModelSettings(timeout=2.0, retry=retry)
    try:
        trial = Trial(
            app, provider, kind, streamed, hangs_until(release), answers, settings=settings
        )
    finally:
        release.set()
    assert trial.answer == "Hello"
    assert trial.requests == 2
    assert trial.attempts == [(1, "ModelTimeoutError"), (1, None)]
    assert trial.seen[0].requests == 2
