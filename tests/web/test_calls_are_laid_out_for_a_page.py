"""The arguments of a call: however many, long or deep, a page has so much of them, and says so."""

from __future__ import annotations

import json
from typing import Any

from timestep.operations.overview.questions import Document
from timestep.runtime import terminal
from timestep.web.pages.approvals.laid_out import Part, arguments, no_object, on_page
from timestep.web.pages.filters import commands


def document(value: Any) -> Document:
    text = json.dumps(value)
    return Document(text, len(text))


def size(parts: list[Part]) -> int:
    return sum(len(part.text) + len(part.name or "") for part in parts)


def test_what_is_left_out_is_told() -> None:
    wide = document({f"k{number}": "x" * 480 for number in range(40)})
    assert arguments(wide) == [Part(f"k{number}", "x" * 480, False, False) for number in range(40)]
    assert on_page(20)(wide) == arguments(wide)
    few = on_page(400)(wide)
    assert few[:2] == arguments(wide)[:2]
    assert few[-2].is_cut
    assert few[-1].text.startswith("and 37 more: k3, k4, k5, ")
    assert size(few) < 1600
    assert size(on_page(10_000)(document({"n" * 10_000: "x" * 10_000, "b": 1}))) < 300
    assert on_page(400)(document("x" * 5000)) == [Part(None, "x" * 1000, False, True, 5002)]


def test_what_is_no_object_is_known() -> None:
    assert no_object(document({"a": 1})) == no_object(document({})) == no_object(None) == []
    assert no_object(document([1, 2])) == [Part(None, "[\n  1,\n  2\n]", True, False)]
    assert no_object(document("drop")) == [Part(None, "drop", False, False)]


def test_commands_in_a_text_are_found_whatever_they_are_about() -> None:
    for odd in ("w", "it's `odd`", "-`", "\u202e`'", '"`"'):
        command = terminal.command("resume", odd, "--from-checkpoint")
        text = f"no host: try `{command}`, or end it with `timestep cancel w`, or a `tick`"
        assert commands(text) == [
            (False, "no host: try "),
            (True, command),
            (False, ", or end it with "),
            (True, "timestep cancel w"),
            (False, ", or a `tick`"),
        ]
