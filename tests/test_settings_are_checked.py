"""Settings are checked, and a bad one is told in one line without secrets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import settings_table
from timestep import config
from timestep.errors import ConfigurationError


def test_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIMESTEP_HOME")

    settings = config.read()

    assert settings.db_url is None
    assert settings.home == Path("./.timestep")
    assert settings.use_pglite is False
    assert settings.pglite_path == Path("./pglite_data")
    assert settings.api_tokens == ()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)


@pytest.mark.parametrize(
    ("name", "value"),
    [("BODY_LIMIT", "-1"), ("CONNECTION_LIMIT", "0"), ("CLIENT_TIMEOUT", "0")],
)
def test_a_limit_that_lets_nothing_in_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TIMESTEP_{name}", value)
    with pytest.raises(ConfigurationError, match=f"TIMESTEP_{name}="):
        config.read()


def test_the_environment_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_PORT", "9000")
    assert config.read().port == 9000

    monkeypatch.setenv("TIMESTEP_PORT", "9001")
    assert config.read().port == 9001


@pytest.mark.parametrize("name", ["DB_URL", "USE_PGLITE", "PORT", "HOST", "API_TOKENS"])
def test_an_empty_variable_counts_as_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unset = config.read()

    monkeypatch.setenv(f"TIMESTEP_{name}", "")

    assert config.read() == unset


def test_tokens_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "ann:admin:s:1, bob:viewer:s2")

    ann, bob = config.read().api_tokens

    assert (ann.name, ann.role, ann.secret.get_secret_value()) == ("ann", "admin", "s:1")
    assert (bob.name, bob.role, bob.secret.get_secret_value()) == ("bob", "viewer", "s2")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("hunter2", "entry 1 is not"),
        ("ann:admin:fine,bob:hunter2", "entry 2 is not"),
        ("ann:hunter2:admin", "entry 1 is not"),
        ("hunter2:root:ann", "entry 1 is not"),
        ("ann:admin:", "entry 1 is not"),
        (":admin:hunter2", "entry 1 is not"),
        ("ann:admin:hunter2,", "entry 2 is not"),
        ("ann:admin:hunter2,ann:viewer:other", "entry 2 has the name"),
        ("ann:admin:hunter2,bob:viewer:hunter2", "entry 2 has the token"),
    ],
)
def test_a_bad_token_is_refused_and_never_shown(
    value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_API_TOKENS", value)

    with pytest.raises(ConfigurationError) as caught:
        config.read()

    assert caught.value.message.startswith(f"TIMESTEP_API_TOKENS: {reason}")
    assert caught.value.__cause__ is None
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "many"), ("PORT", "70000"), ("USE_PGLITE", "perhaps"), ("LOG_LEVEL", "loud")],
)
def test_a_bad_value_is_named_in_one_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TIMESTEP_{name}", value)

    with pytest.raises(ConfigurationError) as caught:
        config.read()

    assert caught.value.message.startswith(f"TIMESTEP_{name}={value!r}: ")
    assert "\n" not in caught.value.message


def test_a_level_is_written_in_small_or_large_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_LOG_LEVEL", "DEBUG")
    assert config.read().log_level == "debug"


@pytest.mark.parametrize("name", ["GRACE", "OFFLINE_DELAY"])
@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf", "86400"])
def test_a_time_is_a_number_of_seconds_below_a_day(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TIMESTEP_{name}", value)

    with pytest.raises(ConfigurationError) as caught:
        config.read()

    reason = "is not a number of seconds like 0.5"
    assert caught.value.message == f"TIMESTEP_{name}={value!r} {reason}"


def test_every_setting_says_what_it_is() -> None:
    for name, told in config.told().items():
        assert re.fullmatch(r"[A-Z][^.\n]*(\.\S[^.\n]*)*\.", told.sentence), name


def test_the_environment_is_read_in_config_only() -> None:
    """Apart from what other programs are given, and what is DBOS's own."""
    allowed = {"PATH", "DBOS__VMID"}
    package = Path(config.__file__).parent
    for path in package.rglob("*.py"):
        # What `timestep init` writes is another application's.
        if path == Path(config.__file__) or package / "cli" / "new_application" in path.parents:
            continue
        for read in re.findall(r"(?:environ(?:\.get\(|\[)|getenv\()([^,)\]]*)", path.read_text()):
            assert read.strip("\"'") in allowed, f"{path} reads {read}"


