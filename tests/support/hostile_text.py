"""Text that attacks whoever prints it, and whether what was printed is harmless."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

ATTACK = (
    "\x1b]52;c;cm0gLXJmIH4=\x07"  # writes the clipboard
    "\x1b[2J\x1b[1;1H"  # clears the screen
    "\x9b31m\x85"  # the same in C1
    "\u202e\u2066\u200f"  # turns the direction of what follows
    "\u200b\u2060\ufeff\U000e0041"  # is not seen
    "\u2028\u2029\x7f\x08\r"
)
"""Of everything that a terminal obeys, or does not show, something."""

OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")

TEXTS = st.text(st.characters() | st.sampled_from(ATTACK + "\ud800\t\n'\"\\-")) | st.text().map(
    lambda text: ATTACK + text
)
"""Text of all categories of Unicode, lone surrogates too, and many of those that are obeyed."""


def obeyed(printed: str) -> list[str]:
    """What a terminal would obey of what was printed; a line's end is allowed."""
    return [c for c in printed if c != "\n" and unicodedata.category(c) in OBEYED]
