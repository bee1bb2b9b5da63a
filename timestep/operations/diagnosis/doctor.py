"""Finds out why Timestep does not work here: each check tells what is, or what is wrong."""

from __future__ import annotations

import errno
import http.client
import importlib.metadata
import json
import socket
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from timestep import config, versions
from timestep.approvals.webhook import Webhook
from timestep.database import migrations
from timestep.database.engines import check_server
from timestep.database.error_translation import translated
from timestep.database.servers import nodejs
from timestep.database.urls import shown
from timestep.dbos_internals import presence
from timestep.errors import TimestepError
from timestep.journal import fail_fast_read
from timestep.journal.recorder import recorder
from timestep.operations import entrypoints, recordable_types
from timestep.operations.access import tokens
from timestep.sdk import patches
from timestep.store.reads import pickled_workflows, server

_PACKAGES = ("dbos", "openai-agents", "psycopg", "sqlalchemy")


Mark = Literal["ok", "doubt", "problem", "unknown"]


class _Doubt(TimestepError):
    """It works, and may not go on to."""


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    mark: Mark
    text: str
    """What is there; what is wrong and how to put it right; or of what that is a part."""


def examine(*, without: Collection[str] = ()) -> Iterator[Finding]:
    """Check settings, packages, the database and the entrypoints, one after another.

    What is wrong is told once: what needs it is not looked at.

    Args:
        without: Checks that are left out.
    """
    failed: set[str] = set()
    for check, work in _CHECKS.items():
        if check in without:
            continue
        needed = [name for name in _NEEDS.get(check, ()) if name in failed]
        if needed:
            failed.add(check)
            yield Finding(check, "unknown", f"not looked at: see {needed[0]}")
            continue
        try:
            yield Finding(check, "ok", work())
        except _Doubt as doubt:
            yield Finding(check, "doubt", doubt.message)
        except TimestepError as error:
            failed.add(check)
            yield Finding(check, "problem", error.message)


IN_A_HOST = ("address", "agents SDK", "entrypoints")
"""Checks that a host made when it started, and that are for who is about to start one."""


def _settings() -> str:
    config.read()
    if unknown := config.unknown():
        lines = [
            f"{name} is set, and there is no such setting"
            + (f": {nearest} is one" if nearest else "")
            for name, nearest in unknown.items()
        ]
        raise _Doubt("; ".join(lines))
    return "every value can be used"


def _address() -> str:
    settings = config.read()
    settings.check_listen(tokens.are_there)
    count = len(settings.api_tokens)
    who = f"{count} API token{'s' if count > 1 else ''}" if count else "no TIMESTEP_API_TOKENS"
    there = f"{settings.host}:{settings.port}"
    host = settings.host.strip("[]")
    try:
        _try_to_listen(host, settings.port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise TimestepError(
                f"a host cannot listen on {there}: {error.strerror or error}: set TIMESTEP_HOST "
                "and TIMESTEP_PORT to an address that is free"
            ) from error
        if not _is_a_host(host, settings.port):
            raise _Doubt(
                f"another program listens on {there}, where no host of Timestep answers: end it, "
                "or set TIMESTEP_PORT to a port that is free"
            ) from error
        return f"a host listens on {there}, {who}"
    return f"{there} is free for a host, {who}"


def _try_to_listen(host: str, port: int) -> None:
    """Listen where a host would, and stop it at once.

    Raises:
        OSError: One cannot.
    """
    family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind(address)
        tried.listen()


def _is_a_host(host: str, port: int) -> bool:
    """Whether what listens there answers as a host does that is asked whether it serves."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    asked = http.client.HTTPConnection(reached, port, timeout=10)
    try:
        asked.request("GET", "/healthz")
        return bool(json.loads(asked.getresponse().read(1000)) == {"status": "ok"})
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        asked.close()


def _escalation() -> str:
    webhook = Webhook.of(config.read())
    if webhook is None:
        return "nobody is told that approvals wait: set TIMESTEP_ESCALATION_URL to a webhook"
    form = "a text" if webhook.is_chat else "a JSON document"
    signed = "signed" if webhook.key is not None else "not signed"
    return f"{webhook.shown} is told that approvals wait, with {form}, {signed}"


def _packages() -> str:
    there = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    if lines := versions.others().values():
        raise _Doubt("; ".join((there, *lines)))
    return there


def _agents_sdk() -> str:
    patches.connect()
    return "every call site that Timestep needs is there"


def _database() -> str:
    engine = recorder().engine
    check_server(engine)
    version = fail_fast_read.reading(server.server_version)
    mirror = recorder().mirror
    if mirror is None:
        return f"PostgreSQL {version} at {shown(engine.url)}"
    return (
        f"PostgreSQL {version}, {shown(engine.url)}, run by Node.js {nodejs.find().version}; "
        f"DBOS's tables in {mirror.engine.url.database}"
    )


def _schema() -> str:
    waiting = migrations.pending(recorder().engine)
    if waiting:
        names = ", ".join(migration.name for migration in waiting)
        raise TimestepError(f"{names} not applied: run `timestep migrate`")
    return f"up to date ({migrations.available()[-1].name})"


def _rights() -> str:
    missing = fail_fast_read.reading(lambda connection: server.missing_rights(connection, "dbos"))
    if missing:
        raise TimestepError(
            f"the database's user may not write {', '.join(missing)}: grant SELECT, INSERT, "
            "UPDATE and DELETE on them, or run `timestep migrate` as a user who may"
        )
    return "the database's user may write every table"


def _workflows() -> str:
    if not (folder := Path.cwd() / entrypoints.PACKAGE).is_dir():
        raise _Doubt(
            f"there is no folder {folder.name!r} in {folder.parent}: `timestep serve` needs one, "
            "with a module for your entrypoints; an application that launches DBOS itself does not"
        )
    found = entrypoints.find()
    recordable_types.check(found.values())
    names = ", ".join(sorted(found)) or "none"
    return f"{names} (application {presence.application_name()!r})"


def _serializer() -> str:
    with translated(recorder().url), recorder().system() as (connection, schema):
        pickled, looked_at = pickled_workflows.newest(connection, schema)
    if not pickled:
        return "no pickle is among what DBOS recorded last"
    raise _Doubt(
        f"{pickled} of the {looked_at} newest workflows are recorded as pickles, so whoever can "
        "write into the database can run code in what executes them: `timestep serve` writes "
        "JSON and reads no pickles; an application that launches DBOS itself gives it "
        '"serializer": timestep.JSONSerializer() in its config, and each DBOSClient likewise, '
        "and calls timestep.refuse_pickles() once what is unfinished has ended"
    )


_CHECKS: dict[str, Callable[[], str]] = {
    "settings": _settings,
    "address": _address,
    "escalation": _escalation,
    "packages": _packages,
    "agents SDK": _agents_sdk,
    "database": _database,
    "schema": _schema,
    "rights": _rights,
    "serializer": _serializer,
    "entrypoints": _workflows,
}

_NEEDS = {
    "address": ("settings",),
    "escalation": ("settings",),
    "database": ("settings",),
    "schema": ("database",),
    "rights": ("database", "schema"),
    "serializer": ("database", "schema"),
    "entrypoints": ("settings",),
}
"""The checks that say nothing of their own where another one failed."""
