"""Reads Timestep's settings, the environment variables named `TIMESTEP_…`, at each `read()`."""

from __future__ import annotations

import base64
import math
import os
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import unquote, urlsplit

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

_SECRETS = ("api_tokens", "escalation_url", "escalation_secret", "openai_api_key")
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


def _seconds(value: object) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < _LONGEST:
        raise ValueError("is not a number of seconds like 0.5")
    return seconds


_LONGEST = 86400.0
"""The seconds of a day: a longer wait is a mistake."""

Seconds = Annotated[float, BeforeValidator(_seconds)]


def _setting(
    default: Any,
    sentence: str,
    *,
    kind: str | None = None,
    unit: str | None = None,
    unset: str | None = None,
    **options: Any,
) -> Any:
    """A field of the settings.

    Args:
        default: Its value where the variable is not set.
        sentence: What it is, for people.
        kind: What is written into the variable, where the field's type does not tell it.
        unit: What a number counts.
        unset: What holds where the variable is not set, where the default does not tell it.
        options: As `pydantic.Field` takes them.
    """
    return Field(
        default=default,
        description=sentence,
        json_schema_extra={"kind": kind, "unit": unit, "unset": unset},
        **options,
    )


class Settings(BaseSettings):
    """Timestep's settings. An empty variable counts as unset."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        frozen=True,
        hide_input_in_errors=True,
    )

    db_url: str | None = _setting(
        None,
        "The PostgreSQL, 12 to 18, that holds the schema and DBOS's tables.",
        kind="URL",
        unset="the embedded PostgreSQL",
        repr=False,
    )
    home: Path = _setting(
        Path(".timestep"), "Where the embedded PostgreSQL and other local state live."
    )
    use_pglite: bool = _setting(False, "Whether the schema lives in PGlite.")
    pglite_path: Path = _setting(Path("pglite_data"), "PGlite's data directory.")
    ordinary_steps: bool = _setting(
        False,
        "Whether DBOS records each step itself, after its rows are written, as it must where it "
        "has a database of its own.",
    )
    read_pickles: bool = _setting(
        False,
        "Whether the host executes workflows that were recorded as pickles, until they are done, "
        "and commands act on them: who can write into the database can then run code in the host.",
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(lambda given: given.lower())
    ] = _setting(
        "info",
        "From which level on the host's log has lines of the logger `timestep`; those of other "
        "loggers are in it from `warning` on.",
        kind="`debug`, `info`, `warning` or `error`",
    )
    api_tokens: Annotated[tuple[Token, ...], NoDecode, BeforeValidator(_tokens)] = _setting(
        (),
        "The credentials of the HTTP API, needed to listen on other than loopback; roles are "
        "`viewer`, `operator` and `admin`.",
        kind="`name:role:token,…`",
        unset="none, and no token is asked",
    )
    host: str = _setting("127.0.0.1", "The address that the host listens on.", kind="address")
    port: int = _setting(
        8000, "The TCP port that the host listens on; 0 is any free one.", ge=0, le=65535
    )
    body_limit: int = _setting(
        1 << 20, "How long the body of a request may be.", unit="bytes", ge=0
    )
    connection_limit: int = _setting(
        500,
        "How many connections, and requests under way, the host holds; health checks are "
        "answered beyond it.",
        ge=1,
    )
    reader_limit: int = _setting(
        1000,
        "How many may follow runs over HTTP at the same time; they are not counted among the "
        "connections and requests.",
        ge=0,
    )
    client_timeout: Seconds = _setting(
        20.0,
        "How long a client may take to send the head of a request, then to send its body, and to "
        "take some of its answer.",
        unit="seconds",
        gt=0,
    )
    grace: Seconds = _setting(
        10.0,
        "How long running steps may go on when the host is stopped.",
        unit="seconds",
    )
    offline_delay: Seconds = _setting(
        0.0,
        "How long the offline model, and the examples' slow tools, take.",
        unit="seconds",
    )
    model_retries: int = _setting(
        2,
        "How often a model call is tried again after an error that may pass; this replaces the "
        "retries of the provider's client, and `ModelSettings.retry` replaces this.",
        unit="attempts",
        ge=0,
    )
    escalation_insecure: bool = _setting(
        False, "Whether `TIMESTEP_ESCALATION_URL` may be plain http to another machine."
    )
    escalation_url: SecretStr | None = _setting(
        None,
        "The webhook, or a chat's incoming webhook, that is told that approvals wait.",
        kind="URL",
        unset="nobody is told",
    )
    escalation_secret: SecretStr | None = _setting(
        None,
        "What messages to the webhook are signed with: `whsec_` and base64, or any text.",
        kind="text",
        unset="they are not signed",
    )
    escalation_format: Literal["json", "slack"] | None = _setting(
        None,
        'What the webhook takes: JSON documents, or Slack\'s `{"text": …}`.',
        unset="`slack` at Slack, else `json`",
    )
    public_url: str | None = _setting(
        None, "Where people reach the host: messages link to it.", kind="URL", unset="no links"
    )
    openai_api_key: SecretStr | None = _setting(
        None,
        "The key of the model provider; the OpenAI client reads it, and `OPENAI_BASE_URL`, too.",
        validation_alias="OPENAI_API_KEY",
        kind="text",
        unset="only agents made with `timestep.offline` answer",
    )
    dont_log_model_data: bool = _setting(
        False,
        "Whether the log leaves out what errors say, as it may be what a model was told or said; "
        "the Agents SDK's own log does so unless this is `false`.",
        validation_alias="OPENAI_AGENTS_DONT_LOG_MODEL_DATA",
    )
    dont_log_tool_data: bool = _setting(
        False,
        "The same, for what tools were given or gave.",
        validation_alias="OPENAI_AGENTS_DONT_LOG_TOOL_DATA",
    )

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

    def secrets(self) -> list[str]:
        """Every secret that the settings hold: to be kept out of what is shown."""
        given = (self.escalation_url, self.escalation_secret, self.openai_api_key)
        held = [*given, *(token.secret for token in self.api_tokens)]
        found = [secret.get_secret_value() for secret in held if secret is not None]
        password = _password_of(self.db_url or "")
        return found if password is None else [*found, password, unquote(password)]

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


def variable_of(name: str) -> str:
    """The environment variable of a field of the settings."""
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"{PREFIX}{name.upper()}"


def as_given(*names: str) -> tuple[str | None, ...]:
    """What is written into the variables of some settings, to see at no cost that they changed."""
    return tuple(os.environ.get(f"{PREFIX}{name.upper()}") for name in names)


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
        field = str(problem["loc"][0]).lower()
        reason = problem["msg"].removeprefix("Value error, ")
        if field in _SECRETS:
            raise ConfigurationError(f"{variable_of(field)}: {reason}") from None
        colon = "" if reason.startswith("is ") else ":"
        raise ConfigurationError(
            f"{variable_of(field)}={problem['input']!r}{colon} {reason}"
        ) from exc


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


def _password_of(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
