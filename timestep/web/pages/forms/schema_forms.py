"""Makes the fields of a form of a JSON schema, and reads what was typed into them.

A field is of the kind that its schema says: text, a number, a choice; whatever is none of these is
JSON in a text area. So is a value that its kind cannot show exactly, such as text with characters
that are not seen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from timestep.runtime.terminal import printable
from timestep.serialization.json_input import loads
from timestep.web.pages.filters import as_field, json_text
from timestep.web.pages.forms.properties import (
    REST,
    Kind,
    Meaning,
    Property,
    properties,
    takes_more,
    takes_nothing,
)
from timestep.web.pages.forms.shapes import shape

_MEANINGS: dict[Meaning, str] = {
    "left_out": "left out",
    "null": "null",
    "text": "empty text",
}
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,1000}", re.ASCII)


@dataclass(frozen=True)
class Option:
    """One of the values of a choice."""

    value: str
    """As JSON; empty: it is left out."""
    label: str


@dataclass(frozen=True)
class Field:
    """A field as a page shows it."""

    name: str
    """The property's name; `REST`."""
    kind: Kind
    text: str
    """What is in it."""
    is_required: bool
    help: str
    placeholder: str = ""
    options: list[Option] = field(default_factory=list)
    meanings: list[tuple[Meaning, str]] = field(default_factory=list)
    """What it may mean that nothing is typed, where that may be several things."""
    meaning: Meaning = "left_out"
    problems: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Its name in the form; it says, too, how what is typed is to be read."""
        return _key("json" if self.kind == "json" else "value", self.name)

    @property
    def meaning_key(self) -> str:
        """The name in the form of what it means that nothing is typed."""
        return _key("empty", self.name)


def _key(kind: Literal["json", "value", "empty"], name: str) -> str:
    return f"{kind}.{as_field(name)}"


def fields(
    schema: Any,
    values: Mapping[str, Any],
    *,
    typed: Mapping[str, str] | None = None,
    problems: Mapping[str, list[str]] | None = None,
) -> list[Field]:
    """The fields of a form.

    Args:
        schema: Of an object.
        values: What is in them.
        typed: What a form was sent with that is shown once more, in place of the values.
        problems: What is wrong with it, by the names of properties.
    """
    told = problems or {}
    found = list(properties(schema))
    made = [_field(one, _help(one, schema), values, typed, told.get(one.name, [])) for one in found]
    rest = {name: values[name] for name in values if name not in {one.name for one in found}}
    if rest or takes_more(schema) or not (found or takes_nothing(schema)):
        text = json_text(rest) if rest else ""
        if typed is not None:
            text = typed.get(_key("json", REST), "")
        label = "Further values, as a JSON object." if found else "A JSON object."
        made.append(Field(REST, "json", text, False, label, "{}", problems=told.get(REST, [])))
    return made


def read(
    schema: Any, form: Mapping[str, str], before: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What was typed into the fields of a schema, and what of it cannot be read.

    Args:
        schema: That of which `fields` made them.
        form: The fields that were sent.
        before: What was in them: where the text is the same, the value is exactly that.

    Returns:
        The values, and what is wrong with each that is not among them.
    """
    values: dict[str, Any] = {}
    problems: dict[str, list[str]] = {}
    for one in properties(schema):
        try:
            value = _read(one, form, before.get(one.name, _LEFT_OUT))
        except ValueError as error:
            problems[one.name] = [str(error)]
            continue
        if value is not _LEFT_OUT:
            values[one.name] = value
    text = form.get(_key("json", REST), "").strip()
    if text:
        try:
            rest = _loaded(text)
            if not isinstance(rest, dict):
                raise ValueError("This is no JSON object: write {…}.")
            for name in rest.keys() & values.keys():
                raise ValueError(f"{name!r} has a field of its own.")
            values.update(rest)
        except ValueError as error:
            problems[REST] = [str(error)]
    return values, problems


def by_field(found: list[dict[str, str]], *, below: int = 0) -> dict[str, list[str]]:
    """What an error says of each field, by the names of properties.

    Args:
        found: Its `fields`, with JSON pointers.
        below: How many parts the pointers have before the name.
    """
    told: dict[str, list[str]] = {}
    for one in found:
        parts = [
            part.replace("~1", "/").replace("~0", "~") for part in one["pointer"].split("/")[1:]
        ][below:]
        place = ".".join(parts[1:])
        detail = f"{place}: {one['detail']}" if place else one["detail"]
        told.setdefault(parts[0] if parts else REST, []).append(detail)
    return told


_LEFT_OUT: Any = object()


def _field(
    one: Property,
    help_: str,
    values: Mapping[str, Any],
    typed: Mapping[str, str] | None,
    problems: list[str],
) -> Field:
    # What has to be there and is not, as a model may leave out what a tool has a default for.
    otherwise = one.schema.get("default", _LEFT_OUT) if one.is_required else _LEFT_OUT
    value = values.get(one.name, otherwise)
    kind, text = _shown(one, value)
    meanings = one.meanings
    meaning: Meaning = "left_out"
    if value is None:
        meaning = "null"
    elif value == "":
        meaning = "text"
    if typed is not None:
        if _key("json", one.name) in typed:
            kind = "json"
        text = typed.get(_key("json" if kind == "json" else "value", one.name), "")
        named = typed.get(_key("empty", one.name))
        meaning = next((known for known in meanings if known == named), meaning)
    return Field(
        name=one.name,
        kind=kind,
        text=text,
        is_required=one.is_required,
        help=help_,
        placeholder=_placeholder(one),
        options=_options(one) if kind == "choice" else [],
        meanings=[(known, _MEANINGS[known]) for known in meanings] if len(meanings) > 1 else [],
        meaning=meaning if meaning in meanings or not meanings else meanings[0],
        problems=problems,
    )


