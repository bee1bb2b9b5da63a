"""A document is laid out as lines that fold, however deep and however large it is."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from tests.support.hostile_documents import JSON
from timestep.serialization.documents.outline import DEEPEST, LONGEST, MOST, Part, outline


def laid_out(value: Any) -> list[Part]:
    return list(outline(value))


def test_a_document_is_laid_out_in_its_order() -> None:
    assert laid_out({"a": {"b": ["x", {"c": 1}]}, "d": [1, 2], "e": "one\ntwo", "f": {}}) == [
        Part("open", None, "4 members"),
        Part("open", "a", "1 member"),
        Part("open", "b", "2 items"),
        Part("leaf", "0", "x", is_text=True),
        Part("leaf", "1", '{"c": 1}'),
        Part("close"),
        Part("close"),
        Part("leaf", "d", "[1, 2]"),
        Part("leaf", "e", "one\ntwo", is_text=True),
        Part("leaf", "f", "{}"),
        Part("close"),
    ]
    assert laid_out("text") == [Part("leaf", None, "text", is_text=True)]


def test_what_is_too_much_is_told() -> None:
    deep: Any = []
    for _ in range(5_000):
        deep = [deep]
    parts = laid_out(deep)
    assert len(parts) == 2 * DEEPEST + 1
    assert parts[DEEPEST].text == "(1 item, nested too deeply to be shown)"
    many = laid_out([[n, [n]] for n in range(10 * MOST)])
    assert sum(part.kind != "close" for part in many) == MOST
    assert [part for part in many if part.kind != "close"][-1] == Part("leaf", "…", "and more")
    (text,) = laid_out("x" * 5_000_000)
    assert len(text.text) < LONGEST + 100
    assert "5,000,000 characters" in text.text


@given(JSON)
def test_what_opens_closes(value: Any) -> None:
    depth = 0
    for part in outline(value):
        depth += {"open": 1, "close": -1, "leaf": 0}[part.kind]
        assert 0 <= depth <= DEEPEST
    assert depth == 0
