"""Signs one-time links: whoever has one decides about one call, as it was asked, without a login.

A link names a question, the hash of what was shown of it, and the time up to which it holds. That
is signed (HMAC-SHA256) with `TIMESTEP_LINK_KEY`, and kept nowhere: a question that is decided has
no further use for its links, and a new key ends all of them.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import struct
import uuid
from dataclasses import dataclass

_PURPOSE = b"timestep one-time link 1:"
"""So that nothing else that the key may sign is a link."""
_FORM = struct.Struct(">16sQ32s")
"""A question's id, the seconds since 1970 up to which the link holds, and the question's hash."""
_SIGNATURE = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Link:
    """What a link lets whoever has it decide."""

    question: uuid.UUID
    hash: str
    """Of the question as the message told of it."""
    until: datetime.datetime


def signed(link: Link, key: bytes) -> str:
    """The secret part of a link's address."""
    seconds = int(link.until.timestamp())
    content = _FORM.pack(link.question.bytes, seconds, bytes.fromhex(link.hash))
    signature = hmac.digest(key, _PURPOSE + content, hashlib.sha256)
    return base64.urlsafe_b64encode(content + signature).decode().rstrip("=")


def opened(text: str, key: bytes) -> Link | None:
    """The link that a text is; None: it is none that the key has signed. Its time may be over."""
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        found = base64.b64decode(padded, b"-_", validate=True)
    except ValueError:
        return None
    content, signature = found[: _FORM.size], found[_FORM.size :]
    if len(content) != _FORM.size or len(signature) != _SIGNATURE:
        return None
    if not hmac.compare_digest(signature, hmac.digest(key, _PURPOSE + content, hashlib.sha256)):
        return None
    id_, seconds, hash_ = _FORM.unpack(content)
    until = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return Link(uuid.UUID(bytes=id_), hash_.hex(), until)
