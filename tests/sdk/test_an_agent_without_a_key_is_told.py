"""An agent whose provider has no key fails as the SDK says, and with what may be done."""

from __future__ import annotations

import re

import pytest
from agents import Agent
from openai import OpenAIError

import timestep
from tests.support.dbos_app import App
from timestep.sdk.models import missing_key

HINT = "Missing credentials.*set OPENAI_API_KEY, or give the agent model=timestep.offline.fallback"


def test_the_offline_model_is_for_agents_made_with_it(app: App) -> None:
    async def body() -> None:
        with pytest.raises(OpenAIError, match=HINT) as raised:
            await timestep.run_agent(Agent("A"), "hi")
        assert type(raised.value) is OpenAIError
        with pytest.raises(OpenAIError, match=HINT):
            async for _ in timestep.DurableRunner.run_streamed(Agent("A"), "hi").stream_events():
                pass

    app.run(body, "w")
    app.replay("w")
    told = [row["error_message"] for row in app.rows("runs")]
    assert len([text for text in told if re.search(HINT, text)]) == 2


def test_other_errors_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise OpenAIError("no such option")

    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    with pytest.raises(OpenAIError, match=r"^no such option$"):
        missing_key.resolved(refused)