def _shown(one: Property, value: Any) -> tuple[Kind, str]:
    """As what a value is shown in its field, and how."""
    if value is _LEFT_OUT:
        return one.kind, ""
    if one.kind == "choice" and any(_is_same(value, choice) for choice in _choices(one)):
        return "choice", _option(value)
    if one.kind in ("text", "number") and value is None and one.is_nullable:
        return one.kind, ""
    is_empty = value == "" and one.is_filled
    if one.kind == "text" and isinstance(value, str) and _is_fit(value) and not is_empty:
        return "text", value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if one.kind == "number" and is_number:
        return "number", json_text(value)
    return "json", json_text(value)


def _is_fit(text: str) -> bool:
    """Whether a text area shows exactly what a text is, and gives it back."""
    one_line = text.replace("\n", "").replace("\t", "")
    return printable(one_line) == one_line


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _choices(one: Property) -> list[Any]:
    is_added = one.is_nullable and None not in one.choices
    return [*one.choices, *([None] if is_added else [])]


def _option(value: Any) -> str:
    return json.dumps(value)


def _options(one: Property) -> list[Option]:
    made = [
        Option(_option(value), value if isinstance(value, str) else json_text(value))
        for value in _choices(one)
    ]
    # What was chosen has to be seen: no value is the first one by itself.
    return [Option("", "choose" if one.is_required else _default(one) or "left out"), *made]


def _placeholder(one: Property) -> str:
    """What it means that nothing is typed, where that may be."""
    if one.meanings == ["null"]:
        return "null"
    return _default(one) or ("" if one.is_required else "left out")


def _default(one: Property) -> str:
    if "default" not in one.schema or one.is_required:
        return ""
    value = one.schema["default"]
    shown = value if isinstance(value, str) and value else json_text(value)
    return f"left out ({shown[:100]})"


_BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"),
    ("multipleOf", "a multiple of {}"),
    ("minItems", "at least {} in it"),
    ("maxItems", "at most {} in it"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("pattern", "like {}"),
    ("format", "a {}"),
)


def _help(one: Property, root: Mapping[str, Any]) -> str:
    """What a person is told of a field, in a line."""
    kinds = {"integer": "whole number", "number": "number"}
    parts = [kinds[one.type]] if one.type in kinds else []
    if one.kind == "json":
        parts.append(f"JSON: {shape(root, root['properties'][one.name])}")
    for name, told in _BOUNDS:
        bound = one.schema.get(name)
        if (name, bound) == ("minLength", 1) and not one.is_required:
            # Nothing typed is no text there.
            continue
        if isinstance(bound, str | int | float) and not isinstance(bound, bool):
            is_some = (name, bound) == ("minLength", 1)
            parts.append("not empty" if is_some else told.format(str(bound)[:100]))
    described = one.schema.get("description")
    if isinstance(described, str) and described.strip():
        parts.append(described.strip()[:500])
    return "; ".join(parts)


def _read(one: Property, form: Mapping[str, str], before: Any) -> Any:
    """What was typed for a property.

    Raises:
        ValueError: It cannot be read; the message is for who typed it.
    """
    as_json = form.get(_key("json", one.name))
    if as_json is not None or one.kind == "json":
        return _read_json(one, as_json or "", before)
    typed = form.get(_key("value", one.name), "")
    if one.kind == "choice":
        chosen = [value for value in _choices(one) if _option(value) == typed]
        if not chosen:
            return _nothing(one, form)
        return chosen[0]
    if one.kind == "text":
        text = typed.replace("\r\n", "\n")
        return text or _nothing(one, form)
    number = typed.strip()
    if not number:
        return _nothing(one, form)
    if number == _shown(one, before)[1]:
        return before
    return _number(one, number)


def _number(one: Property, text: str) -> int | float:
    if _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    try:
        value = loads(text)
    except ValueError:
        value = None
    if not isinstance(value, float):
        what = "whole number, like 12" if one.type == "integer" else "number, like 12 or 0.5"
        raise ValueError(f"This is no {what}.")
    if one.type == "integer" and not value.is_integer():
        raise ValueError("This is no whole number, like 12.")
    return value


def _read_json(one: Property, typed: str, before: Any) -> Any:
    text = typed.replace("\r\n", "\n").strip()
    if not text:
        return _nothing(one, {})
    if before is not _LEFT_OUT and text == json_text(before):
        return before
    return _loaded(text)


def _loaded(text: str) -> Any:
    try:
        return loads(text)
    except ValueError as error:
        raise ValueError(f'This is no JSON: {error}. Text stands in quotes: "…".') from None


def _nothing(one: Property, form: Mapping[str, str]) -> Any:
    """What it means that nothing is typed.

    Raises:
        ValueError: Something has to be.
    """
    meanings = one.meanings
    named = form.get(_key("empty", one.name))
    meaning = named if named in meanings else next(iter(meanings), None)
    if meaning is None:
        raise ValueError("It is required.")
    values: dict[str, Any] = {"left_out": _LEFT_OUT, "null": None, "text": ""}
    return values[meaning]
