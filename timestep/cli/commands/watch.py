"""Shows what a run does as it happens: watch."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click
from rich.live import Live
from rich.text import Text

from timestep.cli import output
from timestep.cli.group import as_json, fail
from timestep.cli.reach import ask
from timestep.cli.timeline import Timeline
from timestep.database import not_now
from timestep.errors import (
    DatabaseError,
    DatabaseUnreachableError,
    HostUnreachableError,
    RemoteError,
    TimestepError,
)
from timestep.operations.queries.records import Run, RunEvent
from timestep.operations.queries.rows import status_of
from timestep.runtime.terminal import command

if TYPE_CHECKING:
    from timestep.cli.reach import Reached

_SILENCE = 5.0
"""Seconds without news after which somebody who watches is told why, if it is known."""
_REFRESH = 0.25
"""Seconds between two looks at what goes on, on a terminal."""
_PAUSE = 1.0
"""Seconds until a database is asked again that is away."""
_AWAY = (502, 503, 504)
"""What a busy host answers, and a proxy whose host is away."""
_AHEAD = 1000
"""Events that are read before they are shown."""


@click.command()
@click.argument("run")
@as_json
def watch(run: str, as_json: bool) -> None:
    """Show what a run does as it happens, until it is over.

    Of a workflow, what all its runs do. Goes on while hosts come and go. Exit status 0: it
    completed.
    """
    again = command("watch", run)
    found = ask(
        lambda host: _watch(host, run, as_json=as_json),
        left=f"no longer watched, and not stopped: `{again}` shows it again",
    )
    status = _status(found, run)
    if as_json:
        output.document({"kind": "end", "status": status})
    if status != "completed":
        error = found.error or (found.workflow.error if found.workflow is not None else None)
        why = f": {error.type}: {error.message}" if error is not None else ""
        fail(f"{run} {'failed' if status == 'failed' else f'is {status}'}{why}")


def _status(found: Run, asked: str) -> str:
    """How what was watched ended: a run, or the whole workflow."""
    if found.id == asked or found.workflow is None:
        return found.status
    return status_of(found.workflow.status) or found.workflow.status


async def _watch(host: Reached, asked: str, *, as_json: bool) -> Run:
    """Show all events, and answer the run once it is over."""
    timeline, console = Timeline(), output.console()
    told: str | None = None
    with contextlib.ExitStack() as stack:
        live: Live | None = None
        if console.is_terminal and not as_json:
            live = stack.enter_context(Live(console=console, transient=True, auto_refresh=False))
        silence = 0.0
        async for event in _each(host, asked):
            if isinstance(event, Run):
                return event
            if event is not None:
                silence = 0.0
                if event.kind in ("item", "model"):
                    told = None
                if as_json:
                    output.document(event)
                for entry in () if as_json else timeline.entries(event):
                    console.print(entry, soft_wrap=True)
            elif (silence := silence + _REFRESH) >= _SILENCE:
                silence = 0.0
                told = await _tell_obstacle(host, asked, told, live)
            if live is not None:
                moment = datetime.datetime.now(datetime.UTC)
                now = (
                    timeline.now(moment) if told is None else Text("nobody goes on with it", "dim")
                )
                live.update(now, refresh=True)
    raise AssertionError("the run is the last that is read")


async def _each(host: Reached, asked: str) -> AsyncIterator[RunEvent | Run | None]:
    """Events as they come, None now and then while none does; and the run, once it is over."""
    read: asyncio.Queue[RunEvent | Run] = asyncio.Queue(_AHEAD)
    reading = asyncio.create_task(_read(host, asked, read))
    coming = asyncio.create_task(read.get())
    try:
        while True:
            await asyncio.wait(
                {coming, reading}, timeout=_REFRESH, return_when=asyncio.FIRST_COMPLETED
            )
            if not coming.done():
                if reading.done():
                    reading.result()
                yield None
                continue
            event = coming.result()
            yield event
            if isinstance(event, Run):
                return
            coming = asyncio.create_task(read.get())
    finally:
        reading.cancel()
        coming.cancel()


async def _tell_obstacle(
    host: Reached, asked: str, told: str | None, live: Live | None
) -> str | None:
    """Tell why nobody goes on with a run, once, and when somebody does; answer what holds now."""
    with contextlib.suppress(DatabaseError, HostUnreachableError, RemoteError):
        found = await host.get_run(asked)
        obstacle = found.obstacle if found.is_stuck else None
        if obstacle != told:
            line = f"{asked}: {obstacle or 'a host goes on with it'}"
            if live is None:
                output.tell(line)
            else:
                # Above the line that is drawn again, which standard error would go on.
                live.console.print(output.line_of(line, style="yellow"), soft_wrap=True)
        return obstacle
    return told


async def _read(host: Reached, asked: str, read: asyncio.Queue[RunEvent | Run]) -> None:
    """Read all events, then the run; a database or a host that is away meanwhile is waited for."""
    cursor: str | None = None
    is_away = False
    while True:
        try:
            async for event in host.events(asked, after=cursor, patience=0.0):
                is_away = False
                await read.put(event)
                cursor = event.cursor
            await read.put(await host.get_run(asked))
            return
        except (DatabaseError, HostUnreachableError, RemoteError) as error:
            if not _is_passing(error):
                raise
            if not is_away:
                output.tell(f"waits: {error}")
            is_away = True
            await asyncio.sleep(_PAUSE)


def _is_passing(error: TimestepError) -> bool:
    """Whether what is away comes back by itself."""
    if isinstance(error, RemoteError):
        return error.status in _AWAY
    is_away = isinstance(error, DatabaseUnreachableError | HostUnreachableError)
    return is_away or not_now.answer(error) is not None
