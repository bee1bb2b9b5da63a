"""Makes text fit for a terminal and for a log, and words fit for a shell.

What models, tools, providers and callers say may hold characters that a terminal obeys: escape
sequences move its cursor and write its clipboard, bidirectional ones let a line read as another
one, others are not seen at all. Whatever Timestep prints or logs comes through here.
"""

from __future__ import annotations

import re
import shlex
import unicodedata

_UNFIT = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Categories of Unicode: control and format characters, lone surrogates, separators of lines."""
_HIDDEN = re.compile(
    "[\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u2065\\u3164\\ufe00-\\ufe0d\\uffa0"
    "\\ufff0-\\ufff8\\U000e0000-\\U000e0fff]"
    "|(?<![\\xa9\\xae\\u203c\\u2049\\u2100-\\u2bff\\u3030\\u303d\\u3297\\u3299\\U0001f000-\\U0001faff])"
    "[\\ufe0e\\ufe0f]"
)
"""What is of other categories and not seen either (Unicode's Default_Ignorable_Code_Point):
fillers, and variation selectors, but those that say of a symbol whether it is an emoji."""
_SHOWN = 80
"""Characters of a value that an error quotes."""
_TAB = 4
"""Columns from one stop of a tab to the next."""


def printable(text: str) -> str:
    """One line of text whose control and format characters are escaped, as `\\x1b` or `\\u202e`.

    So are others that nobody sees. A line's end is one of them, and is `\\n`.
    """
    seen = _HIDDEN.sub(lambda found: _escaped(found[0]), text)
    return seen if seen.isprintable() else "".join(map(_shown, seen))


def printable_lines(text: str) -> str:
    """What `printable` does for each line of a text; its lines stay lines, and tabs are spaces."""
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(printable(line.expandtabs(_TAB)) for line in lines)


def _shown(character: str) -> str:
    return _escaped(character) if unicodedata.category(character) in _UNFIT else character


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def shell_word(text: str) -> str:
    """A word that a shell gives to a command as `text`; it is fit to print, too.

    Where quotes alone do not make it fit it is `$'…'`, which bash, ksh and zsh know, and POSIX
    since 2024.
    """
    if printable(text) == text:
        return shlex.quote(text)
    return "$'" + "".join(map(_quoted, text)) + "'"


def _quoted(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    if printable(character) == character:
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode(errors="surrogatepass"))


def command(name: str, workflow_id: str, *options: str) -> str:
    """The line for a shell that runs a command of `timestep` on a workflow.

    Args:
        name: The command, such as `resume`.
        workflow_id: The workflow, whatever its id is.
        options: Of the command.
    """
    # What begins with a dash would be taken for an option.
    is_option = workflow_id.startswith("-")
    words = (*options, "--", workflow_id) if is_option else (workflow_id, *options)
    return " ".join(("timestep", name, *map(shell_word, words)))


def quoted(value: object) -> str:
    """A value as an error quotes it: in ASCII where it is odd, and cut."""
    if isinstance(value, str):
        value = value[: _SHOWN + 1]
    elif isinstance(value, int) and value.bit_length() > 4 * _SHOWN:
        return f"of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def where_they_differ(left: str, right: str) -> tuple[str, str]:
    """Two texts as an error quotes them: a little before they differ, and what follows there."""
    pairs = zip(left, right, strict=False)
    shorter = min(len(left), len(right))
    same = next((at for at, (one, other) in enumerate(pairs) if one != other), shorter)
    begin = max(0, same - _SHOWN // 4)
    before = "..." if begin else ""
    shown = (quoted(before + text[begin:]) for text in (left, right))
    return next(shown), next(shown)