def test_the_documents_show_the_settings(renew_golden: bool) -> None:
    page = Path(__file__).parents[1] / "docs" / "settings.md"
    before, start, rest = page.read_text().partition("<!-- the settings -->\n")
    shown, end, after = rest.partition("<!-- end -->\n")
    if renew_golden:
        page.write_text(f"{before}{start}{settings_table.table()}{end}{after}")
    else:
        assert shown == settings_table.table()


def test_secrets_are_not_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_DB_URL", "postgresql://u:hunter2@h/db")
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "ann:admin:hunter2")

    assert "hunter2" not in repr(config.read())
    assert "hunter2" not in str(config.read())


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_tokens(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_HOST", host)

    config.read().check_listen(lambda: False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.evil"])
def test_other_addresses_need_tokens(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_HOST", host)
    with pytest.raises(ConfigurationError, match=r"TIMESTEP_HOST=.*create.*TIMESTEP_API_TOKENS"):
        config.read().check_listen(lambda: False)

    config.read().check_listen(lambda: True)
    monkeypatch.setenv("TIMESTEP_API_TOKENS", "ann:admin:secret")
    config.read().check_listen(lambda: False)


def test_trusted_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    assert config.read().trusted_proxies == ("10.0.0.0/8", "::1")
    for bad in ("*", "10.0.0.1/8", "proxy.example", "10.0.0.1,"):
        monkeypatch.setenv("TIMESTEP_TRUSTED_PROXIES", bad)
        with pytest.raises(ConfigurationError, match="no network like"):
            config.read()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("URL", "hooks.example/hunter2", "is not a URL like https://example.com/hook"),
        ("URL", "ftp://hooks.example/hunter2", "is not a URL like https"),
        ("URL", "https:///hunter2", "is not a URL like https"),
        ("URL", "https://hooks.example:port/hunter2", "is not a URL like https"),
        ("URL", "https://hooks.example/hunter2\n", "is not a URL like https"),
        ("URL", "http://hooks.example/hunter2", "is plain http to another machine"),
        ("SECRET", "whsec_hunter2", "what follows 'whsec_' is not base64"),
        ("SECRET", "whsec_", "what follows 'whsec_' is not base64"),
    ],
)
def test_a_bad_escalation_is_refused_and_never_shown(
    name: str, value: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TIMESTEP_ESCALATION_{name}", value)

    with pytest.raises(ConfigurationError) as caught:
        config.read()

    assert caught.value.message.startswith(f"TIMESTEP_ESCALATION_{name}: {reason}")
    assert caught.value.__cause__ is None
    assert "hunter2" not in caught.value.message


def test_an_escalation_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_ESCALATION_URL", "http://127.0.0.1:80/hunter2")
    monkeypatch.setenv("TIMESTEP_ESCALATION_SECRET", "hunter2")
    assert "hunter2" not in repr(config.read())

    monkeypatch.setenv("TIMESTEP_ESCALATION_URL", "http://queue.internal/hunter2")
    monkeypatch.setenv("TIMESTEP_ESCALATION_INSECURE", "true")
    assert config.read().escalation_url is not None


@pytest.mark.parametrize("value", ["agents.example", "//agents.example", "file:///x"])
def test_a_public_url_is_one_of_the_web(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIMESTEP_PUBLIC_URL", value)
    with pytest.raises(ConfigurationError, match=r"TIMESTEP_PUBLIC_URL=.*is not a URL"):
        config.read()


@pytest.mark.parametrize("host", ["runs.example.com", "runs.exämple.com", "[runs.example.com"])
def test_a_password_in_the_hosts_address_is_never_shown(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIMESTEP_URL", f"https://ann:hunter2@{host}")

    with pytest.raises(ConfigurationError, match="TIMESTEP_URL: ") as caught:
        config.read()

    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize("name", ["URL", "PUBLIC_URL"])
def test_an_address_of_a_host_is_told_as_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TIMESTEP_{name}", "127.0.0.1:8000")
    with pytest.raises(ConfigurationError, match=r"is not a URL like http://127\.0\.0\.1:8000 or "):
        config.read()
