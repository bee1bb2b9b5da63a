"""Adds to every answer the headers that keep a browser from doing more with it than was meant."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

POLICY = "; ".join(
    (
        "default-src 'none'",
        "base-uri 'none'",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "img-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
    )
)
"""Only files of the host's own: no text in a page is a script or a style."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # Not `no-referrer`: with that a browser says `Origin: null` of the forms of our own pages, too.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer."""

_PRIVATE = "private, no-cache"
"""No proxy keeps an answer, and a browser asks before it shows one again."""
_TLS_ONLY = "max-age=31536000"
"""Seconds of a year in which a browser reaches this host over TLS alone."""


def with_headers(send: Send, *, is_tls: bool) -> Send:
    """Sends what `send` does, with the headers.

    Args:
        send: What sends the answer.
        is_tls: Whether browsers reach the host over TLS.
    """

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", _PRIVATE)
            if is_tls:
                headers["Strict-Transport-Security"] = _TLS_ONLY
        await send(message)

    return sent
