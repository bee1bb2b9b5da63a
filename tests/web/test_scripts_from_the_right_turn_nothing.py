"""Letters of scripts that are written from right to left turn nothing beside them in a page."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timestep.web.pages.filters import apart, sentence

SHALOM, OLAM = "\u05e9\u05dc\u05d5\u05dd", "\u05e2\u05d5\u05dc\u05dd"


def test_each_string_of_json_is_by_itself() -> None:
    shown = str(apart(f'{{"to": "{SHALOM}", "\\"n<": "{OLAM}", "cents": 5}}'))
    assert shown == (
        f"{{<bdi>&#34;to&#34;</bdi>: <bdi>&#34;{SHALOM}&#34;</bdi>, "
        f"<bdi>&#34;\\&#34;n&lt;&#34;</bdi>: <bdi>&#34;{OLAM}&#34;</bdi>, "
        "<bdi>&#34;cents&#34;</bdi>: 5}"
    )
    # What is cut in a string, and what is no JSON, says the same.
    assert str(apart(f'["{SHALOM} \u2026')) == f"[<bdi>&#34;{SHALOM} \u2026</bdi>"
    assert str(apart({"a": 1})) == "{<bdi>&#34;a&#34;</bdi>: 1}"


@given(st.text(st.sampled_from('"\\,: a<&\u05e9\u202e\n'), max_size=40))
def test_it_changes_no_character(text: str) -> None:
    shown = str(apart(text))
    assert set(re.findall("<[^>]*>", shown)) <= {"<bdi>", "</bdi>"}
    assert html.unescape(re.sub("</?bdi>", "", shown)) == text.replace("\u202e", "\\u202e")


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        ("Send 5 to Ann", {"to": "Ann"}, "Send 5 to Ann"),
        (f"Send {SHALOM} 500 <", {"to": SHALOM}, f"Send <bdi>{SHALOM}</bdi> 500 &lt;"),
        (f"{SHALOM}, {OLAM}", {"a": SHALOM, "b": OLAM}, f"<bdi>{SHALOM}</bdi>, <bdi>{OLAM}</bdi>"),
        # A longer one is not taken apart by one that is part of it.
        (
            f"{SHALOM} {OLAM}: 3",
            {"a": OLAM, "b": f"{SHALOM} {OLAM}"},
            f"<bdi>{SHALOM} {OLAM}</bdi>: 3",
        ),
        # Neither one that is no text, nor one that the sentence cuts.
        (f'["{OLAM}"] 4', {"a": [OLAM]}, f"<bdi>[&#34;{OLAM}&#34;]</bdi> 4"),
        (
            f"{OLAM * 24}{OLAM[:3]}\u2026 4",
            {"a": OLAM * 30},
            f"<bdi>{OLAM * 24}{OLAM[:3]}\u2026</bdi> 4",
        ),
        (f"Say {OLAM} 4", f"{OLAM}", f"Say <bdi>{OLAM}</bdi> 4"),
        (f"Say {OLAM} 4", None, f"Say {OLAM} 4"),
    ],
)
def test_each_argument_in_a_sentence_is_by_itself(
    text: str, arguments: object, expected: str
) -> None:
    assert str(sentence(text, arguments)) == expected
