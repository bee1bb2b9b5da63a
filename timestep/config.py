"""Reads Timestep's settings, the environment variables named `TIMESTEP_…`, at each `read()`."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from timestep.errors import ConfigurationError

PREFIX = "TIMESTEP_"

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

_SECRETS = ("api_tokens", "escalation_url", "escalation_secret")
"""Settings whose value is never shown: a chat's webhook URL lets anybody write there."""
_SECRET_PREFIX = "whsec_"


@dataclass(frozen=True)
class Token:
    """One credential of the HTTP API."""

    name: str
    """Who it belongs to; recorded as the author of decisions."""
    role: Role
    """What it allows."""
    secret: SecretStr
    """What the client sends. Its representation is masked."""


def _tokens(value: object) -> object:
    """Parse `name:role:token,…`.

    A bad entry is named by its number only: whatever was written there may be the secret.
    """
    if not isinstance(value, str):
        return value
    tokens: list[Token] = []
    for number, entry in enumerate(value.split(","), start=1):
        name, _, rest = entry.strip().partition(":")
        role, _, secret = rest.partition(":")
        if not name or not secret or role not in ROLES:
            raise ValueError(
                f"entry {number} is not name:role:token with a role of {', '.join(ROLES)}"
            )
        if any(name == other.name for other in tokens):
            raise ValueError(f"entry {number} has the name of an earlier one")
        if any(secret == other.secret.get_secret_value() for other in tokens):
            raise ValueError(f"entry {number} has the token of an earlier one")
        tokens.append(Token(name, role, SecretStr(secret)))
    return tuple(tokens)


class Settings(BaseSettings):
    """Timestep's settings. An empty variable counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, hide_input_in_errors=True
    )

    db_url: str | None = Field(default=None, repr=False)
    """PostgreSQL URL; unset: the embedded PostgreSQL."""
    home: Path = Path(".timestep")
    """Where the embedded PostgreSQL and other local state live."""
    use_pglite: bool = False
    """Whether the schema lives in PGlite."""
    pglite_path: Path = Path("pglite_data")
    """PGlite's data directory."""
    ordinary_steps: bool = False
    """Whether DBOS records each step itself, as it must where it has a database of its own."""
    api_tokens: Annotated[tuple[Token, ...], NoDecode, BeforeValidator(_tokens)] = ()
    """Credentials of the HTTP API; none: loopback only, and no token is asked."""
    host: str = "127.0.0.1"
    """The address that the host listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The TCP port that the host listens on; 0: any free one."""

    model_retries: int = Field(default=2, ge=0)
    """How often a model call is tried again after an error that may pass. Replaces the retries of
    the provider's client; `ModelSettings.retry` replaces it."""

    escalation_insecure: bool = False
    """Whether `escalation_url` may be plain http to another machine."""
    escalation_url: SecretStr | None = None
    """Who is told that approvals wait: a webhook, or a chat's incoming webhook. None: nobody."""
    escalation_secret: SecretStr | None = None
    """What messages to it are signed with: `whsec_` and base64, or any text. None: they are not."""
    escalation_format: Literal["json", "slack"] | None = None
    """What it takes: JSON documents, or Slack's `{"text": ...}`. None: the latter at Slack only."""
    public_url: str | None = None
    """Where people reach the host; messages link to it."""

    @field_validator("escalation_url")
    @classmethod
    def _check_escalation_url(
        cls, value: SecretStr | None, info: ValidationInfo
    ) -> SecretStr | None:
        if value is not None:
            scheme, host = _web_address(value.get_secret_value())
            is_open = _is_loopback(host) or info.data.get("escalation_insecure")
            if scheme == "http" and not is_open:
                raise ValueError(
                    "is plain http to another machine: use https, or set "
                    f"{PREFIX}ESCALATION_INSECURE=true"
                )
        return value

    @field_validator("escalation_secret")
    @classmethod
    def _check_escalation_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            key_of(value.get_secret_value())
        return value

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is not None:
            _web_address(value)
            value = value.rstrip("/")
        return value

    def check_listen(self) -> None:
        """Refuse to serve other machines without tokens.

        Raises:
            ConfigurationError: `host` is not a loopback address and there are no tokens.
        """
        if self.api_tokens or _is_loopback(self.host):
            return
        raise ConfigurationError(
            f"{PREFIX}HOST={self.host!r} can be reached from other machines and "
            f"{PREFIX}API_TOKENS is unset: set {PREFIX}API_TOKENS to name:role:token "
            f"entries, or {PREFIX}HOST to 127.0.0.1"
        )


def read() -> Settings:
    """Read the environment.

    Returns:
        The settings as the environment is now; nothing is cached.

    Raises:
        ConfigurationError: a variable's value cannot be used. One line that names the
            variable and its value, but never a secret.
    """
    try:
        return Settings()
    except ValidationError as exc:
        problem = exc.errors(include_url=False)[0]
        field = str(problem["loc"][0])
        shown = "" if field in _SECRETS else f"={problem['input']!r}"
        reason = problem["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{PREFIX}{field.upper()}{shown}: {reason}") from (
            None if field in _SECRETS else exc
        )


def key_of(secret: str) -> bytes:
    """The bytes that a secret for signatures stands for (Standard Webhooks, "Secrets").

    Raises:
        ValueError: It begins with `whsec_` and does not go on with base64.
    """
    if not secret.startswith(_SECRET_PREFIX):
        return secret.encode()
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError(f"what follows {_SECRET_PREFIX!r} is not base64")
    return key


def _web_address(url: str) -> tuple[str, str]:
    """The scheme and the host of a URL of the web."""
    try:
        parts = urlsplit(url)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
    except ValueError:
        scheme, host = "", None
    if scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable():
        raise ValueError("is not a URL like https://example.com/hook")
    return scheme, host


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
