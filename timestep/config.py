"""Settings: the environment variables named `TIMESTEP_…`, read anew at each `read()`."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from timestep.errors import ConfigurationError

PREFIX = "TIMESTEP_"

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)


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
    api_tokens: Annotated[tuple[Token, ...], NoDecode, BeforeValidator(_tokens)] = ()
    """Credentials of the HTTP API; none: loopback only, and no token is asked."""
    host: str = "127.0.0.1"
    """The address that the host listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The TCP port that the host listens on; 0: any free one."""

    model_retries: int = Field(default=2, ge=0)
    """How often a model call is tried again after an error that may pass. Replaces the retries of
    the provider's client; `ModelSettings.retry` replaces it."""

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
        shown = "" if field == "api_tokens" else f"={problem['input']!r}"
        reason = problem["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{PREFIX}{field.upper()}{shown}: {reason}") from (
            None if field == "api_tokens" else exc
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
