"""Writes, signs and sends the message that a run waits for approvals.

Documents, headers and signatures are those of the Standard Webhooks specification
(https://www.standardwebhooks.com); chats that take Slack's `{"text": ...}` get a text.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import email.utils
import functools
import hashlib
import hmac
import importlib.metadata
import json
import logging
import ssl
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from timestep.approvals import links
from timestep.config import Settings
from timestep.environment import key_of
from timestep.runtime import deciding, terminal
from timestep.serialization.documents.json_text import displayed

if TYPE_CHECKING:
    # Imported by those who send alone: most processes never do, and it takes long.
    import httpx

Row = dict[str, Any]

_CONNECT, _TOTAL = 5.0, 15.0
"""Seconds that a connection, and a whole sending, may take."""
_LONGEST = 4000
"""Characters of a call's arguments, as JSON, that a document holds whole."""
_LISTED = 10
"""Questions that a text names one by one."""
_MAY_PASS = (408, 425, 429)
_SLACK = ("slack.com", "slack-gov.com")

_is_sending: ContextVar[bool] = ContextVar("timestep_is_sending", default=False)


@dataclass(frozen=True)
class Answer:
    """How a sending ended."""

    failure: str | None = None
    """Why the message was not taken; None: it was."""
    may_pass: bool = False
    """Whether sending it again may succeed."""
    retry_after: float = 0.0
    """Seconds that the receiver asks to wait until then."""


