"""Lays a call's arguments, and what was said before it, out for a person to read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from timestep.operations.overview.questions import Asking, Document, Said
from timestep.web.pages.filters import json_text

_LONGEST = 2000
"""Characters of a value that are shown."""
_LONGEST_SAID = 700
"""Characters of what was said before."""
_INPUTS = 3
"""Items of a run's input that are shown, its last."""
_LONGEST_NAME = 200
_MOST = 40
"""Values of one call."""
_PAGE = 400_000
"""Characters of all calls of a page: where these are many, there is less of each."""


@dataclass(frozen=True)
class Part:
    """A value of a call, or a part of a message."""

    name: str | None
    """Of an argument; None: it is the whole."""
    text: str
    is_json: bool
    is_cut: bool


@dataclass(frozen=True)
class Message:
    """What was said before a question."""

    who: str
    what: str
    text: str
    is_cut: bool


def on_page(calls: int) -> Callable[..., list[Part]]:
    """How the arguments of each call are laid out on a page of so many calls."""
    return functools.partial(arguments, most=_PAGE // max(calls, 1))


def arguments(document: Document | None, order: Any = None, *, most: int = _PAGE) -> list[Part]:
    """A call's arguments, each by its name; where they cannot be told apart, their text.

    Args:
        document: The arguments.
        order: Names that come first, in their order: the database keeps none.
        most: Characters of them, about; what is left out is told.
    """
    if document is None:
        return []
    longest = min(_LONGEST, most)
    try:
        value = document.value()
        if not isinstance(value, dict):
            return [_part(None, value, longest)]
        parts: list[Part] = []
        for name in ordered(value, order)[:_MOST]:
            if most <= 0:
                break
            parts.append(_part(name, value[name], min(longest, most)))
            most -= len(parts[-1].text) + min(len(name), _LONGEST_NAME)
    except ValueError:
        return [_text(None, document.text, longest, is_json=True, is_cut=document.is_cut)]
    if len(value) > len(parts):
        parts.append(Part(None, f"and {len(value) - len(parts)} more", False, True))
    return parts


def no_object(document: Document | None) -> list[Part]:
    """Arguments that are no object, which neither fields nor a table by their names show."""
    found = arguments(document)
    return found if len(found) == 1 and found[0].name is None else []


def ordered(names: Iterable[str], order: Any) -> list[str]:
    """Names, of which those that are in a list come first, in its order, if it is one."""
    known = list(names)
    listed = order if isinstance(order, list) else []
    first = [name for name in listed if isinstance(name, str) and name in known]
    return list(dict.fromkeys([*first, *known]))


def _part(name: str | None, value: Any, longest: int) -> Part:
    if isinstance(value, str):
        return _text(name, value, longest, is_json=False)
    return _text(name, json_text(value), longest, is_json=True)


def _text(
    name: str | None, text: str, longest: int, *, is_json: bool, is_cut: bool = False
) -> Part:
    if name is not None and len(name) > _LONGEST_NAME:
        name, is_cut = f"{name[:_LONGEST_NAME]}…", True
    return Part(name, text[:longest], is_json, is_cut or len(text) > longest)


def messages(run: Asking) -> list[Message]:
    """What led to the questions of a run: what it was given, and its last items before them."""
    try:
        given = run.input.value()
    except ValueError:
        begin = [_message("the run", "was given", run.input.text, is_cut=run.input.is_cut)]
    else:
        items = given if isinstance(given, list) else [{"role": "user", "content": given}]
        begin = [_of_item(item, "the agent", "item") for item in items[-_INPUTS:]]
        if len(items) > _INPUTS:
            begin.insert(0, Message("before", f"{len(items) - _INPUTS} items", "", True))
    return [*begin, *map(_said, run.before)]


def _said(said: Said) -> Message:
    agent = said.agent_name or "the agent"
    try:
        return _of_item(said.item.value(), agent, said.item_type)
    except ValueError:
        return _message(agent, said.item_type, said.item.text, is_cut=said.item.is_cut)


def _of_item(item: Any, agent: str, item_type: str) -> Message:
    """An item of a run as one reads it: who said, asked for or gave what."""
    if not isinstance(item, dict):
        return _message(agent, item_type, json_text(item))
    kind = item.get("type", "message")
    if "role" in item or kind == "message":
        role = item.get("role", "assistant")
        who = agent if role == "assistant" else str(role)
        return _message(who, "said", "\n".join(_texts(item.get("content"))))
    if "arguments" in item and "name" in item:
        return _message(agent, f"called {item['name']}", str(item["arguments"]))
    if "output" in item:
        output = item["output"]
        return _message("a tool", "gave", output if isinstance(output, str) else json_text(output))
    if kind == "reasoning":
        return _message(agent, "thought", "\n".join(_texts(item.get("summary"))))
    return _message(agent, str(kind).replace("_", " "), json_text(item))


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        text = part.get("text", part.get("refusal")) if isinstance(part, dict) else None
        yield text if isinstance(text, str) else json_text(part)


def _message(who: str, what: str, text: str, *, is_cut: bool = False) -> Message:
    return Message(who, what, text[:_LONGEST_SAID], is_cut or len(text) > _LONGEST_SAID)
