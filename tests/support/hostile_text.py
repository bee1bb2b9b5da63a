"""Text that attacks whoever prints it, and whether what was printed is harmless."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import strategies as st

ATTACK = (
    "\x1b]52;c;cm0gLXJmIH4=\x07"  # writes the clipboard
    "\x1b[2J\x1b[1;1H"  # clears the screen
    "\x9b31m\x85"  # the same in C1
    "\u202e\u2066\u200f"  # turns the direction of what follows
    "\u200b\u2060\ufeff\U000e0041"  # is not seen
    "\u034f\u115f\u1160\u17b4\u3164\uffa0\ufe00\ufe0f\U000e0100\U000e01f0"  # nor is this
    "\u2028\u2029\x7f\x08\r"
)
"""Of everything that a terminal obeys, or does not show, something."""

HIDDEN = "".join(
    chr(one)
    for first, last in (
        *((0x34F, 0x34F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065)),
        *((0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8)),
        (0xE0000, 0xE0FFF),
    )
    for one in range(first, last + 1)
)
"""What Unicode says is not shown (Default_Ignorable_Code_Point), besides the categories below."""

OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")

TEXTS = st.text(st.characters() | st.sampled_from(ATTACK + "\ud800\t\n'\"\\-")) | st.text().map(
    lambda text: ATTACK + text
)
"""Text of all categories of Unicode, lone surrogates too, and many of those that are obeyed."""


def obeyed(printed: str) -> list[str]:
    """What a terminal would obey, or not show, of what was printed; a line's end is allowed."""
    kept = _EMOJI.sub("", printed)
    return [c for c in kept if c != "\n" and (unicodedata.category(c) in OBEYED or c in _HIDDEN)]


_HIDDEN = frozenset(HIDDEN)
_EMOJI = re.compile(
    "(?<=[\xa9\xae\u203c\u2049\u2100-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff])[\ufe0e\ufe0f]"
)