@dataclass(frozen=True)
class Webhook:
    """Who is told, as the settings say."""

    url: str
    key: bytes | None
    is_chat: bool
    public_url: str | None
    link_key: bytes | None = None
    """What one-time links are signed with; None: messages have none."""
    link_lifetime: float = 0.0
    """Seconds."""

    @classmethod
    def of(cls, settings: Settings) -> Webhook | None:
        """The webhook of the settings; None: they name none."""
        if settings.escalation_url is None:
            return None
        url, secret = settings.escalation_url.get_secret_value(), settings.escalation_secret
        host = urlsplit(url).hostname or ""
        at_slack = any(host == known or host.endswith(f".{known}") for known in _SLACK)
        return cls(
            url=url,
            key=None if secret is None else key_of(secret.get_secret_value()),
            is_chat=(settings.escalation_format or ("slack" if at_slack else "json")) == "slack",
            public_url=settings.public_url,
            link_key=None
            if settings.link_key is None
            else key_of(settings.link_key.get_secret_value()),
            link_lifetime=settings.link_lifetime,
        )

    @property
    def shown(self) -> str:
        """The URL without what is secret in it."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def message(self, workflow_id: str, run_id: str, questions: Sequence[Row]) -> bytes:
        """The body of the message that a run waits for answers."""
        if self.is_chat:
            content: object = {"text": self._text(workflow_id, questions)}
        else:
            content = self._document(workflow_id, run_id, questions)
        # In ASCII, which also has a word for half of a surrogate pair.
        return json.dumps(content).encode()

    def _document(self, workflow_id: str, run_id: str, questions: Sequence[Row]) -> dict[str, Any]:
        path = f"/api/workflows/{quote(workflow_id, safe='')}/resume"
        resume = {"method": "POST", "path": path, "command": _command(workflow_id, questions)}
        if self.public_url is not None:
            resume["url"] = self.public_url + path
            resume["page"] = self._page(workflow_id)
        return {
            "type": "interruptions.waiting",
            "timestamp": max(row["created_at"] for row in questions).isoformat(),
            "data": {
                "workflow_id": workflow_id,
                "run_id": run_id,
                "interruptions": [self._interruption(row) for row in questions],
                "resume": resume,
            },
        }

    def _interruption(self, row: Row) -> dict[str, Any]:
        link = self._link(row)
        return {**_interruption(row), **({} if link is None else {"link": link})}

    def _page(self, workflow_id: str) -> str:
        """The page on which who has logged in decides what a workflow asks."""
        return f"{self.public_url}/approvals?workflow_id={quote(workflow_id, safe='')}"

    def _link(self, row: Row) -> dict[str, str] | None:
        """A one-time link to decide a question with, and the time of it; None: there is none."""
        if self.link_key is None or self.public_url is None:
            return None
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        until = now + datetime.timedelta(seconds=max(self.link_lifetime, 1))
        if row["expires_at"] is not None:
            until = min(until, row["expires_at"].replace(microsecond=0))
        secret = links.signed(links.Link(row["id"], row["hash"], until), self.link_key)
        return {"url": f"{self.public_url}/approve/{secret}", "expires_at": until.isoformat()}

    def _text(self, workflow_id: str, questions: Sequence[Row]) -> str:
        """Without the calls' arguments: more people read a chat than may see them."""
        count = len(questions)
        is_in_doubt = any(deciding.is_in_doubt(row["reason"]) for row in questions)
        what = "An approval is" if count == 1 else f"{count} approvals are"
        lines = [f"{what} waiting in workflow {_escaped(workflow_id)}:"]
        for row in questions[:_LISTED]:
            who, tool = (
                _escaped(row["agent_name"] or "an agent"),
                _escaped(row["tool_name"] or "a tool"),
            )
            doubt = ""
            if deciding.is_in_doubt(row["reason"]):
                doubt = ", which may have been called already: to approve it calls it once more"
            if is_in_doubt:
                doubt += f" ({row['id']})"
            link = self._link(row)
            once = "" if link is None else f": <{link['url']}|decide it once, without a login>"
            lines.append(f"• {who} wants to call {tool}{doubt}{once}")
        if count > _LISTED:
            lines.append(f"• and {count - _LISTED} more")
        deadlines = [row["expires_at"] for row in questions if row["expires_at"] is not None]
        if deadlines:
            first = min(deadlines).astimezone(datetime.UTC)
            lines.append(f"What nobody decides is rejected from {first:%Y-%m-%d %H:%M:%S} UTC on.")
        if self.public_url is not None:
            lines.append(f"Decide at: <{self._page(workflow_id)}>")
        how = _command(workflow_id, questions)
        if is_in_doubt:
            how += ", which asks about each; or with --approve ID, --supply ID RESULT, --reject ID"
        lines.append(f"Decide with: {_escaped(how)}")
        return "\n".join(lines)

    def headers(self, message_id: str, sent_at: int, body: bytes) -> dict[str, str]:
        """The headers of a message; its signature, if there is a key."""
        version = importlib.metadata.version("timestep")
        found = {
            "content-type": "application/json",
            "user-agent": f"timestep/{version}",
            "webhook-id": message_id,
            "webhook-timestamp": str(sent_at),
        }
        if self.key is not None:
            signed = b".".join([message_id.encode(), str(sent_at).encode(), body])
            digest = hmac.new(self.key, signed, hashlib.sha256).digest()
            found["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        return found

    async def send(self, message_id: str, body: bytes) -> Answer:
        """Send a message once; its id is the same whenever it is sent again."""
        import httpx

        try:
            with _unlogged():
                async with (
                    asyncio.timeout(_TOTAL),
                    httpx.AsyncClient(
                        verify=_certificates(), timeout=httpx.Timeout(_TOTAL, connect=_CONNECT)
                    ) as client,
                    # The answer's body is nothing to us, however long it is.
                    client.stream(
                        "POST",
                        self.url,
                        content=body,
                        headers=self.headers(message_id, int(time.time()), body),
                    ) as response,
                ):
                    return _answer(response)
        except TimeoutError:
            return Answer(f"no answer within {_TOTAL:g} s", may_pass=True)
        except httpx.TransportError as error:
            return Answer(type(error).__name__, may_pass=True)


def _may_be_logged(record: logging.LogRecord) -> bool:
    return not _is_sending.get()


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keep httpx from logging the request: its URL is a secret."""
    logging.getLogger("httpx").addFilter(_may_be_logged)
    token = _is_sending.set(True)
    try:
        yield
    finally:
        _is_sending.reset(token)


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The certificates that the machine trusts, which are read once."""
    import httpx

    return httpx.create_ssl_context()


def _answer(response: httpx.Response) -> Answer:
    status = response.status_code
    if 200 <= status < 300:
        return Answer()
    if status < 500 and status not in _MAY_PASS:
        return Answer(f"HTTP status {status}")
    return Answer(f"HTTP status {status}", may_pass=True, retry_after=_retry_after(response))


def _retry_after(response: httpx.Response) -> float:
    """The seconds that a Retry-After header asks for (RFC 9110, 10.2.3)."""
    given = response.headers.get("retry-after", "").strip()
    if given.isascii() and given.isdigit():
        return float(given)
    try:
        moment = email.utils.parsedate_to_datetime(given)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max((moment - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)


def _interruption(row: Row) -> dict[str, Any]:
    arguments = displayed(row["arguments"])
    text = json.dumps(arguments, ensure_ascii=False, default=str)
    is_cut = len(text) > _LONGEST
    return {
        "id": str(row["id"]),
        "run_id": str(row["run_id"]),
        "type": row["type"],
        "reason": row["reason"],
        **({"warning": deciding.MAY_BE_DONE} if deciding.is_in_doubt(row["reason"]) else {}),
        "tool_name": row["tool_name"],
        "call_id": row["call_id"],
        "agent_name": row["agent_name"],
        "description": row["description"],
        "hash": row["hash"],
        "arguments": text[:_LONGEST] if is_cut else json.loads(text),
        "arguments_are_cut": is_cut,
        "created_at": row["created_at"].isoformat(),
        "expires_at": row["expires_at"].isoformat() if row["expires_at"] is not None else None,
    }


def _command(workflow_id: str, questions: Sequence[Row]) -> str:
    """The command that decides; that asks about each, where a call would be made once more."""
    if any(deciding.is_in_doubt(row["reason"]) for row in questions):
        return terminal.command("resume", workflow_id)
    return terminal.command("resume", workflow_id, "--approve", "all")


def _escaped(text: str) -> str:
    """Text that Slack shows as it is, and takes for no link or mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
