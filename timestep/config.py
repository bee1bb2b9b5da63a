"""Reads Timestep's settings, the environment variables named `TIMESTEP_…`, at each `read()`."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints
from urllib.parse import unquote

from timestep import addresses, environment
from timestep.environment import Secret
from timestep.errors import ConfigurationError

PREFIX = "TIMESTEP_"

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

_SECRETS = (
    *("api_tokens", "token", "url", "escalation_url", "escalation_secret"),
    *("link_key", "openai_api_key"),
)
"""Settings whose value no error shows: a chat's webhook URL lets anybody write there, and a host's
may be written with a password."""


def _secret_address(value: str) -> Secret:
    addresses.parts_of(value)
    return Secret(value)


def _address(value: str) -> str:
    addresses.parts_of(value, "http://127.0.0.1:8000 or https://runs.example.com")
    return value.rstrip("/")


def _host_address(value: str) -> str:
    if addresses.has_user(found := _address(value)):
        raise ValueError(f"has a user or a password: set {PREFIX}TOKEN instead")
    return found


_TOLD = "told"


@dataclass(frozen=True)
class Told:
    """What is said of a setting besides its type and default; `_setting` has what each is."""

    sentence: str
    kind: str | None
    unit: str | None
    unset: str | None
    variable: str | None
    ge: float | None
    gt: float | None
    le: float | None


@dataclass(frozen=True)
class Token:
    """One credential of the HTTP API."""

    name: str
    """Who it belongs to; recorded as the author of decisions."""
    role: Role
    """What it allows."""
    secret: Secret
    """What the client sends. Its representation is masked."""


def _tokens(value: str) -> tuple[Token, ...]:
    """Parse `name:role:token,…`.

    A bad entry is named by its number only: whatever was written there may be the secret.
    """
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
        tokens.append(Token(name, role, Secret(secret)))
    return tuple(tokens)


Seconds = Annotated[float, environment.seconds]


def _setting(
    default: Any,
    sentence: str,
    *,
    kind: str | None = None,
    unit: str | None = None,
    unset: str | None = None,
    variable: str | None = None,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    repr: bool = True,  # noqa: A002  # as `dataclasses.field` names it
) -> Any:
    """A field of the settings.

    Args:
        default: Its value where the variable is not set.
        sentence: What it is, for people.
        kind: What is written into the variable, where the field's type does not tell it.
        unit: What a number counts.
        unset: What holds where the variable is not set, where the default does not tell it.
        variable: Its environment variable, where that is not named after the field.
        ge, gt, le: What a number is at least, more than, at most.
        repr: Whether the settings' representation shows it.
    """
    told = Told(sentence, kind, unit, unset, variable, ge, gt, le)
    return field(default=default, repr=repr, metadata={_TOLD: told})


@dataclass(frozen=True)
class Settings:
    """Timestep's settings. An empty variable counts as unset."""

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
    log_level: Literal["debug", "info", "warning", "error"] = _setting(
        "info",
        "From which level on the host's log has lines of the logger `timestep`; those of other "
        "loggers are in it from `warning` on.",
        kind="`debug`, `info`, `warning` or `error`",
    )
    api_tokens: Annotated[tuple[Token, ...], _tokens] = _setting(
        (),
        "Credentials of the HTTP API, beside those of `timestep tokens`; without any, the host "
        "listens on loopback only; roles are `viewer`, `operator` and `admin`.",
        kind="`name:role:token,…`",
        unset="none; where none was made either, no token is asked",
    )
    host: str = _setting("127.0.0.1", "The address that the host listens on.", kind="address")
    port: int = _setting(
        8000, "The TCP port that the host listens on; 0 is any free one.", ge=0, le=65535
    )
    trusted_proxies: Annotated[tuple[str, ...], addresses.networks] = _setting(
        (),
        "The proxies before the host whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
        kind="addresses or networks, separated by commas",
        unset="none",
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
    queue_limit: int | None = _setting(
        None,
        "How many workflows may wait in a queue for this process to start one more there; those "
        "that go on, or are recovered, always may.",
        kind="whole number",
        unset="any number",
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
    escalation_url: Annotated[Secret, _secret_address] | None = _setting(
        None,
        "The webhook, or a chat's incoming webhook, that is told that approvals wait.",
        kind="URL",
        unset="nobody is told",
    )
    escalation_secret: Annotated[Secret, environment.signing_secret] | None = _setting(
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
    public_url: Annotated[str, _address] | None = _setting(
        None, "Where people reach the host: messages link to it.", kind="URL", unset="no links"
    )
    link_key: Annotated[Secret, environment.link_key] | None = _setting(
        None,
        "What one-time links in messages are signed with: whoever gets such a link decides about "
        "one call, without a login.",
        kind="text of 32 bytes or more",
        unset="messages have no such links",
    )
    link_lifetime: Seconds = _setting(
        3600.0, "How long a one-time link holds.", unit="seconds", gt=0
    )
    url: Annotated[str, _host_address] | None = _setting(
        None,
        "The host that `timestep.Client` asks, and that commands go through.",
        kind="URL",
        unset="commands go to the database",
    )
    token: Secret | None = _setting(
        None, "What they show the host: a token of `timestep tokens`.", kind="text", unset="none"
    )
    plain_http: bool = _setting(
        False, "Whether they may send the token over plain http to another machine."
    )
    openai_api_key: Secret | None = _setting(
        None,
        "The key of the model provider; the OpenAI client reads it, and `OPENAI_BASE_URL`, too.",
        variable="OPENAI_API_KEY",
        kind="text",
        unset="only agents made with `timestep.offline` answer",
    )
    dont_log_model_data: bool = _setting(
        False,
        "Whether the log leaves out what errors say, as it may be what a model was told or said; "
        "the Agents SDK's own log does so unless this is `false`.",
        variable="OPENAI_AGENTS_DONT_LOG_MODEL_DATA",
    )
    dont_log_tool_data: bool = _setting(
        False,
        "The same, for what tools were given or gave.",
        variable="OPENAI_AGENTS_DONT_LOG_TOOL_DATA",
    )

    def __post_init__(self) -> None:
        if self.escalation_url is not None and not self.escalation_insecure:
            scheme, host = addresses.parts_of(self.escalation_url.get_secret_value())
            if scheme == "http" and not addresses.is_loopback(host):
                raise ConfigurationError(
                    f"{PREFIX}ESCALATION_URL: is plain http to another machine: use https, or set "
                    f"{PREFIX}ESCALATION_INSECURE=true"
                )

    def secrets(self) -> list[str]:
        """Every secret that the settings hold: to be kept out of what is shown."""
        given = (self.escalation_url, self.escalation_secret, self.link_key)
        held = [
            *given,
            self.token,
            self.openai_api_key,
            *(token.secret for token in self.api_tokens),
        ]
        found = [secret.get_secret_value() for secret in held if secret is not None]
        password = addresses.password_of(self.db_url or "")
        return found if password is None else [*found, password, unquote(password)]

    def is_loopback(self) -> bool:
        """Whether only this machine reaches the host's address."""
        return addresses.is_loopback(self.host)

    def check_listen(self, are_tokens_made: Callable[[], bool]) -> None:
        """Refuse to serve other machines without tokens.

        Args:
            are_tokens_made: Whether the database has tokens; asked where that matters.

        Raises:
            ConfigurationError: `host` is not a loopback address and there are no tokens.
        """
        if self.api_tokens or self.is_loopback() or are_tokens_made():
            return
        raise ConfigurationError(
            f"{PREFIX}HOST={self.host!r} can be reached from other machines and there are no "
            "tokens: make one (timestep tokens create NAME --role operator), or set "
            f"{PREFIX}API_TOKENS to name:role:token entries, or {PREFIX}HOST to 127.0.0.1"
        )


def told() -> dict[str, Told]:
    """What is said of each setting, by its field's name."""
    return {one.name: one.metadata[_TOLD] for one in fields(Settings)}


def variable_of(name: str) -> str:
    """The environment variable of a field of the settings."""
    return told()[name].variable or f"{PREFIX}{name.upper()}"


def unknown() -> dict[str, str | None]:
    """Variables that are named as settings are and are none, each with the nearest that is one."""
    import difflib  # Takes long to import, and one command needs it.

    known = {variable_of(name).removeprefix(PREFIX) for name in told()}
    given = [name.removeprefix(PREFIX) for name in sorted(os.environ) if name.startswith(PREFIX)]
    near = {name: difflib.get_close_matches(name, known, n=1) for name in given}
    return {
        PREFIX + name: PREFIX + near[name][0] if near[name] else None
        for name in given
        if name not in known
    }


def as_given(*names: str) -> tuple[str | None, ...]:
    """What is written into the variables of some settings, to see at no cost that they changed."""
    return tuple(os.environ.get(f"{PREFIX}{name.upper()}") for name in names)


def filled_in(text: str) -> str:
    """A text with each `${NAME}` replaced by that variable's value, as DBOS reads its file."""
    return re.sub(r"\$\{([^}]+)\}", lambda found: os.environ.get(found[1], ""), text)


def read() -> Settings:
    """Read the environment.

    Returns:
        The settings as the environment is now; nothing is cached.

    Raises:
        ConfigurationError: a variable's value cannot be used. One line that names the
            variable and its value, but never a secret.
    """
    given = {}
    for name, one in told().items():
        variable = one.variable or f"{PREFIX}{name.upper()}"
        if text := os.environ.get(variable):
            try:
                value = environment.parsed(text, _annotations()[name])
                if isinstance(value, int | float):
                    environment.check_range(value, ge=one.ge, gt=one.gt, le=one.le)
            except ValueError as error:
                raise _refused(name, variable, text, str(error)) from None
            given[name] = value
    return Settings(**given)


def _refused(name: str, variable: str, text: str, reason: str) -> ConfigurationError:
    if name in _SECRETS:
        return ConfigurationError(f"{variable}: {reason}")
    colon = "" if reason.startswith("is ") else ":"
    return ConfigurationError(f"{variable}={text!r}{colon} {reason}")


@functools.cache
def _annotations() -> dict[str, Any]:
    return get_type_hints(Settings, include_extras=True)
