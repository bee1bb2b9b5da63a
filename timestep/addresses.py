"""Tells of addresses of the web what settings, the client and the HTTP API ask of them."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit


def parts_of(url: str, example: str = "https://example.com/hook") -> tuple[str, str]:
    """The scheme and the host of a URL of the web.

    Args:
        url: The URL.
        example: One that would be right, which the error tells.

    Raises:
        ValueError: It is none.
    """
    try:
        parts = urlsplit(url)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host = "", None
    if scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable():
        raise ValueError(f"is not a URL like {example}")
    return scheme, host


def has_user(url: str) -> bool:
    """Whether a URL of the web names a user, with a password or without."""
    return "@" in urlsplit(url).netloc


def password_of(url: str) -> str | None:
    """The password in a URL, as it is written there; None: there is none."""
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host, a name or an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def networks(value: str) -> tuple[str, ...]:
    """Parse `address,network/bits,…`.

    Raises:
        ValueError: A part is neither.
    """
    found = tuple(part.strip() for part in value.split(","))
    for part in found:
        try:
            ip_network(part)
        except ValueError:
            raise ValueError(
                f"has {part!r}, which is no address, and no network like 10.0.0.0/8"
            ) from None
    return found
