"""Leaves out of a text the secrets of this process, and what looks like one."""

from __future__ import annotations

import contextlib
import os
import re

from timestep import config
from timestep.errors import ConfigurationError

_MASK = "***"
_KEY = re.compile(r"\b(?:sk|pk|rk)-[\w-]{8,}|\btss?_[\w-]{43}|(?<=bearer )\S{8,}", re.IGNORECASE)
"""How providers' keys look, the host's own tokens and cookies, and tokens in headers."""
_PASSWORD_IN_URL = re.compile(r"(\w://[^\s/:@'\"]*:)[^\s/@'\"]+(?=@)")
_NAMED = re.compile(
    r"((?:password|passwd|secret|token|api_?key|authorization)\w{0,32}['\"]?\s{0,8}[=:]\s{0,8}['\"]?)"
    r"(?!\d+\b)[^\s'\",;&]{4,}",
    re.IGNORECASE,
)
"""What is called a secret beside it, in JSON, in Python's own writing, and in settings."""
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
"""How variables of the environment end that hold what nobody else may know."""
_SHORTEST_SECRET = 4
"""Characters: what is shorter is found in any text."""


def masked(text: str) -> str:
    """The text without what the settings and the environment hold as secrets, and without keys."""
    secrets = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    with contextlib.suppress(ConfigurationError):  # a setting was changed meanwhile
        secrets += config.read().secrets()
    # The longest first: one may be the beginning of another.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _MASK)
    return _KEY.sub(_MASK, text)


def without_secrets(text: str) -> str:
    """`masked`, and without passwords in URLs and what is named a secret beside it."""
    text = _PASSWORD_IN_URL.sub(rf"\1{_MASK}", masked(text))
    return _NAMED.sub(rf"\1{_MASK}", text)
