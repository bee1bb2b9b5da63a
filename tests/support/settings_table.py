"""Shows the settings as the documentation does: a table in Markdown."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args, get_type_hints

from timestep import config


def table() -> str:
    """The settings as the documentation shows them: a table in Markdown."""
    rows = ["| variable | value | default | meaning |", "| --- | --- | --- | --- |"]
    annotations = get_type_hints(config.Settings)
    for found in dataclasses.fields(config.Settings):
        told = config.told()[found.name]
        value = told.kind or _kind(annotations[found.name])
        if told.unit:
            value += f", {told.unit}"
        default = told.unset or f"`{_as_written(found.default)}`"
        variable = config.variable_of(found.name)
        rows.append(f"| `{variable}` | {value} | {default} | {told.sentence} |")
    return "\n".join(rows) + "\n"


_KINDS: dict[object, str] = {
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    Path: "path",
}


def _kind(annotation: Any) -> str:
    if annotation in _KINDS:
        return _KINDS[annotation]
    choices = get_args(get_args(annotation)[0])  # Of `Literal[...] | None`.
    return " or ".join(f"`{choice}`" for choice in choices)


def _as_written(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, Path):
        return f"./{default}"
    return f"{default:g}" if isinstance(default, float) else str(default)
