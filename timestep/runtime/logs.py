"""Makes the logger that all of Timestep writes to: each of its records is fit for a terminal."""

from __future__ import annotations

import logging
import textwrap
import time
from typing import Any

from timestep.runtime.terminal import printable, printable_lines

_NAME = "timestep"

_formatter = logging.Formatter()

LINES = {"has_lines": True}
"""The `extra` of a record whose message has lines of its own, such as a traceback."""


def logger() -> logging.Logger:
    """Timestep's logger, whose handlers are the application's own."""
    found = logging.getLogger(_NAME)
    found.addFilter(_made_fit)
    return found


class Lines(logging.Formatter):
    """Makes a line of a record: its time in UTC (RFC 3339), level, logger and message."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")


def begin(level: str) -> None:
    """Write the log of a host to standard error, until `end`.

    Not where the application has given the root logger handlers: it writes its log by itself.

    Args:
        level: From which on Timestep's own records are written, such as `info`.
    """
    logger().setLevel(level.upper())
    if not logging.root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(Lines())
        logging.root.addHandler(handler)


def end() -> None:
    """Let the application, or nobody, decide again what is written."""
    logger().setLevel(logging.NOTSET)
    for handler in list(logging.root.handlers):
        if type(handler.formatter) is Lines:
            logging.root.removeHandler(handler)


def make_others_fit() -> None:
    """Let what libraries log be fit for a terminal, too, in a process that is Timestep's own.

    Where the records are made: a filter of a logger does not see those of the loggers below it.
    """
    if logging.getLogRecordFactory() is not _fit_record:
        logging.setLogRecordFactory(_fit_record)


def _fit_record(name: str, *args: Any, **options: Any) -> logging.LogRecord:
    record = logging.LogRecord(name, *args, **options)
    if name != _NAME:  # Its own records say more, once they are made.
        _made_fit(record)
    return record


def _made_fit(record: logging.LogRecord) -> bool:
    """Escape what a terminal would obey, and set in each line of a record but the first.

    So nothing in a record looks like another record. One that is fit stays as it was made.
    """
    try:
        message = record.getMessage()
    except (TypeError, ValueError):  # a library's mistake: logging tells of it
        return True
    if getattr(record, "has_lines", False):
        shown = printable_lines(message).replace("\n", "\n  ")
    else:
        shown = printable(message)
    if shown != message:
        record.msg, record.args = shown, ()
    if record.exc_info and record.exc_info[0] is not None:
        text = record.exc_text or _formatter.formatException(record.exc_info)
        record.exc_text = textwrap.indent(printable_lines(text), "  ")
    return True
