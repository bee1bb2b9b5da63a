"""Groups the commands: errors in one line, the exit status, and --json."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NoReturn, TypeVar

import click
from dbos import error as dbos_errors

from timestep.database.engines import check_server, engine_for, existing_database_url
from timestep.errors import InvalidInputError, InvalidQueryError, TimestepError
from timestep.operations.access.acting import Actor, acting, user
from timestep.runtime import garbage_collection, logs
from timestep.runtime.terminal import printable, printable_lines

T = TypeVar("T")


class _Group(click.Group):
    """Commands whose errors are one line on standard error, and exit status 1."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # At the end of the process, too, which else takes a quarter of a short command's time.
        garbage_collection.keep_all()
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
        logging.getLogger("dbos").setLevel(logging.ERROR)
        logs.make_others_fit()
        with _errors_in_one_line(), acting(Actor(user(), "cli")):
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
    except (TimestepError, dbos_errors.DBOSException) as error:
        raise click.ClickException(_one_line(str(error))) from error
    except click.UsageError as error:
        if _is_fit(text := error.format_message()):
            raise
        raise click.UsageError(_one_line(text), error.ctx) from error
    except click.ClickException as error:
        if _is_fit(text := error.format_message()):
            raise
        raise click.ClickException(_one_line(text)) from error


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


as_json = click.option("--json", "as_json", is_flag=True, help="JSON alone on standard output.")


def run_async(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await `work`. A database that is away, or was not made, is an error at once."""
    check_server(engine_for(existing_database_url()))
    return asyncio.run(work())


def fail(reason: str) -> NoReturn:
    raise click.ClickException(reason)
