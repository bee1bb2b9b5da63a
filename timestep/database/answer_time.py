"""Gives up a connection whose server does not answer in time."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import cast

import psycopg
import sqlalchemy as sa


@contextlib.contextmanager
def answered_within(connection: sa.Connection, seconds: float) -> Iterator[None]:
    """Cut the connection if the statements inside take longer; the one under way fails.

    The server itself may be what hangs, or a proxy that says all is well: so it is not asked.

    Args:
        connection: Whose statements they are.
        seconds: Of all of them together.

    Raises:
        sqlalchemy.exc.OperationalError: The connection was cut, or lost otherwise.
    """
    driver = cast("psycopg.Connection[object]", connection.connection.driver_connection)
    # A descriptor of its own: the driver's may be another connection's by then.
    with socket.socket(fileno=os.dup(driver.fileno())) as copy:
        timer = threading.Timer(seconds, _cut, [copy])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _cut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)
