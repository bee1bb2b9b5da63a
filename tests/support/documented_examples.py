"""The fenced examples of all documents, as they are printed."""

from __future__ import annotations

import functools
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCUMENTS", "ROOT", "Example", "all_examples", "examples", "fences"]

ROOT = Path(__file__).parents[2]

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "timestep" / "js" / "README.md",
]

_EXAMPLE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Example:
    """A fenced block."""

    page: str
    """The document, as the repository names it."""

    language: str
    """What its first fence says; empty where that says nothing."""

    text: str


@functools.cache
def all_examples() -> tuple[Example, ...]:
    """Every fenced block of every document."""
    return tuple(
        Example(str(page.relative_to(ROOT)), language.strip(), textwrap.dedent(text))
        for page in DOCUMENTS
        for _, language, text in _EXAMPLE.findall(page.read_text())
    )


def examples(page: str, language: str) -> list[str]:
    """The texts of a page's examples in a language, in their order."""
    return [one.text for one in all_examples() if (one.page, one.language) == (page, language)]


def fences() -> int:
    """How many lines of the documents begin or end a block, however they are written."""
    return sum(
        len(re.findall(r"^[ >]*(?:```|~~~)", page.read_text(), re.MULTILINE)) for page in DOCUMENTS
    )
