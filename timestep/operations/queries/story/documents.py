"""Holds a document of a run as far as it was read, however large or deep it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from timestep.serialization.documents.json_text import restored

_NOT_READ = object()
"""Stands for what is no value: the text was cut, or is nested too deeply."""


@dataclass(frozen=True)
class Document:
    """A document in JSON, or its beginning."""

    kind: str
    """What it is of its row, as `timeline.whole_document` names it."""
    id: str
    """Of its row."""
    text: str
    length: int
    """Of the whole, in characters."""

    @cached_property
    def _read(self) -> Any:
        if len(self.text) < self.length:
            return _NOT_READ
        try:
            return restored(json.loads(self.text))
        except (ValueError, RecursionError):
            return _NOT_READ

    @property
    def is_read(self) -> bool:
        """Whether `value` is what it says; False: there is only its text."""
        return self._read is not _NOT_READ

    @property
    def value(self) -> Any:
        """What it says; None where it is not read."""
        return self._read if self.is_read else None

    def get(self, name: str) -> Any:
        """A member of the object that it is; None: it is none, or has no such member."""
        return self._read.get(name) if isinstance(self._read, dict) else None


def document(row: dict[str, Any], column: str, kind: str | None = None) -> Document | None:
    """The document in a column of a row that `store.timeline.rows` read; None: it has none."""
    text = row.get(column)
    if text is None:
        return None
    return Document(kind or column, str(row["id"]), text, row[f"{column}_length"])


_TEXTS = ("text", "refusal", "content", "summary", "output")
"""Where items keep words, whoever said them."""
_MOST = 100
"""Parts of an item that are looked through."""


def words(found: Document) -> str | None:
    """The words of an item, wherever it keeps them; None: it has none, or is not read."""
    told, waiting = [], [found.value]
    for _ in range(_MOST):
        if not waiting:
            break
        part = waiting.pop()
        if isinstance(part, str):
            told.append(part)
        elif isinstance(part, list):
            waiting.extend(reversed(part))
        elif isinstance(part, dict):
            waiting.extend([part[name] for name in _TEXTS if part.get(name)][:1])
    return "\n".join(told) if told else None
