"""Prints records as CSV, for spreadsheets."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
from typing import Any

from timestep.cli import output
from timestep.runtime.terminal import printable
from timestep.serialization.json_output import dumps

_FORMULA = ("=", "+", "-", "@")
"""How a cell begins that a spreadsheet would compute: it gets a quote before it."""


class CsvLines:
    """Prints a line of names, and then a line for each record.

    Args:
        kind: The records' class, whose fields are the columns.
    """

    def __init__(self, kind: type[Any]) -> None:
        self._names = [spec.name for spec in dataclasses.fields(kind)]
        _print(self._names)

    def row(self, record: Any) -> None:
        """Print a record."""
        _print([_cell(getattr(record, name)) for name in self._names])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    text = value if isinstance(value, str) else dumps(value)
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _print(cells: list[str]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    output.say(line.getvalue())
