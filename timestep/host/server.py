"""Serves the HTTP API, and executes workflows, until the process is told to stop.

`DBOS` gives an application's version, unless `DBOS__APPVERSION` is set, as a hash of the
functions of its workflows, and not of what these call: a host recovers what its own version
began, so that no workflow goes on in a body that would take other steps. What an older version
left is counted at the start.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
from typing import NoReturn

import click

from timestep import config, versions
from timestep.config import Settings
from timestep.errors import ConfigurationError
from timestep.host.banner import greet
from timestep.host.connections import allow_files, server_of
from timestep.host.executor import Executor
from timestep.host.launch import launch, stop
from timestep.operations.access import tokens
from timestep.runtime import process_state
from timestep.runtime.terminal import printable
from timestep.sdk import patches
from timestep.web.app import create_app

_BACKLOG = 512


def serve() -> NoReturn:
    """Launch, and serve the HTTP API until SIGTERM or SIGINT; then end the process, status 0.

    Where another host was this executor meanwhile, the process begins anew once that has ended.

    Raises:
        ConfigurationError: A library or a setting cannot work, or the address is taken.
        EntrypointError, DatabaseError: As `launch` raises them.
    """
    patches.connect()
    for line in versions.others().values():
        click.echo(f"Warning: {printable(line)}", err=True)
    settings = config.read()
    settings.check_listen(tokens.are_there)
    allow_files(settings)
    listener = _listen(settings)
    launched = launch()
    app = create_app(settings, launched.entrypoints)
    server = server_of(app, settings, app.state.event_streams.close)
    app.state.connections = lambda: len(server.server_state.connections)
    received: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn stops the server at a signal, and then gives the signal on to this.
        signal.signal(number, lambda number, _: received.append(number))
    greet(launched, listener)
    executor = process_state.of(Executor)
    executor.when_free = lambda: setattr(server, "should_exit", True)
    server.run(sockets=[listener])
    if executor.is_free and not received:
        _begin_anew()
    received.clear()
    click.echo("Stopping: running steps may end, and the next start goes on from there.")
    stop(settings.grace, is_urgent=lambda: bool(received))
    _leave()


def _begin_anew() -> NoReturn:
    """Become a new process, with the same number, arguments and environment."""
    click.echo("Beginning anew: the other host with this one's executor id has ended.")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _leave() -> NoReturn:
    """End the process, even where a thread still runs what cannot be stopped."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _listen(settings: Settings) -> socket.socket:
    host = settings.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}, port {settings.port}: {error.strerror or error}: set "
            "TIMESTEP_HOST and TIMESTEP_PORT to an address that is free"
        ) from error
    return listener
