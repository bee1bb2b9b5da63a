"""One-time links: nobody makes one without the key, and messages have them where they are on."""

from __future__ import annotations

import base64
import datetime
import json
import uuid
from typing import Any

import pytest

from timestep import config
from timestep.approvals.links import Link, opened, signed
from timestep.approvals.webhook import Webhook
from timestep.errors import ConfigurationError

KEY = "0123456789abcdef0123456789abcdef"
UNTIL = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
LINK = Link(uuid.UUID(int=5), "ab" * 32, UNTIL)


def test_only_the_key_makes_a_link() -> None:
    text = signed(LINK, KEY.encode())
    assert text.isascii()
    assert text.replace("-", "").replace("_", "").isalnum()
    assert opened(text, KEY.encode()) == LINK
    assert opened(text, b"another") is None
    # No bit of it may be another one.
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    for place in range(len(raw)):
        changed = bytes([*raw[:place], raw[place] ^ 1, *raw[place + 1 :]])
        assert opened(base64.urlsafe_b64encode(changed).decode().rstrip("="), KEY.encode()) is None


@pytest.mark.parametrize("text", ["", "x", "é", "\ud800", "=", "A" * 10_000, "a b", "//"])
def test_what_is_no_link_is_none(text: str) -> None:
    assert opened(text, KEY.encode()) is None
    assert opened(signed(LINK, KEY.encode()) + text, KEY.encode()) in (None, LINK)


def question(**more: Any) -> dict[str, Any]:
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return {
        "id": uuid.UUID(int=5),
        "run_id": uuid.UUID(int=6),
        "type": "tool_approval",
        "reason": "needs_approval",
        "tool_name": "launch",
        "call_id": "c",
        "hash": "ab" * 32,
        "agent_name": "Asker",
        "description": None,
        "arguments": {"target": "moon"},
        "created_at": now,
        "expires_at": None,
        **more,
    }


def message(monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], **settings: str) -> Any:
    """What a webhook is told of a question."""
    for name, value in {"ESCALATION_URL": "https://hooks.example/x", **settings}.items():
        monkeypatch.setenv(f"TIMESTEP_{name}", value)
    webhook = Webhook.of(config.read())
    assert webhook is not None
    assert KEY not in repr(config.read())
    return json.loads(webhook.message("w/1", "r", [row]))


def test_messages_link_to_the_page_and_have_one_time_links_where_they_are_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    public = {"PUBLIC_URL": "https://agents.example"}
    plain = message(monkeypatch, question())
    assert "link" not in plain["data"]["interruptions"][0]
    assert "page" not in plain["data"]["resume"]
    linked = message(monkeypatch, question(), **public)
    page = "https://agents.example/approvals?workflow_id=w%2F1"
    assert linked["data"]["resume"]["page"] == page
    assert "link" not in linked["data"]["interruptions"][0]

    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    on = message(monkeypatch, question(), **public, LINK_KEY=KEY, LINK_LIFETIME="60")
    found = on["data"]["interruptions"][0]["link"]
    secret = found["url"].removeprefix("https://agents.example/approve/")
    link = opened(secret, KEY.encode())
    assert link is not None
    assert (link.question, link.hash) == (uuid.UUID(int=5), "ab" * 32)
    assert link.until.isoformat() == found["expires_at"]
    assert link.until - before >= datetime.timedelta(seconds=60)
    # No link outlives its question.
    over = before - datetime.timedelta(days=1)
    late = message(monkeypatch, question(expires_at=over), **public)
    assert late["data"]["interruptions"][0]["link"]["expires_at"] == over.isoformat()

    text = message(monkeypatch, question(), ESCALATION_FORMAT="slack")["text"]
    assert f"Decide at: <{page}>" in text
    assert "Asker wants to call launch: <https://agents.example/approve/" in text
    assert "moon" not in text


def test_a_key_that_can_be_looked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_LINK_KEY", "too-short-a-key")
    with pytest.raises(ConfigurationError, match="TIMESTEP_LINK_KEY: is shorter than 32") as caught:
        config.read()
    assert "too-short-a-key" not in str(caught.value)
