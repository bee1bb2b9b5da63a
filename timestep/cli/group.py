"""Groups the commands: errors in one line, the exit status, and --json.

A command's module is imported when the command is named, and imports what the command needs when
it runs: help and completion load neither a database driver nor DBOS or the SDK.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn, TypeVar

import click

from timestep import versions
from timestep.errors import InvalidInputError, InvalidQueryError, TimestepError
from timestep.operations.access.acting import Actor, acting, user
from timestep.runtime import garbage_collection
from timestep.runtime.terminal import printable, printable_lines, quoted

T = TypeVar("T")


_COMMANDS = {
    "agents": ("agents:agents", "List the agents that runs had, each in its newest version."),
    "approvals": ("approvals:approvals_", "List what waits for a decision."),
    "audit": ("access:audit_", "Tell who did what, newest first."),
    "cancel": ("runs:cancel", "Cancel a workflow: no further step of it begins."),
    "completion": (
        "completion:completion",
        "Print the lines that let a shell complete commands.",
    ),
    "doctor": ("server:doctor_", "Check settings, packages, the database and the entrypoints."),
    "fork": ("runs:fork", "Start a new run from the checkpoint before a turn."),
    "graph": ("agents:graph", "Draw who may hand over to whom, as a Mermaid flowchart."),
    "init": ("init:init", "Make a new application in a folder of its name."),
    "migrate": ("server:migrate_", "Bring the database to this version's schema."),
    "open": ("open:open_", "Open the page of a host, or of a run, in a browser."),
    "resume": ("approvals:resume", "Decide what a workflow asks, and let it go on."),
    "runs": ("runs:runs", "List runs, newest first."),
    "serve": ("server:serve", "Run the workflows of ./workflows and serve the HTTP API."),
    "sessions": ("sessions:sessions", "List sessions, or what is in one."),
    "show": ("runs:show", "Tell the story of a run, or of a workflow's newest run."),
    "start": ("start:start", "Start an entrypoint's workflow."),
    "stop": ("server:stop", "Stop the embedded PostgreSQL."),
    "tokens": ("access:tokens_", "Make, list and revoke tokens of the HTTP API."),
    "usage": ("usage:usage", "Tell what runs used and cost."),
    "watch": ("watch:watch", "Show what a run does as it happens, until it is over."),
}
"""Where in `commands/` each command is, and what the list of commands says of it."""


class _Group(click.Group):
    """Commands whose errors are one line on standard error, and exit status 1."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named, which is imported now; until then its help stands for it."""
        name, found, rest = super().resolve_command(ctx, args)
        if name not in _COMMANDS:
            return name, found, rest
        module, _, attribute = _COMMANDS[name][0].partition(":")
        with versions.explained():
            imported = importlib.import_module(f"timestep.cli.commands.{module}")
        return name, getattr(imported, attribute), rest

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with garbage_collection.seldom():
            return super().main(*args, **kwargs)

    def make_context(
        self, info_name: str | None, args: list[str], *more: Any, **options: Any
    ) -> click.Context:
        with _errors_in_one_line():
            for given in args:
                if not _is_text(given):
                    raise click.UsageError(f"{given!r} is not text: write it in UTF-8")
            return super().make_context(info_name, args, *more, **options)

    def invoke(self, ctx: click.Context) -> Any:
        import logging

        from timestep.runtime import logs

        logging.getLogger("dbos").setLevel(logging.ERROR)
        logs.make_others_fit()
        # A command imports what it needs when it runs.
        with versions.explained(), _errors_in_one_line(), acting(Actor(user(), "cli")):
            return super().invoke(ctx)


class _Misfit(click.ClickException):
    """What was given does not fit what the command is about; how it is called does."""

    exit_code = 2


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Let click show what went wrong as one line, or as its own text, fit for a terminal."""
    try:
        yield
    except (InvalidInputError, InvalidQueryError) as error:
        raise _Misfit(_one_line(str(error))) from error
    except TimestepError as error:
        raise click.ClickException(_one_line(str(error))) from error
    except click.UsageError as error:
        if _is_fit(text := error.format_message()):
            raise
        raise click.UsageError(_one_line(text), error.ctx) from error
    except click.ClickException as error:
        if _is_fit(text := error.format_message()):
            raise
        raise click.ClickException(_one_line(text)) from error
    except Exception as error:
        if not _is_of_dbos(error):
            raise
        raise click.ClickException(_one_line(str(error))) from error


def _is_of_dbos(error: Exception) -> bool:
    module = sys.modules.get("dbos.error")
    return module is not None and isinstance(error, module.DBOSException)


def _is_text(argument: str) -> bool:
    """Whether an argument was text; bytes that were none are lone surrogates."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_fit(text: str) -> bool:
    return printable_lines(text) == text


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


@click.group(cls=_Group)
@click.version_option(package_name="timestep")
def main() -> None:
    """Durable, queryable OpenAI Agents SDK runs on DBOS and PostgreSQL."""


for _name, (_, _help) in _COMMANDS.items():
    main.add_command(click.Command(_name, help=_help))

as_json = click.option("--json", "as_json", is_flag=True, help="JSON alone on standard output.")


def json_value(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    """What the JSON given to an option says; None: the option was not given."""
    if text is None:
        return None
    from timestep.serialization import json_input

    try:
        return json_input.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{quoted(text)} is not JSON: {error}") from error


def run_async(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await `work`. A database that is away, or was not made, is an error at once."""
    import asyncio

    from timestep.database.engines import check_server, engine_for, existing_database_url

    check_server(engine_for(existing_database_url()))
    return asyncio.run(work())


def fail(reason: str) -> NoReturn:
    raise click.ClickException(reason)
